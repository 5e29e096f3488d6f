"""The documents of a leaf, read once; what cannot be read is a finding and missing from then on."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ArchiveError
from ..plain_files import read_json, read_text, read_yaml
from ..rules import Finding
from .documents import LeafDocuments, is_metadata, number
from .layout import Leaf
from .upstream_kvcache import RANK_FILE
from .walk import Tree

# Documents that a judgement needs, by the end of their name; others are parsed and let go.
_KEPT = (
    "summary.json",
    "per_epoch_stats.json",
    "statistics.json",
    "result_verdict.json",
    "fs_separation.json",
    "dlio_config/config.yaml",
    "dlio_config/overrides.yaml",
    "configs/config.yaml",
    "configs/overrides.yaml",
)
_POINTER = ".mlps-code-image"
_POINTER_LIMIT_BYTES = 4096
# Findings of one leaf about files that cannot be read.
_UNREADABLE_SHOWN = 10


def read_leaf(
    tree: Tree, leaf: Leaf, files: Mapping[str, int]
) -> tuple[LeafDocuments, list[Finding]]:
    """What the files of a leaf hold, and a finding for each that is no document."""
    documents: dict[str, object] = {}
    findings: list[Finding] = []
    unread = 0
    for name in sorted(files):
        if not name.endswith((".json", ".yaml", ".yml")) or not files[name]:
            continue
        path = f"{leaf.path}/{name}"
        try:
            file = tree.file(path)
            document = read_json(file) if name.endswith(".json") else read_yaml(file)
        except ArchiveError as error:
            unread += 1
            if unread <= _UNREADABLE_SHOWN:
                text = error.message.replace(f"{tree.file(path)} ", "", 1)
                findings.append(Finding(rule="TREE-17", severity="error", key=path, text=text))
            continue
        if RANK_FILE.fullmatch(name):
            documents[name] = slim(document)
        elif _is_kept(name):
            documents[name] = document
    if unread > _UNREADABLE_SHOWN:
        text = f"{unread - _UNREADABLE_SHOWN} more files cannot be read"
        findings.append(Finding(rule="TREE-17", severity="error", key=leaf.path, text=text))
    texts = _texts(tree, leaf, files, findings)
    return LeafDocuments(leaf=leaf, files=files, documents=documents, texts=texts), findings


def _is_kept(name: str) -> bool:
    if name.startswith("kvcache_run_summary_") or ("/" not in name and is_metadata(name)):
        return True
    if name.endswith("per_epoch_stats.json"):
        return name.rpartition("/")[2] in ("0_per_epoch_stats.json", "per_epoch_stats.json")
    return name.endswith(_KEPT)


def _texts(
    tree: Tree, leaf: Leaf, files: Mapping[str, int], findings: list[Finding]
) -> dict[str, str]:
    if _POINTER not in files:
        return {}
    path = f"{leaf.path}/{_POINTER}"
    try:
        return {_POINTER: read_text(tree.file(path), _POINTER_LIMIT_BYTES)}
    except ArchiveError as error:
        findings.append(Finding(rule="TREE-17", severity="error", key=path, text=error.message))
        return {}


def slim(document: object) -> object:
    """The result of a rank without its lists: hundreds of them are held at a time."""
    if not isinstance(document, dict):
        return document
    latencies = document.get("end_to_end_latencies")
    values = latencies if isinstance(latencies, list) else []
    if set(map(type, values)) <= {float, int}:
        # As a rule; thousands of ranks have thousands of values each.
        largest = number(max(values, default=None))
    else:
        known = [value for each in values if (value := number(each)) is not None]
        largest = max(known, default=None)
    kept = {key: value for key, value in document.items() if not isinstance(value, list)}
    return kept | {"end_to_end_latencies": [] if largest is None else [largest]}

"""Whether an archived job is the one that its files and overrides make: composed once more.

Only what the rules judge is compared: workload, division and edition. Hosts, launchers and
directories are those of a site, whose files a reviewer does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from .canonical import Document, sha256_hex
from .compose import Composition, compose, flatten, parse_overrides
from .errors import ConfigError
from .options import packaged_conf
from .plain_files import read_bytes
from .rules import Finding
from .spec import JobSpec

# Groups whose options decide what is measured, and by what.
JUDGED_GROUPS = ("benchmark", "division", "edition")
_JUDGED_KEYS = ("trials", "stages", "seed")
# Groups of the site, and keys that no judged value follows from.
_SITE = (
    "cluster",
    "launcher",
    "system",
    "data_dir",
    "results_dir",
    "monitor",
    "preflight",
    "lockfile",
)

SHOWN = 3


def judge_composition(
    spec: JobSpec, provenance: Document, conf_dirs: Sequence[Path]
) -> Iterator[Finding]:
    """EVD-02, once: the job, or where its values came from, is not what is composed anew.

    A job of files that are not at hand is remarked upon in the divisions that are scored.
    """
    scored = spec.division.name != "whatif"
    if "benchmark" not in provenance["choices"]:
        if scored:
            yield _finding("provenance.json does not tell of which files the job is made", None)
        return
    missing = _missing(provenance["choices"])
    if missing:
        if scored:
            text = f"{', '.join(missing)}: this version of mlps has another file, or none"
            yield _finding(text, "verify it with the mlps of its environment.json")
        return
    try:
        composed = _composed(tuple(_judged_words(provenance["overrides"])), tuple(conf_dirs))
    except ConfigError as error:
        own = any(not choice["packaged"] for choice in provenance["choices"].values())
        if scored and not own:
            yield _finding(f"its files and overrides make no job: {error.message}", None)
        return
    differing = [*_values(spec, composed), *_origins(provenance["values"], composed)]
    if differing:
        more = f", and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        yield _finding(f"{'; '.join(differing[:SHOWN])}{more}", None)


def _finding(text: str, hint: str | None) -> Finding:
    return Finding(rule="EVD-02", severity="error", key="job.json", text=text, hint=hint)


def _missing(choices: Mapping[str, Document]) -> list[str]:
    """Packaged files of the job that are not those of this version."""
    found = []
    for group in JUDGED_GROUPS:
        choice = choices.get(group)
        if choice is None or not choice["packaged"]:
            continue
        path = packaged_conf() / group / f"{choice['option']}.yaml"
        known = path.resolve().is_relative_to(packaged_conf().resolve()) and path.is_file()
        if not known or sha256_hex(read_bytes(path)) != choice["sha256"]:
            found.append(f"conf/{group}/{choice['option']}.yaml")
    return found


def _judged_words(overrides: Sequence[str]) -> Iterator[str]:
    for item in parse_overrides(overrides, multirun=False):
        if item.key_or_group.split(".")[0] not in _SITE:
            yield str(item.input_line)


@lru_cache(maxsize=64)
def _composed(words: tuple[str, ...], conf_dirs: tuple[Path, ...]) -> Composition:
    return compose(words, conf_dirs=conf_dirs, cwd=Path("/"))


def _is_judged(key: str) -> bool:
    return key.split(".")[0] in JUDGED_GROUPS or key in _JUDGED_KEYS


def _values(spec: JobSpec, composed: Composition) -> Iterator[str]:
    archived, anew = flatten(spec.document), flatten(composed.values)
    for key in dict.fromkeys((*archived, *anew)):
        if not _is_judged(key) or archived.get(key) == anew.get(key):
            continue
        if all(str(values.get(key)).startswith("/") for values in (archived, anew)):
            continue  # a path, which was relative to where the job was started
        yield f"{key} is {archived.get(key)!r}, its files and overrides make it {anew.get(key)!r}"


def _origins(values: Mapping[str, Document], composed: Composition) -> Iterator[str]:
    for key, origin in composed.origins.items():
        told = values.get(key, {}).get("from")
        if _is_judged(key) and told != origin.kind:
            yield f"{key} is said to come from {told}, it comes from {origin.kind}"

"""The phases of a training workload beside each other: order, dataset, hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..rules import Finding
from .documents import LeafDocuments, count_at, list_at, text_at
from .upstream_common import stamp_s
from .upstream_training import SUMMARY, settings


def judge_phases(leaves: Sequence[LeafDocuments]) -> Iterator[Finding]:
    """UPS-08, UPS-09: what was sized, made and run is one dataset, in this order, on one system."""
    sized = [leaf for leaf in leaves if leaf.leaf.phase == "datasize"]
    made = [leaf for leaf in leaves if leaf.leaf.phase == "datagen"]
    runs = [leaf for leaf in leaves if leaf.leaf.phase == "run"]
    for run in runs:
        files = count_at(run.named(SUMMARY), "num_files_train")
        if files is None:
            continue
        told = {files_of(leaf) for leaf in sized} - {None}
        if told and files not in told:
            yield run.finding(
                "UPS-09",
                "error",
                f"the run has {files:,} files, datasize found "
                f"{' and '.join(f'{each:,}' for each in sorted(filter(None, told)))}",
            )
        most = max(filter(None, (files_of(leaf) for leaf in made)), default=None)
        if most is not None and files > most:
            yield run.finding(
                "UPS-09", "error", f"the run has {files:,} files, datagen made {most:,}"
            )
    yield from _judge_order(sized, made, runs)
    yield from _judge_same_hosts(sized, runs)


def files_of(leaf: LeafDocuments) -> int | None:
    """Files of the training dataset, by the parameters."""
    return count_at(settings(leaf), "dataset.num_files_train")


def _judge_order(*phases: Sequence[LeafDocuments]) -> Iterator[Finding]:
    for before, after in ((phases[0], phases[1]), (phases[0], phases[2]), (phases[1], phases[2])):
        for leaf in before:
            moments = [
                (moment, each) for each in after if (moment := stamp_s(each.leaf)) is not None
            ]
            named = stamp_s(leaf.leaf)
            if named is None or not moments:
                continue
            first, earliest = min(moments, key=lambda pair: pair[0])
            if named > first:
                yield leaf.finding(
                    "UPS-08",
                    "warning",
                    f"{leaf.leaf.phase} is of {leaf.leaf.timestamp}, after the "
                    f"{earliest.leaf.phase} of {earliest.leaf.timestamp}",
                )


def _judge_same_hosts(
    sized: Sequence[LeafDocuments], runs: Sequence[LeafDocuments]
) -> Iterator[Finding]:
    ran = {text_at(run.named(SUMMARY), "hostname") for run in runs} | {
        name for run in runs for name in host_names(run)
    }
    for leaf in sized:
        names = host_names(leaf)
        if names and ran - {""} and not names & ran:
            yield leaf.finding(
                "UPS-08",
                "warning",
                f"datasize was made on {', '.join(sorted(names)[:4])}, which is none of the hosts "
                "of a run: its measured memory is not theirs",
            )


def host_names(leaf: LeafDocuments) -> set[str]:
    """Hosts that the metadata has facts of."""
    hosts = list_at(leaf.metadata, "system_info.hosts")
    return {name for host in hosts if (name := text_at(host, "hostname"))}

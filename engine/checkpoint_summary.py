"""The summary.json that DLIO would have written of a run of checkpointing, from an archive alone.

Times are rank 0's, as there, and throughput is the bytes of all ranks over them. A run without
writes has no `save_` values, one without reads no `load_` values. There is no dataset: what DLIO
says of one is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .canonical import Document
from .checkpoint_metrics import PHASES, done_of
from .dlio_summary import Data, checkpoint_metric, summary_of
from .host_documents import HostFacts
from .plan import Launch, Plan, ended_launches


def checkpoint_summaries(
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    hosts: HostFacts,
) -> Iterator[tuple[str, Document]]:
    """By name of its first measured launch: the document of each option and trial."""
    runs: dict[tuple[str | None, int | None], list[Launch]] = {}
    for launch in ended_launches(plan, outcomes, results):
        result = results[launch.name]
        if launch.measured and result["window"] is not None and done_of(result) is not None:
            runs.setdefault((launch.option, launch.trial), []).append(launch)
    for launches in runs.values():
        found = [results[launch.name] for launch in launches]
        yield launches[0].name, summary_of(found, _metric(found), hosts, data=Data(), epochs=0)


def _metric(results: Sequence[Document]) -> Document:
    metric: Document = {}
    for result in results:
        section = result["checkpointing"]
        timed = [
            (checkpoint["bytes"], checkpoint["rank0_s"])
            for checkpoint in section["checkpoints"]
            if checkpoint["rank0_s"]
        ]
        metric |= checkpoint_metric(PHASES[section["does"]], timed)
    return metric

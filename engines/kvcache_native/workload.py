"""What each rank does and how: the workload, the window, the layout, and how I/O is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..contract import Document
from ..errors import JobError
from ..io_core.blocks import BLOCK_BYTES
from ..io_core.executor import CoreChoice, Durability, Settings, Verify
from ..section import Section
from .layout import Kind
from .planning import RankPlan
from .plans import Planned, planned

# Slots are written over in any order by transfers of any size: their content is not placed.
_VERIFY: tuple[Verify, ...] = ("all", "sampled", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Io:
    """How the operations of a rank are carried out."""

    queue_depth: int
    direct: bool
    verify: Verify
    durability: Durability
    core: CoreChoice
    io_size_bytes: int
    rings: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One benchmark section. After `requests` of them a rank's run ends early, None for never."""

    planned: Planned
    io: Io
    layout: Kind
    ramp_s: float
    duration_s: float
    requests: int | None
    backlog_max: int
    precondition_passes: int

    def settings(
        self, plan: RankPlan, *, key: int, pool_seed: int, durability: Durability
    ) -> Settings:
        """How a plan's operations are carried out; `durability` may be less than the run's."""
        io = self.io
        return Settings(
            depth=io.queue_depth,
            rings=io.rings,
            key=key,
            pool_seed=pool_seed,
            largest_bytes=plan.slot_bytes,
            io_size_bytes=io.io_size_bytes,
            requests_in_flight=self.planned.requests_in_flight,
            store_cap=self.planned.stores_in_flight,
            open_loop=self.planned.open_loop,
            backlog_limit=self.backlog_max,
            gate_slots=plan.files.slots if plan.gated else 0,
            chunk_files=self.layout == "file_per_chunk",
            verify=io.verify,
            durability=durability,
            core=io.core,
        )


def workload_of(benchmark: Document) -> Workload:
    """Reads a benchmark section; raises JobError naming what is wrong."""
    section = Section(benchmark)
    io_size_bytes = section.section("io").count("io_size_bytes")
    if io_size_bytes % BLOCK_BYTES:
        raise JobError(f"io.io_size_bytes must be a multiple of {BLOCK_BYTES}, got {io_size_bytes}")
    io = _io(section)
    layout = section.choice("layout", get_args(Kind))
    if layout == "file_per_chunk" and io.core == "uring":
        raise JobError(
            "io.core uring does not work with layout file_per_chunk: use threads, python or auto"
        )
    return Workload(
        planned=planned(section),
        io=io,
        layout=layout,
        ramp_s=section.number("ramp_s"),
        duration_s=section.positive("duration_s"),
        requests=section.count_or_none("requests"),
        backlog_max=section.count("backlog_max"),
        precondition_passes=section.count("precondition_passes", least=0),
    )


def _io(section: Section) -> Io:
    io = section.section("io")
    return Io(
        queue_depth=section.count("queue_depth"),
        direct=io.flag("direct"),
        verify=io.choice("verify", _VERIFY),
        durability=io.choice("durability", get_args(Durability)),
        core=io.choice("core", get_args(CoreChoice)),
        io_size_bytes=io.count("io_size_bytes"),
        rings=io.count_or_none("rings"),
    )

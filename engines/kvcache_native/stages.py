"""The stages of the engine: prepare fills the slots, run and search measure, cleanup removes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing

from ..contract import Document, Job
from ..io_core.account import Account
from ..io_core.control import Control
from ..io_core.directory import claim, release
from ..section import Section
from ..stage import Needs, Session
from .bench import Bench
from .layout import Layout, rank_name
from .planning import Excerpts, RankPlan, exponential_gaps, of_shard
from .plans import Place, try_trace
from .roofline import check_roofline, measure_roofline
from .search import Probe, SearchParameters, Tried, next_probe, search_of
from .traces import TraceSource, TraceSurvey, survey_of, survey_trace
from .workload import Workload, workload_of

_MIB = 2**20
_BASE_MEMORY_BYTES = 96 * _MIB
# What is kept of a slot: once by gates and the like, and by every planner, that of a gated plan
# with a cache whose entries may be as small as a slot. And what is kept of a user or request.
_SLOT_MEMORY_BYTES = 80
_CACHED_SLOT_MEMORY_BYTES = 600
_USER_MEMORY_BYTES = 4096
# Stream of random numbers for the arrivals of a search.
_GAPS = 65
# Part of a probe that is not counted.
_PROBE_RAMP = 0.1


class KvCacheEngine:
    """The KV-cache benchmark with its own I/O."""

    def needs(self, job: Job, ranks: int) -> Needs:
        """Disk for every slot of every rank; memory for the buffers of what is in flight."""
        workload = workload_of(job.benchmark)
        if workload.planned.trace is not None:
            try_trace(workload.planned.trace)
        if "search" in (benchmark := Section(job.benchmark)):
            search_of(benchmark.section("search"), workload.duration_s)
        programs = check_roofline(benchmark, workload.layout)
        plan = workload.planned.plan(Place(seed=job.seed, rank=0, ranks=ranks))
        settings = workload.settings(plan, key=0, pool_seed=0, durability="none")
        slots, slot_mib = plan.files.slots, plan.slot_bytes / _MIB
        of_planner = _CACHED_SLOT_MEMORY_BYTES if plan.gated else _SLOT_MEMORY_BYTES
        requests = workload.planned.requests_in_flight
        # Threads in Python each have a shard of their own, and with it a planner.
        python = workload.io.core == "python"
        planners = settings.python_threads if python else settings.shards
        kept = slots * (_SLOT_MEMORY_BYTES + planners * of_planner)
        in_flight = requests * _USER_MEMORY_BYTES
        return Needs(
            disk_bytes=ranks * slots * plan.slot_bytes,
            disk_arithmetic=f"{slots} slots x {slot_mib:.6g} MiB x {ranks} ranks",
            memory_bytes_per_rank=_BASE_MEMORY_BYTES + settings.buffer_bytes + kept + in_flight,
            memory_arithmetic=f"{_BASE_MEMORY_BYTES // _MIB} MiB + buffers for {settings.depth}"
            f" transfers {settings.buffer_bytes / _MIB:.0f} MiB + plan of {slots} slots"
            f" {(kept + in_flight) / _MIB:.0f} MiB",
            packages=("numpy", "mpi4py") if ranks > 1 else ("numpy",),
            programs=programs,
            open_files_per_rank=_open_files(job, workload, plan, ranks),
        )

    def stages(self) -> Mapping[str, Callable[[Session], None]]:
        """All stages by name."""
        return {
            "prepare": prepare,
            "roofline_before": roofline,
            "run": run,
            "search": search,
            "roofline_after": roofline,
            "cleanup": cleanup,
        }


def prepare(session: Session) -> None:
    """Makes the job's directory and every rank's files, and writes version 0 into every slot."""
    job = session.job
    workload = _workload(session)

    def claim_directory(_: Control) -> None:
        if session.rank == 0:
            claim(job.directory, job.sha256)

    surveyed = None
    if workload.planned.trace is not None:
        surveyed = _survey(session, workload.planned.trace)
    with closing(_bench(session, workload, surveyed)) as bench:
        bench.describe()
        files = len(bench.layout.own)
        session.phase("claiming", claim_directory, unit="files", total=0)
        session.phase("reserving", bench.reserve, unit="files", total=files)
        session.phase("opening", bench.open_to_fill, unit="files", total=0)
        session.phase("filling", bench.fill, unit="bytes", total=bench.fill_bytes)


def run(session: Session) -> None:
    """Serves requests for the ramp and the measured window."""
    with closing(_ready_bench(session)) as bench:
        _open(session, bench)
        ramp_s, duration_s = bench.workload.ramp_s, bench.workload.duration_s
        control = Control(ramp_s=ramp_s, duration_s=duration_s)
        session.phase(
            "running", bench.measure, unit="s", total=ramp_s + duration_s, control=control
        )


def roofline(session: Session) -> None:
    """Measures what a plain reader and writer moves on the same files."""
    with closing(_ready_bench(session)) as bench:
        bench.describe()
        measure_roofline(session, bench)


def search(session: Session) -> None:
    """Finds the highest rate of requests whose prefixes are loaded within the limit."""
    with closing(_ready_bench(session)) as bench:
        section = Section(session.job.benchmark)
        parameters = session.agree(
            lambda: search_of(section.section("search"), bench.workload.duration_s)
        )
        _open(session, bench, for_search=True)
        _Search(session, bench, parameters).run()


def cleanup(session: Session) -> None:
    """Removes the files that prepare has made and the directories that are then empty.

    Where hosts were lost, the ranks that are left also do this for the others.
    """
    workload = _workload(session)
    mine = range(session.rank, session.job_ranks, session.ranks)
    benches = session.agree(lambda: [Bench(session, workload, None, rank) for rank in mine])
    job = session.job
    lists = session.outcome.lists
    lists["left"] = []

    def remove(control: Control) -> None:
        for bench in benches:
            lists["left"] += bench.cleanup(control)

    def release_directory(_: Control) -> None:
        if session.rank == 0:
            ranks = (rank_name(rank) for rank in range(session.job_ranks))
            lists["left"] += release(job.directory, job.sha256, ranks)

    files = sum(len(bench.layout.own) for bench in benches)
    session.phase("removing", remove, unit="files", total=files)
    session.phase("releasing", release_directory, unit="files", total=0)


class _Search:
    """Probes one after the other on the requests of one plan, until a rate is confirmed."""

    def __init__(self, session: Session, bench: Bench, parameters: SearchParameters) -> None:
        self._session = session
        self._bench = bench
        self._parameters = parameters
        self._excerpts = [self._excerpts_of(bench.new_plan()) for _ in range(bench.shards)]
        self._probes: list[Document] = []

    def run(self) -> None:
        """Every rank tries the same rates; rank 0 says how each one went."""
        tried: list[Tried] = []
        while (probe := next_probe(self._parameters, tried)) is not None:
            tried.append(Tried(probe, self._try(probe)))

    def _try(self, probe: Probe) -> bool:
        session, bench = self._session, self._bench
        requests = self._parameters.requests(probe)
        length_s = self._parameters.length_s(probe)
        streams = [
            of_shard(excerpts.take(requests, probe.rate_per_s), shard, bench.shards)
            for shard, excerpts in enumerate(self._excerpts)
        ]
        session.phase(
            f"{probe.purpose} {probe.rate_per_s * session.ranks:.4g} requests/s",
            lambda control: bench.probe(streams, control),
            unit="s",
            total=length_s,
            control=Control(ramp_s=_PROBE_RAMP * length_s),
        )
        return self._judge(probe)

    def _judge(self, probe: Probe) -> bool:
        """Whether the probe has passed, and its part of the result."""
        session, outcome = self._session, self._session.outcome
        account = outcome.account or Account()
        window = outcome.window
        merged = session.merged(account.requests.prefix_load)
        every = session.exchange(
            (
                account.requests.completed,
                account.read.window_bytes,
                account.write.window_bytes,
                window.length_s if window else 0.0,
                self._parameters.passes(merged),
            )
        )
        requests, read_bytes, write_bytes, lengths_s, passed = zip(*every, strict=True)
        self._probes.append(
            {
                "purpose": probe.purpose,
                "rate_per_s": probe.rate_per_s * session.ranks,
                "requests": sum(requests),
                "length_s": round(max(lengths_s), 6),
                "read_bytes": sum(read_bytes),
                "write_bytes": sum(write_bytes),
                "prefix_load": merged.export("ns"),
            }
        )
        outcome.search = {
            "limit_ms": self._parameters.limit_ms,
            "fraction": self._parameters.fraction,
            "probes": self._probes,
        }
        return bool(passed[0])

    def _excerpts_of(self, plan: RankPlan) -> Excerpts:
        job, rank = self._session.job, self._session.rank
        return Excerpts(plan.rows(), exponential_gaps(seed=job.seed, rank=rank, stream=_GAPS))


def _open_files(job: Job, workload: Workload, plan: RankPlan, ranks: int) -> int:
    """Files that a rank holds open at once: all it uses, or the chunks that are in flight."""
    layout = Layout(
        job_directory=job.directory,
        rank=0,
        ranks=ranks,
        files=plan.files,
        slot_bytes=plan.slot_bytes,
        kind=workload.layout,
    )
    chunks = workload.io.queue_depth if workload.layout == "file_per_chunk" else 0
    return len(layout.paths) + chunks


def _workload(session: Session) -> Workload:
    return session.agree(lambda: workload_of(session.job.benchmark))


def _bench(session: Session, workload: Workload, surveyed: TraceSurvey | None) -> Bench:
    return session.agree(lambda: Bench(session, workload, surveyed))


def _ready_bench(session: Session) -> Bench:
    """The bench of a rank that has been prepared; a trace as it was surveyed then."""
    workload = _workload(session)
    bench = _bench(session, workload, None)
    if workload.planned.trace is None:
        return bench
    surveyed = session.agree(lambda: survey_of(bench.layout.read_state().get("survey")))
    return _bench(session, workload, surveyed)


def _open(session: Session, bench: Bench, *, for_search: bool = False) -> None:
    bench.describe()
    opening = bench.open_to_search if for_search else bench.open
    session.phase("opening", opening, unit="files", total=0)
    readying = bench.warm if for_search else bench.ready
    session.phase("warming", readying, unit="bytes", total=bench.warming_bytes)


def _survey(session: Session, source: TraceSource) -> TraceSurvey:
    """What rank 0 has found in the whole trace."""
    found: list[TraceSurvey] = []

    def read(_: Control) -> None:
        if session.rank == 0:
            found.append(survey_trace(source))

    session.phase("reading the trace", read, unit="files", total=0)
    (surveyed,) = session.exchange(found)[0]
    return surveyed

"""The trial launch before a job on many hosts: what it says of launcher, places and data_dir."""

from __future__ import annotations

import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .canonical import Document
from .host_probe import MARK
from .hosts import Host, host_ranges
from .launch import build_argv
from .plan import Launch, Plan
from .progress import Display
from .rank_environment import rank_environment
from .reach import Probed
from .rules import Finding
from .signals import StopRequests
from .spec import JobSpec
from .supervise import Outcome, Site, supervise

# A start takes longer the more ranks there are.
LIMIT_S_PER_RANK = 0.05

SENTINEL = ".mlps-sentinel-"

_WORDS_BYTES = 1 << 14
_WORDS_CHARACTERS = 400
# What ranks say of data_dir: the messages of the engine `preflight`.
_NOT_SHARED = ("does not see the file", "reads other bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Muster:
    """How the trial launch ended; `words` are the launcher's own last ones."""

    hosts: tuple[Host, ...]
    outcome: Outcome
    words: str

    def as_document(self) -> Document:
        """Evidence for the archive."""
        result = self.outcome.result or {}
        return {
            "hosts": host_ranges([host.name for host in self.hosts]),
            "status": self.outcome.status,
            "message": self.outcome.message,
            "elapsed_s": self.outcome.elapsed_s,
            "sentinel": _columns(result.get("details", {}).get("sentinel")),
        }


class _Mute:
    """A display for a launch that is over in a moment."""

    def step(self, text: str) -> None:
        """Nothing is shown."""

    def stage(self, name: str, number: int, count: int) -> None:
        """Nothing is shown."""

    def progress(self, event: Document) -> None:
        """Nothing is shown."""

    def done(self, text: str) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""


def call_muster(
    spec: JobSpec,
    hosts: Sequence[Host],
    *,
    plan: Plan,
    program: Path,
    environ: Mapping[str, str],
    stops: StopRequests,
) -> Muster:
    """Start all ranks of these hosts once, as the job will. Leaves nothing, here or in data_dir."""
    nonce = secrets.token_hex(8)
    ranks = sum(host.ranks for host in hosts)
    limit_s = spec.preflight.launch_limit_s + ranks * LIMIT_S_PER_RANK
    launch = _launch(spec, hosts, plan, program, limit_s)
    display: Display = _Mute()
    with tempfile.TemporaryDirectory(prefix="mlps-preflight-") as directory:
        site = Site(
            program=program,
            env=rank_environment(spec, nonce, environ),
            stdout_log=Path(directory, "stdout"),
            stderr_log=Path(directory, "stderr"),
            job_sha256=spec.sha256,
            died_patterns=spec.launcher.died_patterns,
        )
        try:
            outcome = supervise(launch, site, stops, display)
        finally:
            # Rank 0 removes it; should that have been killed, this machine may be able to.
            with suppress(OSError):
                (spec.data_dir / f"{SENTINEL}{nonce}").unlink()
        words = last_words(site.stderr_log, site.stdout_log)
    return Muster(hosts=tuple(hosts), outcome=outcome, words=words)


def _launch(
    spec: JobSpec, hosts: Sequence[Host], plan: Plan, program: Path, limit_s: float
) -> Launch:
    command = (plan.python, "-P", "-m", "mlps.engines.preflight", "--stage", "muster")
    argv = build_argv(
        spec.launcher, command, hosts=hosts, program=str(program), variables=plan.variables
    )
    return Launch(
        index=0,
        stage="muster",
        option=None,
        trial=None,
        measured=False,
        when="always",
        undone_by=None,
        argv=argv.words,
        hosts=tuple(hosts),
        hostfile=argv.hostfile,
        time_limit_s=limit_s,
        start_limit_s=limit_s,
        silence_limit_s=limit_s,
    )


def last_words(*logs: Path) -> str:
    """The end of what a launcher said, without rulers and blank lines; the first log decides."""
    for log in logs:
        try:
            data = log.read_bytes()[-_WORDS_BYTES:]
        except OSError:
            continue
        lines = [" ".join(line.split()) for line in data.decode(errors="replace").splitlines()]
        # An event of the protocol is no word of a launcher.
        spoken = [line for line in lines if line.strip("-=* ") and not line.startswith("{")]
        if spoken:
            return " ".join(spoken)[-_WORDS_CHARACTERS:]
    return ""


# ---------------------------------------------------------------- judgement


def judge_muster(muster: Muster, probed: Sequence[Probed], data_dir: Path) -> Iterator[Finding]:
    """ENV-11: all ranks ran and stood where planned. CAP-02: all saw the file of the first."""
    outcome = muster.outcome
    if outcome.result is None or outcome.table is None or outcome.reason == "protocol":
        yield _failed(muster)
        return
    unseen = [
        error
        for error in outcome.result["errors"]
        if any(word in error["message"] for word in _NOT_SHARED)
    ]
    if unseen:
        yield from _not_shared(muster, unseen, probed, data_dir)
    elif outcome.status != "complete":
        yield _failed(muster)
    yield from _misplaced(muster, outcome.table.places, probed)


def _failed(muster: Muster) -> Finding:
    said = f"; it said: {muster.words}" if muster.words else ""
    hint = (
        "launcher.extra_args, launcher.interface and launcher.env steer the launcher; a slow one "
        "needs a longer preflight.launch_limit_s"
    )
    if muster.outcome.reason == "protocol":
        hint = "shells of the hosts must print nothing where nobody types: see their ~/.bashrc"
    return Finding(
        rule="ENV-11",
        severity="error",
        key="launcher",
        text=f"a trial launch on all hosts failed: {muster.outcome.message}{said}",
        hint=hint,
    )


def _not_shared(
    muster: Muster, unseen: Sequence[Document], probed: Sequence[Probed], data_dir: Path
) -> Iterator[Finding]:
    assert muster.outcome.table is not None
    names = {host.facts[MARK]: host.name for host in probed if host.facts is not None}
    writer = muster.outcome.table.hosts[0]
    ranks = ", ".join(str(error["rank"]) for error in unseen[:8])
    more = f" and {len(unseen) - 8} more" if len(unseen) > 8 else ""
    for name in dict.fromkeys(names.get(error["host"], error["host"]) for error in unseen):
        yield Finding(
            rule="CAP-02",
            severity="error",
            key="data_dir",
            text=f"{data_dir} is not the directory that {names.get(writer, writer)} has: rank "
            f"{ranks}{more} did not see the file that rank 0 wrote there",
            hint="mount the same file system on all hosts, or data_dir=DIRECTORY on a shared one",
            host=name,
        )


def _misplaced(
    muster: Muster, places: Sequence[tuple[str, int]], probed: Sequence[Probed]
) -> Iterator[Finding]:
    own_names = {host.name: host.facts[MARK] for host in probed if host.facts is not None}
    planned: Counter[str] = Counter()
    for host in muster.hosts:
        planned[own_names.get(host.name, host.name)] += host.ranks
    found = Counter(host for host, _ in places)
    if found != planned:
        yield Finding(
            rule="ENV-11",
            severity="error",
            key="launcher",
            text=f"the launcher put ranks elsewhere than planned: {_counts(found)} instead of "
            f"{_counts(planned)}",
            hint="does a variable or a file of this site tell the launcher where ranks go?",
        )
    elif len(planned) < len(muster.hosts):
        yield Finding(
            rule="ENV-11",
            severity="error",
            key="cluster.hosts",
            text=f"{len(muster.hosts)} hosts of the job call themselves by {len(planned)} names: "
            f"{_counts(planned)}",
            hint="list each machine once, or give each its own host name",
        )


def _counts(counts: Mapping[str, int]) -> str:
    by_number: dict[int, list[str]] = {}
    for name, number in counts.items():
        by_number.setdefault(number, []).append(name)
    return ", ".join(
        f"{number} rank{'s' if number > 1 else ''} on {host_ranges(names)}"
        for number, names in by_number.items()
    )


def _columns(sentinel: Document | None) -> Document | None:
    """What the ranks saw; equal device and inode numbers of all ranks once."""
    if sentinel is None:
        return None
    return {
        name: value[0] if isinstance(value, list) and len(set(value)) == 1 else value
        for name, value in sentinel.items()
    }

"""From a job to its launches, in order. Pure: what is planned is what runs and what is archived."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

from .canonical import Document
from .foreign import FAMILY as FOREIGN
from .foreign import Command, Launched, command_of, start_hosts
from .hosts import Host, host_ranges
from .launch import build_argv, rank_variables
from .spec import JobSpec, Stage, When


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One process group: a stage of an option and trial, with its argv and limits.

    `is_foreign`: its processes start a foreign program, which `command` tells; None: they clean up.
    """

    index: int
    stage: str
    option: str | None
    trial: int | None
    measured: bool
    when: When
    undone_by: str | None
    argv: tuple[str, ...]
    hosts: tuple[Host, ...]
    hostfile: str | None
    time_limit_s: float
    start_limit_s: float
    silence_limit_s: float
    delay_before_s: float = 0.0
    is_foreign: bool = False
    command: Command | None = None

    @property
    def ranks(self) -> int:
        """Ranks on all hosts."""
        return sum(host.ranks for host in self.hosts)

    @property
    def name(self) -> str:
        """Directory name in the archive: `02-run-opt1-0`."""
        parts = [f"{self.index:02d}", self.stage]
        parts += [] if self.option is None else [self.option]
        parts += [] if self.trial is None else [str(self.trial)]
        return "-".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All launches of a job.

    `python` is the interpreter of the ranks and `program` the launcher's program (None where there
    is none), `variables` the names of what ranks get; no more is taken from outside the job.
    """

    job_sha256: str
    python: str
    program: str | None
    hosts: tuple[str, ...]
    ranks: int
    variables: tuple[str, ...]
    launches: tuple[Launch, ...]

    @property
    def hostfile(self) -> str | None:
        """The text of the hostfile that all launches read, where the argv names one."""
        return self.launches[0].hostfile if self.launches else None

    @property
    def measured(self) -> dict[tuple[str, str | None], list[Launch]]:
        """The trials of each measured stage and option, in order."""
        groups: dict[tuple[str, str | None], list[Launch]] = {}
        for launch in self.launches:
            if launch.measured:
                groups.setdefault((launch.stage, launch.option), []).append(launch)
        return groups

    def as_document(self) -> Document:
        """What `mlps plan --json` prints and plan.json holds."""
        return {
            "job_sha256": self.job_sha256,
            "python": self.python,
            "program": self.program,
            "hosts": list(self.hosts),
            "hostfile": None if self.hostfile is None else self.hostfile.splitlines(),
            "ranks": self.ranks,
            "rank_variables": list(self.variables),
            "launches": [
                {
                    "name": launch.name,
                    "stage": launch.stage,
                    "option": launch.option,
                    "trial": launch.trial,
                    "when": launch.when,
                    "measured": launch.measured,
                    "ranks": launch.ranks,
                    "delay_before_s": launch.delay_before_s,
                    "time_limit_s": launch.time_limit_s,
                    "start_limit_s": launch.start_limit_s,
                    "silence_limit_s": launch.silence_limit_s,
                    "argv": list(launch.argv),
                    **_command_document(launch),
                }
                for launch in self.launches
            ],
        }


def _command_document(launch: Launch) -> Document:
    if not launch.is_foreign:
        return {}
    return {"command": None if launch.command is None else launch.command.as_document()}


def make_plan(
    spec: JobSpec, *, python: str, program: str | None = None, present: Collection[str] = ()
) -> Plan:
    """The launches of a job, whose ranks run under `python` unless the cluster names its own.

    `program` is where the launcher's program was found; without it the argv holds its bare name.
    `present` are the names of the variables that the launcher's environment can forward.
    """
    interpreter = spec.cluster.python or python
    variables = rank_variables(spec.launcher, present)
    starter = None if spec.launcher.program is None else program or spec.launcher.program
    launches: list[Launch] = []
    for index, step in enumerate(_steps(spec)):
        before = launches[-1].option if launches else None
        changes = step.option is not None and before is not None and step.option != before
        delay_s = spec.option_delay_s if changes else 0.0
        launches.append(_launch(spec, (interpreter, starter, variables), index, step, delay_s))
    return Plan(
        job_sha256=spec.sha256,
        python=interpreter,
        program=starter,
        hosts=spec.cluster.names,
        ranks=spec.cluster.ranks,
        variables=variables,
        launches=tuple(launches),
    )


def ended_well(
    launch: Launch, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> bool:
    """Whether a launch was completed and has left a result."""
    return launch.name in results and outcomes[launch.name]["status"] == "complete"


def ended_launches(
    plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> list[Launch]:
    """The launches that were completed and have left a result, in order."""
    return [launch for launch in plan.launches if ended_well(launch, outcomes, results)]


class OfOption(Protocol):
    """What a job says of one of its options; None: it has none."""

    @property
    def option(self) -> str | None:
        """Its name."""


Settings = TypeVar("Settings", bound=OfOption)


def measured_launches(
    settings: Iterable[Settings],
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
) -> Iterator[tuple[str, Settings, Document]]:
    """Measured launches that ended well: name, the settings of their option, and their result."""
    of_options = {each.option: each for each in settings}
    for launch in ended_launches(plan, outcomes, results):
        if launch.measured and launch.option in of_options:
            yield launch.name, of_options[launch.option], results[launch.name]


def nearest(found: Mapping[str, object], launch: Launch, launches: Sequence[Launch]) -> str | None:
    """Of launches that have something, the last one before a launch, else the first one after.

    One that stands for the whole job counts for all options.
    """
    usable = [
        each
        for each in launches
        if each.name in found and each.option in (None, launch.option) and each is not launch
    ]
    before = [each.name for each in usable if each.index < launch.index]
    after = [each.name for each in usable if each.index > launch.index]
    return before[-1] if before else after[0] if after else None


def engine_command(spec: JobSpec, python: str, *arguments: str) -> tuple[str, ...]:
    """The command of one rank of the job's engine."""
    # -P: a module in the working directory must not be imported instead of an installed one.
    return (python, "-P", "-m", f"mlps.engines.{spec.engine}", *arguments)


def without_hosts(spec: JobSpec, plan: Plan, launch: Launch, lost: Collection[str]) -> Launch:
    """The launch on the hosts that are left, whose ranks stand in for those of the lost ones.

    Raises ValueError where no host is left.
    """
    hosts = tuple(host for host in launch.hosts if host.name not in lost)
    if launch.is_foreign:
        # It was one process on the first host, of what they all see.
        hosts = tuple(
            replace(host, ranks=1) for host in spec.cluster.hosts if host.name not in lost
        )
        hosts = hosts[:1]
    if not hosts:
        raise ValueError(f"all hosts were lost: {host_ranges(plan.hosts)}")
    arguments = _arguments(launch.stage, launch.option, launch.trial)
    command = engine_command(spec, plan.python, *arguments, "--ranks", str(launch.ranks))
    argv = build_argv(
        spec.launcher, command, hosts=hosts, program=plan.program, variables=plan.variables
    )
    return replace(launch, argv=argv.words, hosts=hosts, hostfile=argv.hostfile)


class Step(NamedTuple):
    """A stage for one option and trial."""

    stage: Stage
    option: str | None
    trial: int | None


def _steps(spec: JobSpec) -> Iterator[Step]:
    """Stages in order; those `each: option` or `trial` that follow one another repeat together."""
    chosen = [
        stage
        for stage in spec.stages
        if stage.when != "never" and (spec.selected is None or stage.name in spec.selected)
    ]
    start = 0
    while start < len(chosen):
        end = _run_end(chosen, start, "job")
        if end == start:
            yield Step(chosen[start], None, None)
            start += 1
            continue
        for option in spec.options or (None,):
            yield from _option_steps(chosen[start:end], option, spec.trials)
        start = end


def _option_steps(stages: list[Stage], option: str | None, trials: int) -> Iterator[Step]:
    start = 0
    while start < len(stages):
        end = _run_end(stages, start, "option")
        if end == start:
            yield Step(stages[start], option, None)
            start += 1
            continue
        for trial in range(trials):
            yield from (Step(stage, option, trial) for stage in stages[start:end])
        start = end


def _run_end(stages: list[Stage], start: int, each: str) -> int:
    """End of the run of stages from `start` that are not `each`; `start` where there is none."""
    end = start
    while end < len(stages) and stages[end].each not in ("job", each):
        end += 1
    return end


def _arguments(stage: str, option: str | None, trial: int | None) -> list[str]:
    arguments = ["--stage", stage]
    arguments += [] if option is None else ["--option", option]
    return arguments + ([] if trial is None else ["--trial", str(trial)])


def _launch(
    spec: JobSpec,
    outside: tuple[str, str | None, tuple[str, ...]],
    index: int,
    step: Step,
    delay_s: float,
) -> Launch:
    stage, option, trial = step
    python, program, variables = outside
    hosts, command = spec.cluster.hosts, None
    if spec.family == FOREIGN:
        launched = Launched(stage=stage.name, option=option, trial=trial, hosts=hosts)
        hosts, command = start_hosts(spec.document, launched), command_of(spec.document, launched)
    argv = build_argv(
        spec.launcher,
        engine_command(spec, python, *_arguments(stage.name, option, trial)),
        hosts=hosts,
        program=program,
        variables=variables,
    )
    return Launch(
        index=index,
        stage=stage.name,
        option=option,
        trial=trial,
        measured=stage.measured,
        when=stage.when,
        undone_by=stage.undone_by,
        argv=argv.words,
        hosts=hosts,
        hostfile=argv.hostfile,
        delay_before_s=delay_s,
        time_limit_s=stage.time_limit_s,
        start_limit_s=spec.start_limit_s,
        silence_limit_s=spec.silence_limit_s,
        is_foreign=spec.family == FOREIGN,
        command=command,
    )

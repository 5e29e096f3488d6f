"""Runs a job: preflight, archive, stages, results, verdict, seal. Every way to stop ends sealed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from . import archive as files
from .archive import Archive
from .canonical import Document, pretty_json
from .checkpoint_report import checkpoint_line, partly_done
from .checkpoint_rules import judge_form, judge_told_accelerators
from .collect import stage_metrics
from .collection import collect_facts, watched_hosts, way_of
from .compose import Composition, Origin
from .environment import describe_environment, mlps_version
from .errors import ArchiveError, ComplianceError, Interrupted, MlpsError, PreflightError
from .evidence import Evidence, overrides_text, read_series_file
from .evidence_rules import judge_evidence
from .foreign_evidence import placed_command
from .foreign_run import Save, Task, run_foreign
from .host_documents import HostFacts, host_facts_of, hosts_text, totals
from .hosts import host_ranges
from .job_page import UNDRAWABLE, draw_page
from .launch import RUN_VARIABLE
from .monitor import Monitor
from .plain_files import walk
from .plan import Launch, Plan, without_hosts
from .preflight import Machine, check_machine
from .progress import Display
from .rank_environment import find_program, rank_environment
from .reach import PROBE_MARGIN_S
from .rules import Finding, errors, judge_job
from .signals import StopRequests
from .spec import JobSpec
from .supervise import Outcome, Site, supervise
from .training_report import stage_line
from .training_rules import judge_dataset_size, judge_known_size
from .vector_form import judge_told_vectors, judge_vector_form
from .vector_job import vector_jobs
from .vector_report import vector_line
from .verdict import Verdict, make_result, make_verdict

PAUSE_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A job to run and where it comes from.

    `links` names other archives (`rerun_of`, `resumed_from`) or the sweep; `finished` are stages of
    a resumed archive that need no second run, by launch name; `data_id` is the run whose data they
    left.
    """

    spec: JobSpec
    plan: Plan
    origins: Mapping[str, Origin]
    choices: Mapping[str, Document]
    overrides: tuple[str, ...]
    links: Mapping[str, object]
    finished: Mapping[str, Path]
    data_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A job that has ended: its archive, its verdict, its published numbers.

    `doubts` are what `mlps verify` will hold against the archive although its verdict is good, as
    where somebody set the clock while the job ran.
    """

    archive: Archive
    verdict: Verdict
    result: Document
    doubts: tuple[Finding, ...] = ()

    @property
    def exit_code(self) -> int:
        """That of the verdict; an archive that will not verify breaks a rule."""
        return self.verdict.exit_code or (ComplianceError.exit_code if self.doubts else 0)

    @property
    def error(self) -> MlpsError | None:
        """The failure as an error whose message a user reads; None for a valid result."""
        failure = self.result["failure"]
        if failure is not None:
            return MlpsError(f"stage {failure['stage']} {failure['reason']}: {failure['message']}")
        found = errors([*self.verdict.findings, *self.doubts])
        return MlpsError("; ".join(str(finding) for finding in found)) if found else None


def fresh_request(composition: Composition, spec: JobSpec, plan: Plan, **links: object) -> Request:
    """A request for a job that was just composed."""
    return Request(
        spec=spec,
        plan=plan,
        origins=composition.origins,
        choices=composition.choices,
        overrides=composition.overrides,
        links=links,
        finished={},
    )


def run_job(request: Request, display: Display, stops: StopRequests) -> Report:
    """Run a job to its sealed archive.

    Raises ComplianceError or PreflightError before anything is written, ArchiveError where the
    archive can no longer be written; all other failures are in the report.
    """
    spec = request.spec
    refuse_broken_rules(
        [
            *judge_job(spec, request.origins),
            *judge_known_size(spec, None),
            *judge_form(spec),
            *judge_vector_form(spec),
        ]
    )
    name = spec.division.name
    if name != "whatif":
        display.say(f"division {name} of edition {spec.edition}: would be {name.upper()}")
    display.step("checking the machine")
    machine = check_machine(spec, request.plan, os.environ, stops)
    refuse_unready(machine.findings)
    if machine.needs is not None:
        facts = machine.needs.facts
        refuse_broken_rules(
            [*judge_told_accelerators(spec, facts), *judge_told_vectors(spec, facts)]
        )
    for finding in machine.findings:
        if finding.severity == "warning":
            display.say(str(finding))
    if stops.asked:
        raise Interrupted(f"stopped by {stops.first} before anything was written")
    archive = files.create(spec.results_dir, spec.benchmark, spec.sha256)
    data_id = request.data_id or archive.run_id
    env = rank_environment(spec, data_id, os.environ)
    program = find_program(request.plan.program or request.plan.python, env, spec.launcher.beside)
    if program is None:
        raise PreflightError(f"{spec.launcher.program} has gone from PATH since it was checked")
    display.step("collecting facts")
    _write_inputs(archive, request, machine, program, env)
    start = _hosts(archive, request, files.HOSTS_START, lambda: stops.asked)
    for finding in errors(judge_dataset_size(spec, totals(start).memory_bytes)):
        display.say(str(finding))
    with _samples(archive, request, lambda: stops.asked) as spared:
        stages = _run_stages(_Runner(archive, request, program, env, display, stops, spared))
    end = _hosts(archive, request, files.HOSTS_END, lambda: stops.count > 1)
    evidence = Evidence(
        spec=spec,
        origins=request.origins,
        plan=request.plan,
        preflight=machine.findings,
        version=mlps_version(),
        outcomes=stages.outcomes,
        results=stages.results,
        hosts_start=start,
        hosts_end=end,
        series=read_series_file(archive, spec, stages.results),
    )
    return _publish(archive, evidence, display)


def refuse_broken_rules(findings: list[Finding]) -> None:
    """Raise ComplianceError where the job cannot count in its division."""
    found = errors(findings)
    if found:
        text = "\n".join(f"  {finding}" for finding in found)
        raise ComplianceError(f"the job would be INVALID, nothing was started:\n{text}")


def refuse_unready(findings: tuple[Finding, ...]) -> None:
    """Raise PreflightError with all findings but mere information, if there is an error."""
    if errors(findings):
        shown = [finding for finding in findings if finding.severity != "info"]
        text = "\n".join(f"  {finding}" for finding in shown)
        raise PreflightError(f"the machine is not ready, nothing was started:\n{text}")


# ---------------------------------------------------------------- before the first stage


def _write_inputs(
    archive: Archive, request: Request, machine: Machine, program: Path, env: Mapping[str, str]
) -> None:
    spec = request.spec
    environment = describe_environment(program, env, machine.lockfile) | {
        "started_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **machine.evidence(),
        "data_id": request.data_id or archive.run_id,
        "links": dict(request.links),
    }
    provenance = {
        "overrides": list(request.overrides),
        "choices": dict(request.choices),
        "values": {key: origin.as_document() for key, origin in request.origins.items()},
    }
    for name, data in (
        (files.JOB, spec.canonical),
        (files.JOB_YAML, files.to_yaml(spec.document)),
        (files.OVERRIDES, overrides_text(request.overrides)),
        (files.PROVENANCE, pretty_json(provenance)),
        (files.PLAN, pretty_json(request.plan.as_document())),
        (files.ENVIRONMENT, pretty_json(environment)),
        (files.SYSTEM, files.to_yaml(spec.document["system"])),
    ):
        files.write(archive, name, data)


# ---------------------------------------------------------------- the hosts


def ask_hosts(
    spec: JobSpec, plan: Plan, environ: Mapping[str, str], stopped: Callable[[], bool]
) -> HostFacts:
    """The facts of all hosts of a job, or why a host states none."""
    monitor = spec.monitor
    return host_facts_of(
        collect_facts(spec, plan, environ, via=monitor.via, python=monitor.python, stopped=stopped)
    )


def _hosts(archive: Archive, request: Request, name: str, stopped: Callable[[], bool]) -> HostFacts:
    hosts = ask_hosts(request.spec, request.plan, os.environ, stopped)
    files.write(archive, name, hosts_text(hosts))
    return hosts


@contextmanager
def _samples(
    archive: Archive, request: Request, stopped: Callable[[], bool]
) -> Iterator[Callable[[], Collection[int]]]:
    """Sample all hosts while stages run; gives what no stage may end. Raises ArchiveError."""
    spec, monitor = request.spec, request.spec.monitor
    if monitor.interval_s is None:
        yield tuple
        return
    watched = watched_hosts(
        spec,
        request.plan,
        os.environ,
        interval_s=monitor.interval_s,
        via=monitor.via,
        python=monitor.python,
    )
    with (
        files.open_series(archive) as output,
        Monitor(
            watched,
            output,
            interval_s=monitor.interval_s,
            via=way_of(spec, monitor.via),
            start_limit_s=spec.preflight.ssh_limit_s + PROBE_MARGIN_S,
            stopped=stopped,
        ) as sampled,
    ):
        yield sampled.pids
    files.compress_series(archive)


# ---------------------------------------------------------------- stages


@dataclass(frozen=True, slots=True)
class _Runner:
    """What every stage of one job is run with."""

    archive: Archive
    request: Request
    program: Path
    env: Mapping[str, str]
    display: Display
    stops: StopRequests
    spared: Callable[[], Collection[int]]


@dataclass(frozen=True, slots=True)
class _Stages:
    """What the stages left, by launch name: outcome.json and, where there is one, result.json."""

    outcomes: dict[str, Document] = field(default_factory=dict)
    results: dict[str, Document] = field(default_factory=dict)

    @property
    def lost_hosts(self) -> tuple[str, ...]:
        """Hosts that were lost up to now."""
        lost = [
            host for outcome in self.outcomes.values() for host in outcome.get("lost_hosts", ())
        ]
        return tuple(dict.fromkeys(lost))

    def add(self, name: str, outcome: Document, result: Document | None) -> None:
        self.outcomes[name] = outcome
        if result is not None:
            self.results[name] = result


def _run_stages(runner: _Runner) -> _Stages:
    stages = _Stages()
    blocked: str | None = None
    for launch in runner.request.plan.launches:
        try:
            if launch.name in runner.request.finished:
                stages.add(launch.name, *_take_over(runner, launch))
                continue
            if blocked is None:
                _pause(runner, launch)
            if blocked is None and runner.stops.asked:
                blocked = f"the job was stopped by {runner.stops.first}"
            if blocked is not None and launch.when == "success":
                outcome = Outcome(name=launch.name, status="not_run", message=blocked)
                files.make_stage(runner.archive, launch.name)
            else:
                outcome = _run_on_rest(runner, launch, stages.lost_hosts)
            stages.add(launch.name, outcome.as_document(), outcome.result)
            _write_outcome(runner.archive, outcome)
        except ArchiveError:
            _clean_up_unarchived(runner, launch)
            raise
        if blocked is None and outcome.status != "complete":
            blocked = f"stage {launch.name} {outcome.status}"
    return stages


def _run_on_rest(runner: _Runner, launch: Launch, lost: tuple[str, ...]) -> Outcome:
    """Run a stage on the hosts that are left. Only stages that clean up still run after a loss."""
    request = runner.request
    if not lost:
        return _with_leftovers(runner, launch, _run_stage(runner, launch))
    try:
        launch = without_hosts(request.spec, request.plan, launch, lost)
    except ValueError as error:
        files.make_stage(runner.archive, launch.name)
        outcome = Outcome(name=launch.name, status="not_run", message=str(error))
    else:
        runner.display.say(f"{launch.name} does without {host_ranges(lost)}")
        outcome = _run_stage(runner, launch)
    return _with_leftovers(runner, launch, replace(outcome, without_hosts=lost))


def _with_leftovers(runner: _Runner, launch: Launch, outcome: Outcome) -> Outcome:
    """A stage that always runs is there to remove data; say where they are when it could not."""
    if launch.when != "always" or outcome.status == "complete":
        return outcome
    place = runner.request.spec.data_dir / f"mlps-{runner.env[RUN_VARIABLE]}"
    text = f"{outcome.message}; data of the job may be left in {place}"
    runner.display.say(f"{launch.name}: data of the job may be left in {place}")
    return replace(outcome, message=text)


def _run_stage(runner: _Runner, launch: Launch) -> Outcome:
    archive, plan = runner.archive, runner.request.plan
    files.make_stage(archive, launch.name)
    argv_name = files.stage_file(launch.name, files.ARGV)
    files.write(archive, argv_name, pretty_json(list(launch.argv)))
    runner.display.stage(launch.stage, launch.index + 1, len(plan.launches))
    try:
        outcome = _supervise(
            runner,
            launch,
            archive.path(f"stages/{launch.name}"),
            lambda name, data: files.write_below(archive, launch.name, name, data),
        )
    except OSError as error:
        raise ArchiveError(
            f"{archive.root} cannot be written: {error.strerror or error}; stage {launch.name} "
            "was ended",
            hint="the results directory must stay in place and have space while a job runs",
        ) from error
    if outcome.result_line is not None:
        name = files.stage_file(launch.name, files.RESULT)
        files.write(archive, name, outcome.result_line + b"\n")
    runner.display.done(_ended(runner.request.spec, launch, outcome))
    return outcome


def _supervise(runner: _Runner, launch: Launch, logs: Path, save: Save) -> Outcome:
    """Run a launch by the contract of our own engines, or one of a foreign program."""
    site, spec = _site(runner, logs), runner.request.spec
    if not launch.is_foreign:
        return supervise(launch, site, runner.stops, runner.display)
    run_dir = spec.data_dir / f"mlps-{runner.env[RUN_VARIABLE]}"
    task = Task(
        launch=launch,
        command=placed_command(spec, launch, run_dir),
        document=spec.document,
        run_dir=run_dir,
        save=save,
    )
    return run_foreign(task, site, runner.stops, runner.display)


def _pause(runner: _Runner, launch: Launch) -> None:
    """The pause between two options; a request to stop ends it."""
    if launch.delay_before_s:
        runner.display.step(f"pausing for {launch.delay_before_s:g} s before {launch.name}")
    until = time.monotonic() + launch.delay_before_s
    while time.monotonic() < until and not runner.stops.asked:
        time.sleep(min(PAUSE_POLL_S, max(0.0, until - time.monotonic())))


def _site(runner: _Runner, logs: Path) -> Site:
    spec = runner.request.spec
    return Site(
        program=runner.program,
        env=runner.env,
        stdout_log=logs / files.STDOUT,
        stderr_log=logs / files.STDERR,
        job_sha256=spec.sha256,
        died_patterns=spec.launcher.died_patterns,
        spared=runner.spared,
    )


def _write_outcome(archive: Archive, outcome: Outcome) -> None:
    name = files.stage_file(outcome.name, files.OUTCOME)
    files.write(archive, name, pretty_json(outcome.as_document()))


def _clean_up_unarchived(runner: _Runner, broken: Launch) -> None:
    """Without an archive there is no result, but the job's data must still go."""
    for launch in runner.request.plan.launches[broken.index :]:
        if launch.when != "always":
            continue
        with tempfile.TemporaryDirectory(prefix="mlps-") as logs:
            outcome = _supervise(runner, launch, Path(logs), lambda _name, _data: None)
        runner.display.done(_ended(runner.request.spec, launch, outcome))


def _take_over(runner: _Runner, launch: Launch) -> tuple[Document, Document | None]:
    """Copy a finished stage from the archive that is resumed, byte for byte."""
    archive, source = runner.archive, runner.request.finished[launch.name]
    if odd := next((each.name for each in walk(source) if each.kind in ("link", "other")), None):
        raise ArchiveError(f"{source / odd} is not copied: it is no plain file")
    files.make_stage(archive, launch.name)
    try:
        shutil.copytree(
            source, archive.path(f"stages/{launch.name}"), copy_function=shutil.copyfile,
            dirs_exist_ok=True,
        )  # fmt: skip
    except (OSError, shutil.Error) as error:
        raise ArchiveError(f"{source} cannot be copied: {error}") from error
    runner.display.done(f"{launch.name}: taken over from the archive that is resumed")
    result_path = archive.stage(launch.name, files.RESULT)
    result = files.read_document(result_path) if result_path.is_file() else None
    return files.read_document(archive.stage(launch.name, files.OUTCOME)), result


def _ended(spec: JobSpec, launch: Launch, outcome: Outcome) -> str:
    """One line about a stage that has ended."""
    took = "" if outcome.elapsed_s is None else f" in {outcome.elapsed_s:.1f} s"
    head = f"{launch.name}: {outcome.status}{took}"
    if outcome.status != "complete":
        done = None if outcome.result is None else partly_done(outcome.result, outcome.reason)
        return f"{head}: {outcome.message}" + ("" if done is None else f"; {done}")
    metrics = {} if outcome.result is None else stage_metrics(outcome.result)
    searched = vector_line(vector_jobs(spec), launch.option, outcome.result)
    for line in (stage_line(metrics), checkpoint_line(metrics), searched):
        if line is not None:
            return f"{head}, {line}"
    if "capacity_requests_per_s" in metrics:
        return f"{head}, capacity {metrics['capacity_requests_per_s']:.3f} requests/s"
    rates = [
        f"{word} {metrics[name]:.2f} GiB/s"
        for word, name in (
            ("read", "read_gib_s"),
            ("write", "write_gib_s"),
            ("roofline read", "roofline_read_gib_s"),
            ("write", "roofline_write_gib_s"),
        )
        if metrics.get(name)
    ]
    return f"{head}, {', '.join(rates)}" if rates else head


# ---------------------------------------------------------------- after the last stage


def _publish(archive: Archive, evidence: Evidence, display: Display) -> Report:
    display.step("verifying")
    result = make_result(archive, evidence)
    files.write(archive, files.RESULT, pretty_json(result))
    verdict, document = make_verdict(archive, evidence, result)
    display.step("writing results")
    files.write(archive, files.VERDICT, pretty_json(document))
    try:
        files.write(archive, files.PAGE, draw_page(archive, evidence, result, document))
    except UNDRAWABLE as error:
        # A page is for reading; the numbers do not hang on it, so the archive is sealed without.
        display.say(f"{files.PAGE} was not drawn: {type(error).__name__}: {error}")
    files.seal(archive)
    doubts = () if verdict.exit_code else _doubts(archive, evidence)
    return Report(archive=archive, verdict=verdict, result=result, doubts=doubts)


def _doubts(archive: Archive, evidence: Evidence) -> tuple[Finding, ...]:
    environment = files.read_document(archive.path(files.ENVIRONMENT))
    return tuple(judge_evidence(evidence, environment))

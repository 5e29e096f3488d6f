"""The commands that compose or run jobs. Each takes its arguments and returns an exit code."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from .arguments import one_path, print_json
from .canonical import Document
from .checkpoint_plan import checkpoint_size_of
from .checkup import checkup_document, write_checkup
from .core_config import core_config
from .errors import Interrupted
from .facts_report import facts_document, write_facts
from .foreign import Command
from .history import archive_named
from .host_documents import HostFacts, traits_of
from .host_rules import judge_likeness
from .hosts import HOSTFILE, host_ranges
from .jobs import PreparedJob, prepare
from .preflight import check_machine
from .progress import open_display
from .replay import rerun_request, resume_request
from .report import read_published, write_report
from .rules import Finding, errors, judge_job
from .run import Report, Request, ask_hosts, fresh_request, run_job
from .signals import catch_stop_requests
from .standing import DIVISIONS, in_division, standing
from .sweep import refuse_single_job, run_sweep, write_sweep
from .system_source import judge_described
from .tables import numbered
from .training_plan import sizing_lines, sizing_of
from .training_rules import judge_known_size
from .vector_plan import vector_size_of


def run(overrides: Sequence[str], *, config_dirs: Sequence[Path], as_json: bool) -> int:
    """`mlps [overrides]`: one job."""
    refuse_single_job(overrides)
    job = prepare(overrides, config_dirs)
    return _run(fresh_request(job.composition, job.spec, job.plan), job.composition.notes, as_json)


def sweep(overrides: Sequence[str], *, config_dirs: Sequence[Path], as_json: bool) -> int:
    """`mlps -m overrides`: one job for each combination."""
    directory, document = run_sweep(overrides, config_dirs, sys.stderr)
    if as_json:
        print_json(document | {"path": str(directory)})
    else:
        write_sweep(sys.stdout, document)
        sys.stderr.write(f"sweep {directory}\n")
    return int(document["exit_code"])


def plan(arguments: Sequence[str], *, config_dirs: Sequence[Path], as_json: bool) -> int:
    """`mlps plan`: what would run, and how it would count."""
    job = prepare(arguments, config_dirs)
    sizing = sizing_of(job.spec)
    checkpoint = checkpoint_size_of(job.spec, job.plan, os.environ)
    vectors = vector_size_of(job.spec, job.plan, os.environ)

    def judge(job: PreparedJob) -> list[Finding]:
        findings = judge_job(job.spec, job.composition.origins)
        findings += judge_described(job.spec)
        if sizing is not None:
            findings += judge_known_size(job.spec, sizing.measured_bytes)
        if checkpoint is not None:
            findings += checkpoint.findings(job.spec)
        if vectors is not None:
            findings += vectors.findings(job.spec)
        return findings

    findings = judge(job)
    division = job.spec.division.name
    others = {
        name: judge(prepare(in_division(arguments, name), config_dirs))
        for name in DIVISIONS
        if name != division
    }
    stands = standing(division, others | {division: findings})
    core = core_config(job.spec)
    verdict = "INVALID" if errors(findings) else job.spec.division.name.upper()
    if as_json:
        extra: Document = {
            "would_be": verdict,
            "standing": stands.as_document(),
            "core_config": None if core is None else core.as_document(),
            "findings": [finding.as_document() for finding in findings],
            "job": job.spec.document,
        }
        extra |= {} if sizing is None else {"sizing": sizing.as_document()}
        extra |= {} if checkpoint is None else {"checkpoint": checkpoint.as_document()}
        extra |= {} if vectors is None else {"vectordb": vectors.as_document()}
        print_json(job.plan.as_document() | extra)
    else:
        _show_notes(job.composition.notes)
        sizes = [*stands.lines()]
        sizes += [] if core is None else [core.line()]
        sizes += [] if sizing is None else [*sizing_lines(sizing)]
        sizes += [] if checkpoint is None else [*checkpoint.lines()]
        sizes += [] if vectors is None else [*vectors.lines()]
        _write_plan(job, verdict, findings, sizes)
    return 7 if errors(findings) else 0


def doctor(arguments: Sequence[str], *, config_dirs: Sequence[Path], as_json: bool) -> int:
    """`mlps doctor`: preflight alone, of a small job unless told of another."""
    job = _job_of(arguments, config_dirs)
    with catch_stop_requests() as stops:
        machine = check_machine(job.spec, job.plan, os.environ, stops)
    if stops.asked:
        raise Interrupted(f"stopped by {stops.first}")
    if as_json:
        print_json(checkup_document(machine))
    else:
        _show_notes(job.composition.notes)
        write_checkup(sys.stdout, machine, job.spec)
    return 3 if errors(machine.findings) else 0


def facts(arguments: Sequence[str], *, config_dirs: Sequence[Path], as_json: bool) -> int:
    """`mlps facts`: the machines of a job's cluster. Nothing is run there but the probe."""
    hosts, notes = ask_cluster(arguments, config_dirs)
    findings = [*judge_likeness(traits_of(hosts))]
    if as_json:
        print_json(facts_document(hosts, findings))
    else:
        _show_notes(notes)
        write_facts(sys.stdout, hosts, findings)
    return 3 if hosts.without_facts else 0


def ask_cluster(
    arguments: Sequence[str], config_dirs: Sequence[Path]
) -> tuple[HostFacts, tuple[str, ...]]:
    """The facts of the hosts of a job's cluster, and what is to be noted of its configuration."""
    asked = any(word.lstrip("+").startswith("cluster.ranks") for word in arguments)
    # No rank is started: a host with room for one is as good as any.
    ranks = () if asked else ("cluster.ranks=null", "cluster.ranks_per_host=1")
    job = _job_of([*ranks, *arguments], config_dirs)
    with catch_stop_requests() as stops:
        hosts = ask_hosts(job.spec, job.plan, os.environ, lambda: stops.asked)
    if stops.asked:
        raise Interrupted(f"stopped by {stops.first}")
    return hosts, tuple(job.composition.notes)


def _job_of(arguments: Sequence[str], config_dirs: Sequence[Path]) -> PreparedJob:
    """The job that is asked about: a small one unless another is named."""
    named = any(word.lstrip("+").startswith("benchmark=") for word in arguments)
    words = [*arguments] if named else ["benchmark=kvcache/quick", *arguments]
    return prepare(words, config_dirs)


def rerun(arguments: Sequence[str], *, as_json: bool) -> int:
    """`mlps rerun ARCHIVE`: the same job once more."""
    return _run(rerun_request(_archive_of("rerun", arguments)), (), as_json)


def resume(arguments: Sequence[str], *, as_json: bool) -> int:
    """`mlps resume ARCHIVE`: the rest of a job."""
    return _run(resume_request(_archive_of("resume", arguments)), (), as_json)


def _archive_of(command: str, arguments: Sequence[str]) -> Path:
    """The archive that is named by its path, or by the begin of its name in results/."""
    return archive_named(one_path(command, arguments), Path("results"))


# ---------------------------------------------------------------- running and showing


def _run(request: Request, notes: Sequence[str], as_json: bool) -> int:
    _show_notes(notes)
    with catch_stop_requests() as stops, open_display(sys.stderr) as display:
        done = run_job(request, display, stops)
    _show_run(done, as_json)
    return done.exit_code


def _show_run(done: Report, as_json: bool) -> None:
    published = read_published(done.archive)
    if as_json:
        doubts = [doubt.as_document() for doubt in done.doubts]
        print_json(published.as_document() | {"exit_code": done.exit_code, "doubts": doubts})
    else:
        write_report(sys.stdout, published)
    sys.stderr.write(f"archive {done.archive.root}\n")
    for doubt in done.doubts:
        sys.stderr.write(f"{doubt}\n")
    if done.doubts:
        clocks = any(doubt.rule == "EVD-05" for doubt in done.doubts)
        why = "was a clock set meanwhile?" if clocks else "please report it: its engine is wrong"
        sys.stderr.write(f"  hint: mlps verify will refuse this archive; {why}\n")
    failure = done.result["failure"]
    if failure is not None:
        logs = done.archive.path(f"stages/{failure['stage']}")
        sys.stderr.write(f"logs of the stage that failed: {logs}\n")


def _show_notes(notes: Sequence[str]) -> None:
    for note in notes:
        sys.stderr.write(f"note: {note}\n")


def _write_plan(
    job: PreparedJob, verdict: str, findings: Sequence[Finding], sizes: Sequence[str]
) -> None:
    spec, steps = job.spec, job.plan
    print(f"job {spec.sha256}")
    place = f"{numbered(steps.ranks, 'rank')} on {numbered(len(steps.hosts), 'host')}"
    print(f"{spec.benchmark}, {place}, launcher {spec.launcher.name}")
    print(f"data_dir {spec.data_dir}\nresults_dir {spec.results_dir}")
    print(f"division {spec.division.name} of edition {spec.edition}: would be {verdict}")
    for line in sizes:
        print(line)
    for finding in findings:
        print(finding)
    if steps.hostfile is not None:
        print(f"hostfile ({HOSTFILE}): {host_ranges(steps.hosts)}")
    for launch in steps.launches:
        condition = "" if launch.when == "success" else f", runs {launch.when}"
        ranks = numbered(launch.ranks, "rank")
        print(f"\n{launch.name}: {ranks}, limit {launch.time_limit_s:g} s{condition}")
        print("  " + shlex.join(launch.argv))
        if launch.command is not None:
            _write_command(launch.command)


def _write_command(command: Command) -> None:
    """What a process of a launch starts; what only it knows stands in braces."""
    document = command.as_document()
    words = [f"{name}={value}" for name, value in document["environment"].items()]
    print("  each starts: " + shlex.join([*words, *document["argv"]]))
    for name, lines in document["files"].items():
        print(f"  with {name}:")
        print("".join(f"    {line}\n" for line in lines), end="")

"""Checks all hosts of a job before anything is written, and reports all findings together."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import directories, host_rules
from .canonical import Document
from .children import Answer, Command, run_all
from .environment import content_sha256, mlps_version
from .hints import install_hint
from .host_probe import Request, host_facts, mpi_argv, mpi_facts
from .hosts import Host
from .launch import JOB_VARIABLE, RUN_VARIABLE, build_argv
from .lockfile import Lockfile, compare, in_words, pip_commands, read_lockfile
from .lockfile import names as names_of
from .muster import Muster, call_muster, judge_muster
from .needs import Needs, largest, needs_commands, needs_of, refusal
from .options import find_options
from .plan import Plan
from .rank_environment import find_program, rank_environment
from .reach import (
    Probed,
    Question,
    by_launcher,
    by_ssh,
    is_here,
    own_addresses,
    parse_facts,
    trouble_of,
)
from .rules import Finding, Severity, errors, remark
from .signals import StopRequests
from .spec import JobSpec

SHORT_LIMIT_S = 10.0

# Findings of these rules about a host mean that a rank cannot run there.
_BARS_A_HOST = frozenset({"ENV-04", "ENV-05", "ENV-06", "ENV-07", "ENV-09", "DIR-01"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What preflight found: the launcher's program, the engine's needs, the hosts, all findings."""

    program: Path | None
    launcher_version: str | None
    needs: Needs | None
    probed: tuple[Probed, ...]
    muster: Muster | None
    fs_separation: Document
    lockfile: Lockfile | None
    findings: tuple[Finding, ...]

    def evidence(self) -> Document:
        """What environment.json holds of it."""
        return {
            "needs": None if self.needs is None else self.needs.as_document(),
            "preflight": [finding.as_document() for finding in self.findings],
            "hosts": host_rules.hosts_document(self.probed),
            "muster": None if self.muster is None else self.muster.as_document(),
            "fs_separation": self.fs_separation,
        }


def check_machine(
    spec: JobSpec, plan: Plan, environ: Mapping[str, str], stops: StopRequests | None = None
) -> Machine:
    """Check this machine and all hosts for a job. Writes nothing that stays.

    Raises ConfigError where the job's lock file cannot be read.
    """
    check = _Check(
        spec=spec,
        plan=plan,
        environ=environ,
        lockfile=None if spec.lockfile is None else read_lockfile(spec.lockfile),
        env=rank_environment(spec, "preflight", environ),
        stops=stops or StopRequests(),
    )
    program = _program(check)
    replies = _ask_here(check, program)
    needs = _needs(check, replies)
    probed = _probe_hosts(check, needs, replies, program)
    separation = _separation(check, probed)
    findings = [
        *check.findings,
        *_launcher_findings(check, program, replies, probed),
        *_host_findings(check, needs, probed),
        *_directory_findings(check, needs, probed, separation),
    ]
    muster = None
    if len(spec.cluster.hosts) > 1:
        muster, found = _muster(check, program, probed, findings)
        findings += found
    found_all = host_rules.merged(findings, spec.cluster.names)
    return Machine(
        program=program,
        launcher_version=replies.version,
        needs=needs,
        probed=probed,
        muster=muster,
        fs_separation=separation,
        lockfile=check.lockfile,
        findings=_skipped(found_all, spec.preflight.skip),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One check: the job, the environment of its ranks, and what was found on the way."""

    spec: JobSpec
    plan: Plan
    environ: Mapping[str, str]
    env: Mapping[str, str]
    lockfile: Lockfile | None
    stops: StopRequests
    findings: list[Finding] = field(default_factory=list)

    @property
    def bare_env(self) -> dict[str, str]:
        """The environment of ranks without the job, which a probe does not need."""
        own = (JOB_VARIABLE, RUN_VARIABLE)
        return {name: value for name, value in self.env.items() if name not in own}

    def skips(self, rule: str) -> bool:
        return rule in self.spec.preflight.skip

    @property
    def has_allocation(self) -> bool:
        """Whether the launcher can work here: without its allocation it may wait for ever."""
        return all(name in self.env for name in self.spec.launcher.needs_env)

    def stopped(self) -> bool:
        return self.stops.asked


def _program(check: _Check) -> Path | None:
    """The file of argv[0]: the launcher's program, or the ranks' Python where there is none."""
    launcher, plan = check.spec.launcher, check.plan
    return find_program(plan.program or plan.python, check.env, launcher.beside)


# ---------------------------------------------------------------- programs on this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replies:
    """What programs on this machine have said: engine, MPI library, launcher."""

    needs: tuple[Answer, ...]
    mpi: Document | None
    version: str | None


def _ask_here(check: _Check, program: Path | None) -> _Replies:
    """All programs at a time: a job on one machine starts no later for being checked."""
    spec, plan, bare = check.spec, check.plan, check.bare_env
    python = plan.python if _has_local_host(spec) else sys.executable
    needs = needs_commands(spec, python, plan.ranks, check.env)
    others: dict[str, Command] = {}
    if spec.launcher.many_ranks and _has_local_host(spec):
        argv = mpi_argv(plan.python)
        others["mpi"] = Command(argv=argv, env=bare, limit_s=SHORT_LIMIT_S)
    if spec.launcher.program is not None and program is not None:
        argv = (str(program), "--version")
        others["version"] = Command(argv=argv, env=bare, limit_s=SHORT_LIMIT_S)
    answers = run_all([*needs, *others.values()], stopped=check.stopped)
    named = dict(zip(others, answers[len(needs) :], strict=True))
    mpi, version = named.get("mpi"), named.get("version")
    return _Replies(
        needs=tuple(answers[: len(needs)]),
        mpi=None if mpi is None else mpi_facts(mpi.exit_status, mpi.stdout, mpi.stderr),
        version=None if version is None else _version(version),
    )


def _has_local_host(spec: JobSpec) -> bool:
    addresses = own_addresses()
    return any(is_here(name, addresses) for name in spec.cluster.names)


def _version(answer: Answer) -> str | None:
    lines = [" ".join(line.text.split()) for line in answer.lines]
    return "; ".join([line for line in lines if line][:2]) or None


def _needs(check: _Check, replies: _Replies) -> Needs | None:
    """The largest needs of all options, as the engine states them."""
    found: list[Needs] = []
    for answer in replies.needs:
        try:
            found.append(needs_of(answer))
        except (ValueError, KeyError, TypeError) as error:
            said = str(error) if answer.exit_status != 0 else f"{type(error).__name__}: {error}"
            check.findings.append(refusal(check.spec, said))
            return None
    return largest(found)


# ---------------------------------------------------------------- the hosts


def _probe_hosts(
    check: _Check, needs: Needs | None, replies: _Replies, program: Path | None
) -> tuple[Probed, ...]:
    """All hosts of the job in its order, with their facts or with why there are none."""
    spec, names = check.spec, check.spec.cluster.names
    addresses = own_addresses()
    here = {name for name in names if is_here(name, addresses)}
    locked = () if check.lockfile is None else names_of(check.lockfile)
    request = Request(
        packages=tuple(sorted({*locked, *(() if needs is None else needs.packages)})),
        programs=() if needs is None else needs.programs,
        data_dir=str(spec.data_dir),
        mpi=spec.launcher.many_ranks,
        env=check.bare_env,
    )
    found: dict[str, Probed] = {}
    if here:
        probed = _probe_here(check, request, replies.mpi)
        found |= {name: replace(probed, name=name) for name in here}
    others = [host for host in spec.cluster.hosts if host.name not in here]
    if others and not check.skips("ENV-04"):
        found |= _probe_others(check, others, request, program)
    return tuple(found.get(name, Probed(name=name, here=False)) for name in names)


def _probe_here(check: _Check, request: Request, mpi: Document | None) -> Probed:
    """This machine: by a call, or by a child where the ranks have another interpreter."""
    if check.plan.python == sys.executable:
        facts = host_facts(request, request.env, mpi=mpi)
        return Probed(name="", here=True, facts=facts, clock_offset_s=0.0)
    argv = (check.plan.python, "-P", "-m", "mlps.engine.host_probe")
    command = Command(argv=argv, env=request.env, limit_s=SHORT_LIMIT_S, stdin=request.as_json())
    (answer,) = run_all([command], stopped=check.stopped)
    for line in answer.lines:
        if (known := parse_facts(line.text)) is not None:
            return Probed(name="", here=True, facts=known, clock_offset_s=0.0)
    if answer.start_error is not None:
        answer = replace(answer, exit_status=127, start_error=None)
    return Probed(name="", here=True, trouble=trouble_of(answer, check.plan.python))


def _probe_others(
    check: _Check, hosts: Sequence[Host], request: Request, program: Path | None
) -> dict[str, Probed]:
    spec, launcher = check.spec, check.spec.launcher
    names = [host.name for host in hosts]
    if launcher.reach == "ssh" and launcher.ssh is not None:
        probe = (check.plan.python, "-P", "-m", "mlps.engine.host_probe")
        return by_ssh(
            names,
            Question(argv=probe, stdin=request.as_json()),
            ssh=launcher.ssh,
            env=check.bare_env,
            limit_s=spec.preflight.ssh_limit_s,
            stopped=check.stopped,
        )
    if launcher.reach == "launcher" and program is not None and check.has_allocation:
        argv = build_argv(
            launcher,
            (check.plan.python, "-P", "-m", "mlps.engine.host_probe", request.as_argument()),
            hosts=[replace(host, ranks=1) for host in hosts],
            program=str(program),
            variables=check.plan.variables,
        )
        # The launcher hands on variables by name, so that all of them must be there.
        env, limit_s = dict(check.env), spec.preflight.launch_limit_s
        return by_launcher(names, argv, env=env, limit_s=limit_s, stopped=check.stopped)
    return {}


def _host_findings(
    check: _Check, needs: Needs | None, probed: Sequence[Probed]
) -> Iterator[Finding]:
    spec = check.spec
    ssh = spec.launcher.ssh or "ssh"
    yield from _ssh_missing(check, probed)
    yield from host_rules.judge_reach(
        [host for host in probed if host.trouble is None or host.trouble.kind != "ssh"],
        ssh=ssh,
        limits=spec.preflight,
    )
    yield from host_rules.judge_software(probed, _reference(check, probed))
    yield from host_rules.judge_setting(probed)
    yield from host_rules.judge_likeness(host_rules.traits_of(probed))
    if check.lockfile is not None:
        locked = names_of(check.lockfile)
        for host, facts in host_rules.with_facts(probed):
            yield from lockfile_findings(
                check.lockfile,
                {name: facts["packages"].get(name) for name in locked},
                python=str(facts["executable"]),
                host=host.name,
            )
    if needs is not None:
        ranks = {host.name: host.ranks for host in spec.cluster.hosts}
        yield from host_rules.judge_dependencies(
            probed, needs.packages, needs.programs, spec.benchmark, _installs(spec)
        )
        yield from host_rules.judge_memory(
            probed, ranks, needs.memory_bytes_per_rank, needs.memory_arithmetic
        )
        yield from host_rules.judge_open_files(probed, needs.open_files_per_rank)


def _installs(spec: JobSpec) -> dict[str, dict[str, str]]:
    """What installs the programs of a foreign benchmark, as its YAML says."""
    programs = spec.document["benchmark"].get("programs", ())
    return {entry["program"]: entry["install"] for entry in programs if entry["install"]}


def lockfile_findings(
    lockfile: Lockfile, versions: Mapping[str, str | None], *, python: str, host: str | None = None
) -> Iterator[Finding]:
    """What must be mended before the packages of a host's Python are those of the lock file."""
    flaws = compare(lockfile, versions).flaws()
    if flaws:
        yield Finding(
            rule="PKG-03",
            severity="error",
            key="lockfile",
            text=f"{lockfile.path}: {in_words(flaws)}",
            hint="; ".join(pip_commands(flaws, python)),
            host=host,
        )


def _reference(check: _Check, probed: Sequence[Probed]) -> host_rules.Reference:
    """mlps of this machine; its Python too, unless the cluster names another for all hosts."""
    python = platform.python_version()
    if check.spec.cluster.python is not None:
        versions = [facts["python"] for _, facts in host_rules.with_facts(probed)]
        python = versions[0] if versions else python
    return host_rules.Reference(
        python=python, version=mlps_version(), content_sha256=content_sha256()
    )


def _ssh_missing(check: _Check, probed: Sequence[Probed]) -> Iterator[Finding]:
    """One finding of this machine, not one of every host that it cannot ask."""
    for host in probed:
        if host.trouble is not None and host.trouble.kind == "ssh":
            yield Finding(
                rule="ENV-04",
                severity="error",
                key="launcher.ssh",
                text=f"{check.spec.launcher.ssh}, by which launcher {check.spec.launcher.name} "
                "reaches hosts, is not installed on this machine",
                hint=f"{install_hint('ssh', _this_machine())}; or launcher.ssh=PROGRAM",
            )
            return


def _this_machine() -> Document:
    return host_facts(Request(env={}), {})


# ---------------------------------------------------------------- launcher and directories


def _launcher_findings(
    check: _Check, program: Path | None, replies: _Replies, probed: Sequence[Probed]
) -> Iterator[Finding]:
    spec, launcher = check.spec, check.spec.launcher
    if program is None:
        yield _no_launcher(spec, check.plan.python, check.env)
        return
    yield from host_rules.judge_mpi(
        probed,
        wanted=launcher.mpi,
        launcher=launcher.name,
        program=None if launcher.program is None else str(program),
        version=replies.version or "",
    )
    yield from host_rules.judge_allocation(
        launcher=launcher.name, needed=launcher.needs_env, present=check.env
    )
    yield from host_rules.judge_root(
        family=host_rules.mpi_family(replies.version or "") or launcher.mpi,
        may_run_as_root=launcher.run_as_root or _root_by_variables(check.env),
        by_scheduler=launcher.reach == "launcher" and launcher.parts.get("run_as_root") is None,
        uid=os.getuid(),
    )


def _root_by_variables(env: Mapping[str, str]) -> bool:
    """Open MPI's own switch, which needs both words."""
    names = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    return all(env.get(name) == "1" for name in names)


def _no_launcher(spec: JobSpec, python: str, env: Mapping[str, str]) -> Finding:
    launcher = spec.launcher
    name = launcher.program or "the Python of cluster.python"
    beside = "" if launcher.beside is None else f", with {launcher.beside} beside it"
    hint = install_hint(name, _this_machine(), launcher.install, python=python)
    return Finding(
        rule="ENV-01",
        severity="error",
        key="launcher",
        text=f"{name} of launcher {launcher.name} was not found on PATH{beside}",
        hint=f"{hint}{_instead(env)}" if launcher.program is not None else "cluster.python=PATH",
    )


def _instead(env: Mapping[str, str]) -> str:
    """Launchers that would reach hosts by ssh and are installed, for a hint."""
    found = []
    for option in find_options("launcher", ()):
        values = option.values()
        program, by_ssh_too = values.get("program"), values.get("reach", "ssh") == "ssh"
        if program is None or not by_ssh_too:
            continue
        if find_program(program, env, values.get("beside")) is not None:
            found.append(f"launcher={option.name}")
    return f"; installed are {', '.join(found)}" if found else ""


def _separation(check: _Check, probed: Sequence[Probed]) -> Document:
    spec = check.spec
    elsewhere = () if any(host.here for host in probed) else probed
    return directories.probe_separation(spec.data_dir, spec.results_dir, elsewhere)


def _directory_findings(
    check: _Check, needs: Needs | None, probed: Sequence[Probed], separation: Document
) -> Iterator[Finding]:
    spec = check.spec
    yield from directories.judge_data_dir(probed)
    yield from directories.judge_results_dir(spec.results_dir)
    yield from directories.judge_separation(
        spec.data_dir, spec.results_dir, separation, remark(spec)
    )
    if needs is not None:
        yield from directories.judge_space(probed, needs.disk_bytes, needs.disk_arithmetic)


# ---------------------------------------------------------------- the trial launch


def _muster(
    check: _Check, program: Path | None, probed: Sequence[Probed], findings: Sequence[Finding]
) -> tuple[Muster | None, list[Finding]]:
    """The trial launch over the hosts that can run a rank, or why there was none."""
    reason, hosts = _who_musters(check, program, probed, findings)
    if reason is not None or program is None:
        text = f"no trial launch was made: {reason}; launcher, network and data_dir are not tried"
        severity: Severity = "warning" if check.skips("ENV-11") else "info"
        return None, [Finding(rule="ENV-11", severity=severity, key="launcher", text=text)]
    muster = call_muster(
        check.spec,
        hosts,
        plan=check.plan,
        program=program,
        environ=check.environ,
        stops=check.stops,
    )
    return muster, list(judge_muster(muster, probed, check.spec.data_dir))


def _who_musters(
    check: _Check, program: Path | None, probed: Sequence[Probed], findings: Sequence[Finding]
) -> tuple[str | None, list[Host]]:
    if check.skips("ENV-11"):
        return "preflight.skip holds ENV-11", []
    if check.stops.asked:
        return "the check was stopped", []
    if program is None:
        return "the launcher is not installed", []
    found = errors(findings)
    barring = ("ENV-07", "ENV-10", "ENV-17")
    if any(finding.rule in barring and finding.host is None for finding in found):
        return "the launcher cannot start ranks", []
    barred = {finding.host for finding in found if finding.rule in _BARS_A_HOST}
    unknown = {host.name for host in probed if host.facts is None and not check.skips("ENV-04")}
    hosts = [host for host in check.spec.cluster.hosts if host.name not in barred | unknown]
    if len(hosts) < 2:
        return "fewer than 2 hosts can run a rank", []
    return None, hosts


def _skipped(findings: Sequence[Finding], skip: Sequence[str]) -> tuple[Finding, ...]:
    """Errors of rules that the job skips do not stop it, but are said."""

    def change(finding: Finding) -> Finding:
        if finding.rule not in skip or finding.severity != "error":
            return finding
        text = f"{finding.text} (does not stop the job: preflight.skip)"
        return replace(finding, severity="warning", text=text)

    changed = [change(finding) for finding in findings]
    return tuple(sorted(changed, key=host_rules.order))

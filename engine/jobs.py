"""From overrides to a planned job: the pure front half that run, plan, doctor and sweep share."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .allocation import find_hosts
from .compose import Composition, compose
from .errors import ConfigError, problem_at
from .lockfile import read_lockfile
from .options import user_conf_dirs
from .plan import Plan, make_plan
from .rank_environment import find_program, rank_environment
from .rules import check_skips
from .schema import check
from .spec import SWEEP_KEYS, JobSpec, build
from .system_source import find_description


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """A composed, checked and planned job."""

    composition: Composition
    spec: JobSpec
    plan: Plan
    fail_fast: bool


def prepare(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> PreparedJob:
    """Compose, check and plan a job. Raises ConfigError with all problems of the configuration."""
    composed = compose(overrides, conf_dirs=conf_dirs(config_dirs), cwd=Path.cwd())
    composition = find_description(find_hosts(composed, os.environ))
    where = {key: origin.where for key, origin in composition.origins.items()}
    document = {key: value for key, value in composition.values.items() if key not in SWEEP_KEYS}
    # A value that is missing or cannot be resolved is reported once, not also as a wrong type.
    missing = {problem.key for problem in composition.problems}
    problems = [*composition.problems]
    problems += [problem for problem in check(document, where) if problem.key not in missing]
    if problems:
        raise ConfigError.of(problems)
    spec = build(document, where)
    check_skips(spec)
    _check_lockfile(spec, where)
    return PreparedJob(
        composition=composition,
        spec=spec,
        plan=plan_here(spec),
        fail_fast=composition.values.get("fail_fast") is True,
    )


def plan_here(spec: JobSpec) -> Plan:
    """The plan of a job that is started from this machine."""
    launcher = spec.launcher
    env = rank_environment(spec, "plan", os.environ)
    name = launcher.program
    found = None if name is None else find_program(name, env, launcher.beside)
    return make_plan(
        spec, python=sys.executable, program=None if found is None else str(found), present=env
    )


def _check_lockfile(spec: JobSpec, where: Mapping[str, str]) -> None:
    """Refuse a lock file that cannot be read; preflight compares what it pins."""
    if spec.lockfile is None:
        return
    try:
        read_lockfile(spec.lockfile)
    except ConfigError as error:
        problem = problem_at("lockfile", error.message, where, hint=error.hint)
        raise ConfigError.of([problem]) from error


def conf_dirs(config_dirs: Sequence[Path]) -> tuple[Path, ...]:
    """A user's directories: those of --config-dir, of MLPS_CONF_PATH, and ./conf."""
    found = user_conf_dirs(Path.cwd(), os.environ.get("MLPS_CONF_PATH"))
    return tuple(dict.fromkeys((*(path.resolve() for path in config_dirs), *found)))

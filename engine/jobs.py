"""From overrides to a planned job: the pure front half that run, plan, doctor and sweep share."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .compose import Composition, compose
from .errors import ConfigError
from .options import user_conf_dirs
from .plan import Plan, make_plan
from .schema import check
from .spec import SWEEP_KEYS, JobSpec, build


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """A composed, checked and planned job."""

    composition: Composition
    spec: JobSpec
    plan: Plan
    fail_fast: bool


def prepare(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> PreparedJob:
    """Compose, check and plan a job. Raises ConfigError with all problems of the configuration."""
    composition = compose(overrides, conf_dirs=conf_dirs(config_dirs), cwd=Path.cwd())
    where = {key: origin.where for key, origin in composition.origins.items()}
    document = {key: value for key, value in composition.values.items() if key not in SWEEP_KEYS}
    # A value that is missing or cannot be resolved is reported once, not also as a wrong type.
    missing = {problem.key for problem in composition.problems}
    problems = [*composition.problems]
    problems += [problem for problem in check(document, where) if problem.key not in missing]
    if problems:
        raise ConfigError.of(problems)
    spec = build(document, where)
    return PreparedJob(
        composition=composition,
        spec=spec,
        plan=make_plan(spec, python=sys.executable),
        fail_fast=composition.values.get("fail_fast") is True,
    )


def conf_dirs(config_dirs: Sequence[Path]) -> tuple[Path, ...]:
    """A user's directories: those of --config-dir, of MLPS_CONF_PATH, and ./conf."""
    found = user_conf_dirs(Path.cwd(), os.environ.get("MLPS_CONF_PATH"))
    return tuple(dict.fromkeys((*(path.resolve() for path in config_dirs), *found)))

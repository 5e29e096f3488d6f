"""The environment of launcher and ranks: what a job and its launcher name, nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from .launch import JOB_VARIABLE, RUN_VARIABLE
from .spec import JobSpec


def rank_environment(spec: JobSpec, run_id: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of launcher and ranks: the job, and what the launcher's YAML forwards.

    Programs that were installed beside the running Python are found first. In `launcher.env`,
    {prefix} is the directory of the ranks' Python environment.
    """
    launcher = spec.launcher
    prefix = str(Path(spec.cluster.python or sys.executable).parent.parent)
    forms = (*launcher.forward_env, *launcher.scheduler_env)
    env = {
        name: value
        for name, value in environ.items()
        if any(fnmatchcase(name, form) for form in forms)
    }
    own = str(Path(sys.executable).parent)
    env["PATH"] = os.pathsep.join([own, env.get("PATH", os.defpath)])
    own_env = {name: value.replace("{prefix}", prefix) for name, value in launcher.env.items()}
    return {**env, **own_env, JOB_VARIABLE: spec.env_value, RUN_VARIABLE: run_id}


def find_program(name: str, env: Mapping[str, str], beside: str | None = None) -> Path | None:
    """The file of a program by its name or path, as a launch with this environment finds it.

    With `beside` a name counts only in a directory where that program is as well.
    """
    if beside is None or os.sep in name:
        found = shutil.which(name, path=env["PATH"])
        return None if found is None else Path(found)
    for directory in env["PATH"].split(os.pathsep):
        found = shutil.which(name, path=directory)
        if found is not None and shutil.which(beside, path=directory):
            return Path(found)
    return None

"""The text of `mlps --help`: groups, options, commands, examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .options import GROUPS, find_options

INTRO = """\
mlps measures storage the way AI systems use it.

  mlps benchmark=NAME [group=OPTION] [key=value]...   run one job
  mlps -m key=a,b ...                                 a sweep: one job per combination
  mlps COMMAND ...                                    one of the commands below

Options, by group:
"""

COMMANDS = """\

Commands:
  plan     [overrides] [--json]      what would run, to the last argument, and how it would count
  doctor   [overrides] [--json]      check this machine for a job, without running it
  facts    [overrides] [--json]      the machines of a cluster, without running anything
  verify   PATH... [--json|--sarif]  recompute what archives and trees of results claim
  report   PATH... [--json|--csv|--table|--markdown|--html OUT|--dlio|--vdbbench]  the numbers
  compare  A B [--json|--markdown]   what differs between two archives, and by how much
  history  [RESULTS_DIR] [--json]    the archives of a results directory
  rerun    ARCHIVE [--json]          the same job once more
  resume   ARCHIVE [--json]          the rest of a job that was stopped or failed
  package  ARCHIVE... --org NAME --out DIR  the tree that is handed in (--system, --pdf, --json)
  system   init NAME | check FILE    describe the system under test, and judge its description
  lockfile generate|verify [--help]  pin the packages that a job runs with, and compare them

Root keys: data_dir (the storage under test), results_dir, seed, trials, stages,
  preflight, monitor, lockfile, fail_fast (sweeps).
Flags: --json, --config-dir DIR, --cfg job, --version, -sc install=bash (completion).
Own options: files in ./conf or MLPS_CONF_PATH, such as conf/cluster/mylab.yaml.
Exit codes: 0 valid, 2 configuration, 3 machine not ready, 4 stage failed, 5 results unusable,
  6 archive broken, 7 not compliant, 130 interrupted, 1 a bug.

Examples:
  mlps benchmark=kvcache/quick cluster=local
  mlps benchmark=kvcache/quick data_dir=/mnt/storage benchmark.users=8
  mlps -m benchmark=kvcache/quick benchmark.users=2,4,8
  mlps plan benchmark=kvcache/quick cluster=8node launcher=openmpi
"""


def help_text(conf_dirs: Sequence[Path]) -> str:
    """The whole help, with the options that there are now."""
    lines = []
    for group in GROUPS:
        for index, option in enumerate(find_options(group, conf_dirs)):
            head = f"{group}=" if index == 0 else ""
            lines.append(f"  {head:<11}{option.name:<16} {option.summary}".rstrip())
    return INTRO + "\n".join(lines) + "\n" + COMMANDS

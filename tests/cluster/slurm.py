"""A real Slurm over the hosts of a test. It ends with its hosts."""

from __future__ import annotations

import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from .hosts import SYSTEM_PATH, Cluster, Node

START_LIMIT_S = 30.0

# Each host has a /run of its own, and there is a Slurm in no other way than through SLURM_CONF.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost=head({address})
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=/run/slurmctld
SlurmctldPidFile=/run/slurmctld.pid
SlurmctldLogFile={directory}/head/slurmctld.log
SlurmdSpoolDir=/run/slurmd
SlurmdPidFile=/run/slurmd.pid
SlurmdLogFile={directory}/%n/slurmd.log
NodeName={nodes} CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=test Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
"""

CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
"""

# slurmd wants control groups, which the machine may keep elsewhere.
CONTROL_GROUPS = """\
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/freezer
mount -t cgroup -o freezer cgroup /sys/fs/cgroup/freezer
"""


def missing() -> str | None:
    """Why there can be no Slurm on this machine, which can make hosts; None: there can."""
    for program, package in (("slurmctld", "slurm-wlm"), ("munged", "munge")):
        if shutil.which(program, path=SYSTEM_PATH) is None:
            return f"needs {program}: apt-get install {package}"
    if "freezer" not in Path("/proc/cgroups").read_text():
        return "needs control groups of version 1, for slurmd"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """Slurm on hosts of a cluster; its programs run in `head`, with `env`."""

    cluster: Cluster
    conf: Path

    @property
    def env(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.conf)}


def start_slurm(cluster: Cluster, *, cpus: int = 2) -> Slurm:
    """Start Slurm on all hosts; returns when every node takes jobs."""
    directory = cluster.directory / "slurm"
    directory.mkdir()
    conf = directory / "slurm.conf"
    conf.write_text(
        SLURM_CONF.format(
            address=cluster.head.address,
            directory=cluster.directory,
            nodes=",".join(cluster.names),
            cpus=cpus,
        )
    )
    (directory / "cgroup.conf").write_text(CGROUP_CONF)
    key = directory / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    for node in (cluster.head, *cluster.nodes):
        _start_munge(node, key)
    _succeed(cluster.head, "mkdir", "/run/slurmctld")
    _succeed(cluster.head, "slurmctld", "-f", str(conf))
    for node in cluster.nodes:
        _succeed(node, "sh", "-ec", CONTROL_GROUPS)
        _succeed(node, "slurmd", "-N", node.name, "-f", str(conf))
    slurm = Slurm(cluster=cluster, conf=conf)
    _wait_until_idle(slurm)
    return slurm


def _start_munge(node: Node, key: Path) -> None:
    _succeed(node, "mkdir", "/run/munge")
    _succeed(
        node,
        "munged",
        "--force",  # it would rather not be root's
        f"--key-file={key}",
        f"--log-file={node.home}/munged.log",
        f"--seed-file={node.home}/munged.seed",
    )


def _succeed(node: Node, *argv: str) -> str:
    done = node.run(argv)
    assert done.returncode == 0, f"{node.name}: {' '.join(argv)}: {done.stderr}"
    return done.stdout


def _wait_until_idle(slurm: Slurm) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    wanted = ["idle"] * len(slurm.cluster.nodes)
    while True:
        seen = slurm.cluster.head.run(["sinfo", "-h", "-N", "-o", "%T"], env=slurm.env)
        if seen.stdout.split() == wanted:
            return
        assert time.monotonic() < deadline, f"sinfo: {seen.stdout}{seen.stderr}"
        time.sleep(0.1)

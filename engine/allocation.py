"""Where hosts come from when a job does not list them: a hostfile or a scheduler's allocation.

The job that is archived lists the hosts that were found, so that it does not depend on them again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .canonical import Document
from .compose import Composition, Origin
from .errors import Problem
from .hosts import Slots, expand_hosts, host_patterns

_REPEATED = re.compile(r"(?P<slots>[0-9]+)(\(x(?P<hosts>[0-9]+)\))?")

# What a line of a hostfile may say after the host, in the dialects of the MPIs.
_SLOT_WORD = re.compile(r"(?:slots|max[-_]slots)=(?P<slots>[1-9][0-9]*)")

OUTSIDE_HINT: Mapping[str, str] = {
    "slurm": "run it inside one: salloc -N 2 --ntasks-per-node=2 mlps ...",
    "pbs": "run it inside one: qsub -I -l select=2:ncpus=2",
}


def find_hosts(composition: Composition, environ: Mapping[str, str]) -> Composition:
    """The composition with the hosts of its hostfile or allocation, or with a problem more."""
    cluster = composition.values.get("cluster")
    if not isinstance(cluster, dict):
        return composition
    sources = [name for name in ("hostfile", "allocation") if cluster.get(name) is not None]
    if not sources:
        return composition
    key = f"cluster.{sources[0]}"
    try:
        found = _hosts_from(sources, cluster, composition.origins, environ)
    except (LookupError, ValueError, OSError) as error:
        problem = Problem(
            key=key,
            text=_words(error),
            where=composition.origins[key].where if key in composition.origins else "",
            hint=OUTSIDE_HINT.get(cluster[sources[0]]) if isinstance(error, LookupError) else None,
        )
        # The list that stays empty is no second problem.
        some = composition.values | {"cluster": cluster | {"hosts": ["localhost"]}}
        return replace(composition, values=some, problems=(*composition.problems, problem))
    where = f"{sources[0]} {cluster[sources[0]]}"
    return replace(
        composition,
        values=composition.values | {"cluster": cluster | {"hosts": found}},
        origins=composition.origins | {"cluster.hosts": Origin(kind="found", where=where)},
    )


def _hosts_from(
    sources: Sequence[str],
    cluster: Document,
    origins: Mapping[str, Origin],
    environ: Mapping[str, str],
) -> list[str]:
    source = sources[0]
    if len(sources) > 1:
        raise ValueError("hosts come from a hostfile or from an allocation, not from both")
    listed = origins.get("cluster.hosts")
    if cluster.get("hosts") and listed is not None and not _gives_way(listed, origins, source):
        raise ValueError(
            f"the hosts come from {cluster[source]}, but cluster.hosts lists some as well "
            f"({listed.where}); leave one of the two out"
        )
    if source == "hostfile":
        return read_hostfile(Path(str(cluster["hostfile"])))
    if cluster["allocation"] not in OUTSIDE_HINT:
        return []  # the schema says what may stand here
    return allocated_hosts(cluster["allocation"], environ)


def _gives_way(listed: Origin, origins: Mapping[str, Origin], source: str) -> bool:
    """Whether a list of hosts is only what stood there before the user asked for another source."""
    own = origins.get(f"cluster.{source}")
    typed = own is not None and own.kind == "override"
    return listed.kind == "packaged" or (listed.kind == "user" and typed)


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename} cannot be read: {error.strerror}"
    return str(error.args[0])


def allocated_hosts(scheduler: str, environ: Mapping[str, str]) -> list[str]:
    """Host patterns of the allocation in which this process runs.

    Slurm: SLURM_JOB_NODELIST, with the tasks of each node as its slots; PBS and PALS: the file
    PBS_NODEFILE.
    Raises LookupError outside of one, ValueError and OSError where it cannot be read.
    """
    if scheduler == "slurm":
        return _slurm_hosts(environ)
    path = environ.get("PBS_NODEFILE")
    if path is None:
        raise LookupError("PBS_NODEFILE is not set: this is not inside an allocation of PBS")
    return read_hostfile(Path(path))


def read_hostfile(path: Path) -> list[str]:
    """Host patterns of a hostfile. Raises OSError, ValueError with the line that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file") from error
    return parse_hostfile(text, str(path))


def parse_hostfile(text: str, source: str) -> list[str]:
    """Host patterns of the lines `node1`, `node1:4`, `node1 slots=4`, `node[1-8]:4`; # comments.

    A host on several lines has the slots of all of them. Raises ValueError.
    """
    slots: dict[str, int | None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            for host in _line_hosts(line):
                if host.name in slots:
                    slots[host.name] = (slots[host.name] or 1) + (host.slots or 1)
                else:
                    slots[host.name] = host.slots
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: {error}") from None
    if not slots:
        raise ValueError(f"{source} names no host")
    return host_patterns([Slots(name=name, slots=count) for name, count in slots.items()])


def _line_hosts(line: str) -> Sequence[Slots]:
    words = line.partition("#")[0].split()
    if not words:
        return ()
    hosts = expand_hosts(words[:1])
    for word in words[1:]:
        match = _SLOT_WORD.fullmatch(word)
        if match is None:
            raise ValueError(f"{word!r} is not understood; the form is: node1 slots=4")
        if word.startswith("slots"):
            hosts = tuple(replace(host, slots=int(match["slots"])) for host in hosts)
    return hosts


def _slurm_hosts(environ: Mapping[str, str]) -> list[str]:
    nodes = environ.get("SLURM_JOB_NODELIST")
    if nodes is None:
        raise LookupError(
            "SLURM_JOB_NODELIST is not set: this is not inside an allocation of Slurm"
        )
    hosts = expand_hosts(split_nodelist(nodes))
    # Within a step the tasks are those of the step, which may be this program alone.
    in_step = "SLURM_STEP_ID" in environ
    variable = "SLURM_JOB_CPUS_PER_NODE" if in_step else "SLURM_TASKS_PER_NODE"
    if variable not in environ:
        return host_patterns(hosts)
    slots = list(_repeated(environ[variable], variable))
    if len(slots) != len(hosts):
        raise ValueError(
            f"{variable}={environ[variable]} speaks of {len(slots)} hosts, "
            f"SLURM_JOB_NODELIST={nodes} of {len(hosts)}"
        )
    return host_patterns(
        [Slots(name=host.name, slots=count) for host, count in zip(hosts, slots, strict=True)]
    )


def split_nodelist(text: str) -> list[str]:
    """The parts of a list of Slurm's: `node[1-2,5],login3` has two."""
    return [part for part in re.split(r",(?![^\[]*\])", text) if part]


def _repeated(text: str, variable: str) -> Iterator[int]:
    """The numbers of Slurm's short form: `2(x3),1` is 2, 2, 2, 1."""
    for part in text.split(","):
        match = _REPEATED.fullmatch(part)
        if match is None:
            raise ValueError(f"{variable}={text} is not understood at {part!r}")
        yield from [int(match["slots"])] * int(match["hosts"] or 1)

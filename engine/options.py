"""Which configuration options exist, and where: the packaged ones and a user's own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

GROUPS = ("benchmark", "cluster", "launcher", "division", "edition", "system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One choice of a group, for example `kvcache/quick` of `benchmark`."""

    group: str
    name: str
    path: Path
    packaged: bool

    def values(self) -> dict[str, Any]:
        """What the file itself sets."""
        import yaml  # late: a list of options, as help shows it, needs none

        loaded = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        return loaded if isinstance(loaded, dict) else {}

    @property
    def summary(self) -> str:
        """The first comment line of the file, which says what the option is for."""
        with self.path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline().strip()
        return first.lstrip("# ") if first.startswith("#") else ""


def packaged_conf() -> Path:
    """The directory of the packaged configuration."""
    return Path(str(files("mlps.conf")))


def user_conf_dirs(cwd: Path, conf_path: str | None) -> tuple[Path, ...]:
    """Directories that add options: those of MLPS_CONF_PATH (colon-separated), then ./conf."""
    listed = [Path(part).expanduser() for part in (conf_path or "").split(os.pathsep) if part]
    here = cwd / "conf"
    if here.is_dir() and not here.samefile(packaged_conf()):
        listed.append(here)
    return tuple(dict.fromkeys((cwd / path).resolve() for path in listed))


def find_options(group: str, conf_dirs: Sequence[Path]) -> tuple[Option, ...]:
    """All options of a group by name; a user's file of a packaged name is left out."""
    found: dict[str, Option] = {}
    for directory, packaged in _sources(conf_dirs):
        for path in sorted((directory / group).rglob("*.yaml")):
            name = path.relative_to(directory / group).with_suffix("").as_posix()
            found.setdefault(name, Option(group=group, name=name, path=path, packaged=packaged))
    return tuple(found[name] for name in sorted(found))


def shadowed(conf_dirs: Sequence[Path]) -> tuple[Path, ...]:
    """A user's files that have no effect: a packaged option of other content has their name."""
    root = packaged_conf()
    return tuple(
        path
        for directory in conf_dirs
        for path in sorted(directory.rglob("*.yaml"))
        for packaged in [root / path.relative_to(directory)]
        if packaged.is_file() and packaged.read_bytes() != path.read_bytes()
    )


def _sources(conf_dirs: Sequence[Path]) -> Iterable[tuple[Path, bool]]:
    yield packaged_conf(), True
    for directory in conf_dirs:
        yield directory, False

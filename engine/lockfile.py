"""Lock files: what is pinned in one, and what is installed otherwise.

A lock file is a requirements.txt as pip-compile writes it: one `name==version` a line, with
markers and hashes. Reads one file; asks no machine: installed versions are handed in.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import Specifier
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from .canonical import Document
from .errors import ConfigError

OWN_NAME = "mlps"

# Packages that are no part of a comparison, with the reason that is told.
DEFAULT_SKIP: Mapping[str, str] = {"mpi4py": "it is built against the site's MPI"}

# Packages that install others. They come with Python or by hand, and no job imports them.
INSTALLERS = frozenset({"pip", "setuptools", "uv", "wheel"})

MAX_LOCKFILE_BYTES = 16 * 1024 * 1024

# Entries that a message names; the rest is counted. A command that mends names all.
NAMED_IN_MESSAGE = 6

Status = Literal["matched", "mismatched", "missing", "skipped", "extra"]

# Options of pip, a line each, that say where packages come from and nothing of their versions.
_OPTIONS = {
    "-i", "--index-url", "--extra-index-url", "--no-index", "-f", "--find-links", "--pre",
    "--trusted-host", "--prefer-binary", "--only-binary", "--no-binary", "--require-hashes",
    "--use-feature",
}  # fmt: skip
_INCLUDES = {"-r", "--requirement", "-c", "--constraint"}
_EDITABLE = {"-e", "--editable"}
# Options of one requirement, besides its hashes.
_OWN_OPTIONS = {"--config-settings", "--config-setting", "--global-option", "-C"}

_OPTION = re.compile(r"(--[^\s=]+|-[A-Za-z])[\s=]*(.*)$")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_HASH = re.compile(r"(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})$")
_VERSION_CONTROL = re.compile(r"(git|hg|svn|bzr)\+")
_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|[./~]|[^\s@=]+\.(whl|zip|tar\.gz)$")
_EGG = re.compile(r"[#&]egg=([A-Za-z0-9][\w.-]*)")
_CREDENTIALS = re.compile(r"//[^/@\s]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a lock file: a pinned package, or one that cannot be compared and why."""

    line: int
    name: str
    pin: Specifier | None = None
    extras: tuple[str, ...] = ()
    marker: Marker | None = None
    not_compared: str | None = None

    @property
    def requirement(self) -> str:
        """What an installer is told: `name[extra]==version`."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.name}{extras}{self.pin or ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockfile:
    """A lock file that was read; `sha256` is that of its bytes."""

    path: Path
    sha256: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One package of a comparison."""

    name: str
    status: Status
    locked: str | None = None
    installed: str | None = None
    reason: str | None = None
    line: int | None = None
    requirement: str | None = None

    def as_document(self) -> Document:
        return {
            "name": self.name,
            "status": self.status,
            "locked": self.locked,
            "installed": self.installed,
            "reason": self.reason,
            "line": self.line,
        }

    def __str__(self) -> str:
        if self.status == "mismatched":
            return f"{self.name} is {self.installed} instead of {self.locked}"
        if self.status == "missing":
            return f"{self.name} {self.locked} is missing"
        return f"{self.name} {self.installed} is not in the lock file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is installed against a lock file: the lock's packages by name, then all others."""

    results: tuple[Result, ...]

    def having(self, *statuses: Status) -> tuple[Result, ...]:
        """The results with one of these statuses."""
        return tuple(result for result in self.results if result.status in statuses)

    def flaws(self, *, allow_missing: bool = False, strict: bool = False) -> tuple[Result, ...]:
        """What must be mended; `strict` counts packages that the lock file does not have."""
        missing: tuple[Status, ...] = () if allow_missing else ("missing",)
        extra: tuple[Status, ...] = ("extra",) if strict else ()
        return self.having("mismatched", *missing, *extra)

    def as_document(self, *, allow_missing: bool = False, strict: bool = False) -> Document:
        counts = {
            status: len(self.having(status))
            for status in ("matched", "mismatched", "missing", "skipped", "extra")
        }
        return {
            "valid": not self.flaws(allow_missing=allow_missing, strict=strict),
            "total": len(self.results) - counts["extra"],
            **counts,
            "results": [result.as_document() for result in self.results],
        }


def read_lockfile(path: Path) -> Lockfile:
    """Read a lock file. Raises ConfigError, where a line is wrong with its number."""
    hint = "mlps lockfile generate makes one"
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise ConfigError(f"lock file {path} {what}", hint=hint)
        with path.open("rb") as file:
            data = file.read(MAX_LOCKFILE_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"lock file {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"lock file {path} is not text in UTF-8", hint=hint) from error
    if len(data) > MAX_LOCKFILE_BYTES:
        raise ConfigError(f"lock file {path} is larger than {MAX_LOCKFILE_BYTES} bytes", hint=hint)
    try:
        entries = parse_lockfile(text)
    except ConfigError as error:
        raise ConfigError(f"{path}, {error.message}", hint=error.hint) from error
    if not entries:
        raise ConfigError(f"lock file {path} pins no package", hint=hint)
    return Lockfile(path=path, sha256=hashlib.sha256(data).hexdigest(), entries=entries)


def parse_lockfile(text: str) -> tuple[Entry, ...]:
    """The entries of a lock file's text. Raises ConfigError that begins with `line N`."""
    entries: list[Entry] = []
    for number, line in _logical_lines(text):
        try:
            entries += _entries(number, line)
        except ValueError as error:
            raise ConfigError(
                f"line {number}: {error}",
                hint="a lock file holds lines such as numpy==2.4.6; mlps lockfile generate",
            ) from error
    _refuse_two_pins(entries)
    return tuple(entries)


def names(lockfile: Lockfile) -> tuple[str, ...]:
    """Names of all packages whose installed version a comparison wants to know, sorted."""
    return tuple(sorted({entry.name for entry in lockfile.entries if entry.pin is not None}))


def compare(
    lockfile: Lockfile,
    versions: Mapping[str, str | None],
    *,
    skip: Mapping[str, str] = DEFAULT_SKIP,
    environment: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare installed versions with a lock file.

    `versions` gives the version of each installed package, None or nothing for a missing one;
    names may have any spelling. `skip` gives the reason for each package that is left out.
    Markers are judged for the running Python, with what `environment` changes of it.
    """
    installed: dict[str, str | None] = {
        canonicalize_name(name): version for name, version in versions.items()
    }
    left_out: dict[str, str] = {canonicalize_name(name): reason for name, reason in skip.items()}
    locked: dict[str, list[Entry]] = {}
    for entry in lockfile.entries:
        locked.setdefault(entry.name, []).append(entry)
    results = [
        result
        for name in sorted(locked)
        for result in _compared(
            locked[name], installed.get(name), left_out.get(name), environment or {}
        )
    ]
    known = {*locked, *left_out, *INSTALLERS, OWN_NAME}
    results += [
        Result(name=name, status="extra", installed=version)
        for name, version in sorted(installed.items())
        if version is not None and name not in known
    ]
    return Comparison(results=tuple(results))


def in_words(flaws: Sequence[Result]) -> str:
    """The first flaws in words, and how many more there are."""
    named = "; ".join(str(flaw) for flaw in flaws[:NAMED_IN_MESSAGE])
    more = len(flaws) - NAMED_IN_MESSAGE
    return f"{named}; and {more} more" if more > 0 else named


def pip_commands(flaws: Sequence[Result], python: str) -> tuple[str, ...]:
    """What to type so that pip mends the flaws of this Python's packages."""
    pip = (python, "-m", "pip")
    return _commands(flaws, (*pip, "install"), (*pip, "uninstall", "--yes"))


def uv_commands(flaws: Sequence[Result], python: str) -> tuple[str, ...]:
    """What to type so that uv mends them. Not `uv pip sync`, which would remove mlps too."""
    uv = ("uv", "pip")
    return _commands(
        flaws, (*uv, "install", "--python", python), (*uv, "uninstall", "--python", python)
    )


def _commands(
    flaws: Sequence[Result], install: Sequence[str], uninstall: Sequence[str]
) -> tuple[str, ...]:
    pins = [flaw.requirement for flaw in flaws if flaw.requirement is not None]
    extra = [flaw.name for flaw in flaws if flaw.status == "extra"]
    lines = [[*install, *pins]] if pins else []
    lines += [[*uninstall, *extra]] if extra else []
    return tuple(shlex.join(line) for line in lines)


# ---------------------------------------------------------------- comparing


def _compared(
    entries: Sequence[Entry],
    installed: str | None,
    skip_reason: str | None,
    environment: Mapping[str, str],
) -> Iterator[Result]:
    """Results of the entries of one name: of those that hold here, or one that says why not."""
    first = entries[0]
    here = [entry for entry in entries if _holds(entry, environment)]
    reason = skip_reason or (here[0].not_compared if here else f"only where {first.marker}")
    if reason is not None:
        yield Result(
            name=first.name,
            status="skipped",
            locked=None if first.pin is None else first.pin.version,
            installed=installed,
            reason=reason,
            line=first.line,
        )
        return
    # Two lines may pin one version for markers that overlap.
    for entry in {str(entry.pin): entry for entry in here if entry.pin is not None}.values():
        assert entry.pin is not None
        yield Result(
            name=entry.name,
            status=_status(entry.pin, installed),
            locked=entry.pin.version,
            installed=installed,
            line=entry.line,
            requirement=entry.requirement,
        )


def _holds(entry: Entry, environment: Mapping[str, str]) -> bool:
    return entry.marker is None or entry.marker.evaluate({"extra": "", **environment})


def _status(pin: Specifier, installed: str | None) -> Status:
    if installed is None:
        return "missing"
    try:
        # As pip sees it: a local label that the pin does not have, such as +cpu, is no difference.
        return "matched" if pin.contains(installed, prereleases=True) else "mismatched"
    except InvalidVersion:
        return "mismatched"


# ---------------------------------------------------------------- reading lines


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) with continued lines joined and comments left out."""
    parts: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        start = start if parts else number
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            parts.append(line[:-1])
            continue
        # A comment line ends a continued one, as it does for pip.
        parts.append(f" {line}" if comment else line)
        yield from _without_comment(start, "".join(parts))
        parts = []
    if parts:
        yield from _without_comment(start, "".join(parts))


def _without_comment(number: int, line: str) -> Iterator[tuple[int, str]]:
    line = _COMMENT.sub("", line).strip()
    if line:
        yield number, line


def _entries(number: int, line: str) -> Iterator[Entry]:
    """The entry of a logical line, or nothing. Raises ValueError in words."""
    if not line.replace("\t", " ").isprintable():
        raise ValueError("holds a character that cannot be printed")
    if not line.startswith("-"):
        yield _requirement(number, line)
        return
    option, value = _option(line)
    if option in _EDITABLE and value:
        yield _uncompared(number, value, "it is an editable install")
    elif option in _INCLUDES:
        raise ValueError(f"{option} names another file; a lock file has all pins in itself")
    elif option not in _OPTIONS:
        raise ValueError(f"{option} is no option of a lock file")


def _option(text: str) -> tuple[str, str]:
    """Name and value of `--name value`, `--name=value`, `-n value` or `-nvalue`."""
    match = _OPTION.match(text)
    return (text, "") if match is None else (match[1], match[2].strip())


def _requirement(number: int, line: str) -> Entry:
    text, *options = re.split(r"\s+(?=-)", line)
    _check_options(options)
    if _VERSION_CONTROL.match(text):
        return _uncompared(number, text, "it comes from version control")
    if _PLACE.match(text):
        return _uncompared(number, text, "it comes from a file or an address")
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text}: {str(error).splitlines()[0]}") from error
    name = canonicalize_name(requirement.name)
    if requirement.url is not None:
        version_control = _VERSION_CONTROL.match(requirement.url)
        place = "version control" if version_control else "a file or an address"
        return Entry(
            line=number,
            name=name,
            marker=requirement.marker,
            not_compared=f"it comes from {place}",
        )
    return Entry(
        line=number,
        name=name,
        pin=_pin(requirement),
        extras=tuple(sorted(requirement.extras)),
        marker=requirement.marker,
    )


def _pin(requirement: Requirement) -> Specifier:
    found = list(requirement.specifier)
    exact = len(found) == 1 and found[0].operator in ("==", "===")
    if not exact or found[0].version.endswith(".*"):
        wanted = str(requirement.specifier) or "any version"
        raise ValueError(f"{requirement.name} is not pinned: got {wanted}, expected ==VERSION")
    return found[0]


def _check_options(options: Sequence[str]) -> None:
    for text in options:
        name, value = _option(text)
        if name == "--hash":
            if not _HASH.match(value):
                raise ValueError(f"{value or '--hash'} is no hash, expected sha256:64 hex digits")
        elif name not in _OWN_OPTIONS:
            raise ValueError(f"{name} is no option of a requirement")


def _uncompared(number: int, text: str, reason: str) -> Entry:
    """An entry without a version to compare, named by its egg or by its place."""
    egg = _EGG.search(text)
    place = text.partition(" ;")[0]
    name = canonicalize_name(egg[1]) if egg else _CREDENTIALS.sub("//", place)
    return Entry(line=number, name=name, not_compared=reason)


def _refuse_two_pins(entries: Iterable[Entry]) -> None:
    seen: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        earlier = seen.setdefault((entry.name, str(entry.marker)), entry)
        if earlier.pin != entry.pin:
            raise ConfigError(
                f"line {entry.line}: {entry.requirement} is pinned in line {earlier.line} "
                f"already, as {earlier.requirement}",
                hint="keep one of them",
            )

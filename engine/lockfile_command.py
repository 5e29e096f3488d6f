"""`mlps lockfile generate` and `mlps lockfile verify`."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import metadata, requires
from pathlib import Path
from typing import TextIO

from packaging.utils import InvalidName, canonicalize_name

from . import processes
from .archive import write_whole
from .arguments import Parser
from .canonical import pretty_json
from .environment import installed_versions, mlps_version
from .errors import ArchiveError, ConfigError, PreflightError
from .lockfile import (
    DEFAULT_SKIP,
    OWN_NAME,
    Comparison,
    Lockfile,
    Result,
    compare,
    parse_lockfile,
    pip_commands,
    read_lockfile,
    uv_commands,
)
from .tables import write_table

DEFAULT_PATH = Path("requirements.lock")

# How a file begins that `generate` made, and may replace.
MADE_BY = "# Made by: mlps lockfile generate"

UV_LIMIT_S = 600.0

# Lines of uv's own that a message repeats.
UV_LAST_LINES = 6

# What uv says where it cannot reach an index.
_NO_INDEX = re.compile(
    r"error sending request|dns error|failed to lookup|connection refused|network|timed out|"
    r"failed to fetch|could not connect",
    re.IGNORECASE,
)
_PYTHON_VERSION = re.compile(r"3\.\d{1,2}$")
_EXTRA = re.compile(r"""extra == (["'])([^"']*)\1""")


def lockfile(
    arguments: Sequence[str],
    *,
    as_json: bool,
    environ: Mapping[str, str],
    out: TextIO,
    notes: TextIO,
) -> int:
    """`mlps lockfile generate|verify`: data go to `out`, all else to `notes`."""
    options = parse_arguments(arguments)
    if options.word == "verify":
        return _verify(options, as_json, out, notes)
    if as_json:
        raise ConfigError("mlps lockfile generate: --json has no effect, it prints no data")
    return _generate(options, environ, notes)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line after `mlps lockfile`. Raises ConfigError."""
    parser = Parser(
        prog="mlps lockfile",
        description="Pins the packages that a benchmark runs with, and checks them.",
        allow_abbrev=False,
    )
    words = parser.add_subparsers(dest="word", metavar="generate|verify", required=True)
    _add_generate(words)
    _add_verify(words)
    return parser.parse_args(arguments)


def _add_generate(words: argparse._SubParsersAction[Parser]) -> None:
    summary = "pin mlps's own packages, or those of a pyproject.toml, through uv"
    parser = words.add_parser("generate", help=summary, description=summary, allow_abbrev=False)
    add = parser.add_argument
    add("-o", "--output", type=Path, default=DEFAULT_PATH, metavar="PATH",
        help=f"the lock file, default {DEFAULT_PATH}")  # fmt: skip
    add("--force", action="store_true", help="replace a file that this command did not make")
    add("--hashes", action="store_true", help="with the hashes of all files of each package")
    add("--python-version", metavar="X.Y", help="the oldest Python, default the running one")
    add("--pyproject", type=Path, metavar="PATH", help="of this project instead of mlps")
    extras = parser.add_mutually_exclusive_group()
    extras.add_argument("--extra", action="append", default=[], metavar="NAME",
                        help="with this extra; may be repeated")  # fmt: skip
    extras.add_argument("--all", action="store_true", help="with all extras")


def _add_verify(words: argparse._SubParsersAction[Parser]) -> None:
    summary = "compare the packages of the running Python with a lock file"
    parser = words.add_parser(
        "verify", help=summary, description=summary, allow_abbrev=False,
        epilog="Exit codes: 0 valid, 2 the lock file cannot be read, 3 a package differs.",
    )  # fmt: skip
    add = parser.add_argument
    add("-l", "--lockfile", type=Path, default=DEFAULT_PATH, metavar="PATH",
        help=f"the lock file, default {DEFAULT_PATH}")  # fmt: skip
    always = ", ".join(DEFAULT_SKIP)
    add("--skip", action="append", default=[], metavar="PKG",
        help=f"leave this package out, beside {always}; may be repeated")  # fmt: skip
    add("--allow-missing", action="store_true", help="a missing package is no error")
    add("--strict", action="store_true", help="a package that the lock file lacks is an error")
    add("--json", action="store_true", help="one JSON document")


# ---------------------------------------------------------------- generate


def _generate(options: argparse.Namespace, environ: Mapping[str, str], notes: TextIO) -> int:
    output: Path = options.output
    if options.python_version is not None and not _PYTHON_VERSION.match(options.python_version):
        raise ConfigError(
            f"--python-version {options.python_version}: expected two numbers",
            hint="--python-version 3.11",
        )
    _refuse_foreign(output, force=options.force)
    pyproject = None if options.pyproject is None else _pyproject(options.pyproject)
    extras, stdin = list(options.extra), b""
    if pyproject is None:
        extras = own_extras(options.extra, every=options.all)
        stdin = own_requirements(requires(OWN_NAME) or [], extras).encode()
    pins = _run_uv(uv_argv(_find_uv(environ), options, pyproject), environ, stdin)
    count = len({entry.name for entry in parse_lockfile(pins)})
    if count == 0:
        raise ConfigError(f"{options.pyproject or OWN_NAME} has no package to pin")
    try:
        write_whole(output, (_header(options) + pins).encode())
    except ArchiveError as error:
        raise ConfigError(error.message, hint="-o PATH") from error
    notes.write(f"{output}: {count} packages\n")
    return 0


def own_extras(chosen: Sequence[str], *, every: bool) -> list[str]:
    """The chosen extras of mlps by their normal names. Raises ConfigError for one it lacks."""
    known = sorted(map(canonicalize_name, metadata(OWN_NAME).get_all("Provides-Extra") or []))
    if every:
        return [*known]
    for name in chosen:
        if canonicalize_name(name) not in known:
            there = f"there are: {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"--extra {name}: mlps has no such extra; {there}")
    return sorted(map(canonicalize_name, chosen))


def own_requirements(requirements: Sequence[str], extras: Sequence[str]) -> str:
    """Requirements from installed metadata as lines that uv reads without a project.

    There uv knows no extras, so what a marker says of one becomes what is always or never true.
    """

    def always_or_never(match: re.Match[str]) -> str:
        chosen = canonicalize_name(match[2]) in extras
        return f'python_version {">=" if chosen else "<"} "3"'

    return "".join(f"{_EXTRA.sub(always_or_never, text)}\n" for text in requirements)


def uv_argv(uv: str, options: argparse.Namespace, pyproject: Path | None) -> list[str]:
    """The command that resolves: for all platforms, and without a trace of this machine."""
    version = options.python_version or f"{sys.version_info[0]}.{sys.version_info[1]}"
    argv = [uv, "pip", "compile", "--universal", "--no-header", "--no-annotate", "--no-progress"]
    # These are off unless a uv.toml of the site says otherwise; an address may hold a password.
    argv += ["--no-emit-index-url", "--no-emit-find-links", "--color", "never"]
    argv += ["--python", sys.executable, "--python-version", version]
    argv += ["--generate-hashes"] if options.hashes else []
    if pyproject is None:
        return [*argv, "-"]
    argv += ["--all-extras"] if options.all else []
    argv += [word for name in options.extra for word in ("--extra", name)]
    return [*argv, str(pyproject)]


def _header(options: argparse.Namespace) -> str:
    version = options.python_version or f"{sys.version_info[0]}.{sys.version_info[1]}"
    words = ["--all"] if options.all else []
    words += [word for name in sorted(set(options.extra)) for word in ("--extra", name)]
    words += ["--hashes"] if options.hashes else []
    words += ["--python-version", version]
    words += [] if options.pyproject is None else ["--pyproject", str(options.pyproject)]
    of = f"mlps {mlps_version()}" if options.pyproject is None else options.pyproject.name
    return (
        f"{MADE_BY} {shlex.join(words)}\n"
        f"# The packages of {of}, for Python {version} or later on every platform.\n"
    )


def _refuse_foreign(output: Path, *, force: bool) -> None:
    """Refuse early what could not be written in the end."""
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"{output} cannot be written: no such directory", hint="-o PATH")
    if not output.exists() and not output.is_symlink():
        return
    if not output.is_file():
        raise ConfigError(f"{output} is not a file", hint="-o PATH")
    try:
        with output.open("rb") as file:
            own = file.read(len(MADE_BY)) == MADE_BY.encode()
    except OSError as error:
        raise ConfigError(f"{output} cannot be read: {error.strerror}", hint="-o PATH") from error
    if not own and not force:
        raise ConfigError(
            f"{output} was not made by mlps lockfile generate, and is left as it is",
            hint="-o PATH writes another file, --force replaces this one",
        )


def _pyproject(path: Path) -> Path:
    file = path / "pyproject.toml" if path.is_dir() else path
    if file.name != "pyproject.toml" or not file.is_file():
        raise ConfigError(
            f"--pyproject {path}: no such file, or not named pyproject.toml",
            hint="--pyproject DIRECTORY/pyproject.toml",
        )
    return file


def _find_uv(environ: Mapping[str, str]) -> str:
    own = str(Path(sys.executable).parent)
    found = shutil.which("uv", path=own) or shutil.which("uv", path=environ.get("PATH"))
    if found is None:
        raise PreflightError(
            f"uv was found neither in {own} nor on PATH; it finds the versions to pin",
            hint=shlex.join([sys.executable, "-m", "pip", "install", "uv"]),
        )
    return found


def _run_uv(argv: Sequence[str], environ: Mapping[str, str], stdin: bytes) -> str:
    """The pins that uv finds. Raises ConfigError with uv's own words."""
    # uv keeps the versions that its output names already, where the requirements allow it: so a
    # lock file pins what runs here, and not what was published since.
    preferred = "".join(f"{name}=={number}\n" for name, number in installed_versions().items())
    try:
        with tempfile.TemporaryDirectory(prefix="mlps-lockfile-") as directory:
            output = Path(directory) / "requirements.txt"
            output.write_text(preferred)
            _call_uv([*argv, "--output-file", str(output)], environ, stdin)
            return output.read_text()
    except OSError as error:
        text = f"no temporary file can be written: {error.strerror or error}"
        raise PreflightError(text, hint="TMPDIR=DIRECTORY") from error


def _call_uv(argv: Sequence[str], environ: Mapping[str, str], stdin: bytes) -> None:
    try:
        processes.output(argv, env=environ, limit_s=UV_LIMIT_S, stdin=stdin)
    except subprocess.CalledProcessError as error:
        raise _uv_failed(error.stderr.decode(errors="replace")) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"uv did not end within {UV_LIMIT_S:g} s; nothing was written") from error
    except OSError as error:
        raise PreflightError(f"{argv[0]} cannot be started: {error.strerror}") from error


def _uv_failed(text: str) -> ConfigError:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()][-UV_LAST_LINES:]
    said = "\n".join(f"  {line}" for line in lines) or "  (it said nothing)"
    hint = None
    if _NO_INDEX.search(text):
        hint = "uv needs a package index: the network, or UV_DEFAULT_INDEX=ADDRESS of a mirror"
    return ConfigError(f"uv could not pin the packages, nothing was written:\n{said}", hint=hint)


# ---------------------------------------------------------------- verify


def _verify(options: argparse.Namespace, as_json: bool, out: TextIO, notes: TextIO) -> int:
    locked = read_lockfile(options.lockfile)
    skip = {**DEFAULT_SKIP, **{_package(name): "--skip" for name in options.skip}}
    versions = installed_versions()
    comparison = compare(locked, versions, skip=skip)
    for name in map(_package, options.skip):
        if name not in {result.name for result in comparison.results} | set(versions):
            notes.write(f"note: --skip {name} has no effect: it is not locked and not installed\n")
    policy = {"allow_missing": options.allow_missing, "strict": options.strict}
    flaws = comparison.flaws(**policy)
    if as_json or options.json:
        out.write(pretty_json(comparison.as_document(**policy)).decode())
    else:
        _write_comparison(out, locked, comparison, flaws)
    return PreflightError.exit_code if flaws else 0


def _package(name: str) -> str:
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName as error:
        raise ConfigError(f"--skip {name}: not a package's name", hint="--skip PKG") from error


def _write_comparison(
    out: TextIO, locked: Lockfile, comparison: Comparison, flaws: Sequence[Result]
) -> None:
    if flaws:
        header = ("package", "locked", "installed", "state")
        write_table(out, header, [
            (flaw.name, flaw.locked or "", flaw.installed or "", flaw.status) for flaw in flaws
        ])  # fmt: skip
        out.write("\n")
    document = comparison.as_document()
    others = ", ".join(
        f"{document[status]} {status}"
        for status in ("mismatched", "missing", "skipped", "extra")
        if document[status]
    )
    state = "NOT VALID" if flaws else "valid"
    out.write(f"{locked.path}: {state}, {document['matched']} of {document['total']} match")
    out.write(f"; {others}\n" if others else "\n")
    for result in comparison.having("skipped"):
        out.write(f"  skipped {result.name}: {result.reason}\n")
    if flaws:
        for tool, commands in (
            ("pip", pip_commands(flaws, sys.executable)),
            ("uv", uv_commands(flaws, sys.executable)),
        ):
            out.write(f"mend it with {tool}:\n")
            out.writelines(f"  {command}\n" for command in commands)

"""The command line: sorts words into commands, overrides and flags, and owns the exit codes.

The only module that prints errors or ends the process.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigError, MlpsError

JOB_COMMANDS = ("plan", "doctor", "facts")
PATH_COMMANDS = ("verify", "report", "compare", "history", "rerun", "resume", "package", "rules")
TOOL_COMMANDS = ("system", "lockfile")

# Flags of Hydra that show the configuration instead of running it; each may take a value.
HYDRA_FLAGS = ("--cfg", "-c", "--info", "-i", "--shell-completion", "-sc", "--hydra-help")
HYDRA_MODIFIERS = ("--resolve", "--package", "-p")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A command line that has been sorted. `words` are overrides, or a command's arguments."""

    command: str
    words: tuple[str, ...]
    config_dirs: tuple[Path, ...] = ()
    as_json: bool = False


def main() -> int:
    """Entry point of `mlps`."""
    try:
        code = _dispatch(parse(sys.argv[1:]))
        sys.stdout.flush()  # here, where a reader that has gone is dealt with
        return code
    except MlpsError as error:
        from .tables import printable

        sys.stderr.write(f"error: {printable(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; keep Python from complaining about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parse(argv: Sequence[str]) -> CommandLine:
    """Sort the words of a command line. Raises ConfigError for one that belongs nowhere."""
    if not argv:
        return CommandLine(command="usage", words=())
    if argv[0] in ("--help", "-h", "help"):
        return CommandLine(command="help", words=())
    if argv[0] == "--version":
        return CommandLine(command="version", words=())
    if _is_bare(argv[0]):
        return _parse_command(argv[0], argv[1:])
    if any(word in HYDRA_FLAGS for word in argv):
        return CommandLine(command="hydra", words=tuple(argv))
    words, config_dirs, as_json = _take_flags(argv)
    multirun = [word for word in words if word in ("-m", "--multirun")]
    rest = [word for word in words if word not in ("-m", "--multirun")]
    _refuse_strangers(rest)
    return CommandLine(
        command="sweep" if multirun else "run",
        words=tuple(rest),
        config_dirs=config_dirs,
        as_json=as_json,
    )


def _parse_command(name: str, argv: Sequence[str]) -> CommandLine:
    known = (*JOB_COMMANDS, *PATH_COMMANDS, *TOOL_COMMANDS)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"mlps {near[0]}" if near else "an override has the form key=value; see mlps --help"
        raise ConfigError(f"{name}: no such command; there are: {', '.join(known)}", hint=hint)
    words, config_dirs, as_json = _take_flags(argv)
    if name in JOB_COMMANDS:
        _refuse_strangers(words)
    return CommandLine(command=name, words=tuple(words), config_dirs=config_dirs, as_json=as_json)


def _is_bare(word: str) -> bool:
    return "=" not in word and word[:1] not in "-+~"


def _take_flags(argv: Sequence[str]) -> tuple[list[str], tuple[Path, ...], bool]:
    """Split off --json and --config-dir."""
    words: list[str] = []
    config_dirs: list[Path] = []
    rest = iter(argv)
    for word in rest:
        if word in ("--config-dir", "-cd"):
            config_dirs.append(_config_dir(next(rest, None)))
        elif word.startswith("--config-dir="):
            config_dirs.append(_config_dir(word.partition("=")[2]))
        elif word != "--json":
            words.append(word)
    return words, tuple(config_dirs), "--json" in argv


def _config_dir(value: str | None) -> Path:
    if not value or not Path(value).is_dir():
        raise ConfigError(f"--config-dir {value or ''}: not a directory", hint="--config-dir DIR")
    return Path(value)


def _refuse_strangers(words: Sequence[str]) -> None:
    for word in words:
        if _is_bare(word):
            raise ConfigError(
                f"{word!r} is neither a command nor an override",
                hint="a command comes first (mlps plan ...); an override has the form key=value",
            )
        if word.startswith("-"):
            raise ConfigError(f"{word}: no such flag", hint="mlps --help")


def _dispatch(line: CommandLine) -> int:
    # Imported here: help, version and a wrong word answer at once, without Hydra.
    if line.command in ("usage", "help"):
        return _show_help(0 if line.command == "help" else 2)
    if line.command == "version":
        from .environment import mlps_version

        print(f"mlps {mlps_version()}")
        return 0
    if line.command == "hydra":
        return _show_configuration(line.words)
    if line.command == "lockfile":
        from .lockfile_command import lockfile

        return lockfile(
            line.words, as_json=line.as_json, environ=os.environ, out=sys.stdout, notes=sys.stderr
        )
    if line.command == "system":
        from .system_command import system

        return system(line.words, config_dirs=line.config_dirs, as_json=line.as_json)
    return _run_command(line)


def _run_command(line: CommandLine) -> int:
    from . import (
        commands,
        compare_command,
        history_command,
        package_command,
        processes,
        report_command,
        rules_command,
        verify_command,
    )

    processes.adopt_orphans()
    jobs = {
        "run": commands.run,
        "sweep": commands.sweep,
        "plan": commands.plan,
        "doctor": commands.doctor,
        "facts": commands.facts,
    }
    if line.command in jobs:
        return jobs[line.command](line.words, config_dirs=line.config_dirs, as_json=line.as_json)
    paths = {
        "verify": verify_command.verify,
        "report": report_command.report,
        "compare": compare_command.compare_archives,
        "history": history_command.history,
        "rules": rules_command.rules,
        "rerun": commands.rerun,
        "resume": commands.resume,
        "package": package_command.package,
    }
    return paths[line.command](line.words, as_json=line.as_json)


def _show_help(code: int) -> int:
    from .help import help_text
    from .options import user_conf_dirs

    conf_dirs = user_conf_dirs(Path.cwd(), os.environ.get("MLPS_CONF_PATH"))
    (sys.stdout if code == 0 else sys.stderr).write(help_text(conf_dirs))
    return code


def _show_configuration(words: Sequence[str]) -> int:
    """Hydra's own views of the configuration and its completion."""
    from .compose import register_user_dirs
    from .jobs import conf_dirs
    from .sweep import run_hydra

    register_user_dirs(conf_dirs(()))
    run_hydra(words, lambda _cfg: None)
    return 0

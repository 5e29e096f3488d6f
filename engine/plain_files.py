"""Files of unknown origin: found without following links, read up to a limit, parsed without harm.

What an archive of this program holds is read by `archive`; this is for what somebody hands in.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from yaml.reader import ReaderError

from .errors import ArchiveError

# A file of upstream with the most in it, the metadata of 16 hosts, has 0.7 MiB.
TEXT_LIMIT_BYTES = 32 << 20
# Deeper than any document in use; Python's own parser fails only at its recursion limit.
DEPTH_LIMIT = 64
# Nodes of a YAML document; hosts files and system descriptions have some thousands.
NODE_LIMIT = 200_000
# Entries of one tree, so that a walk over a whole file system ends.
ENTRY_LIMIT = 1_000_000

# What desktops and editors leave behind.
JUNK_NAMES = (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX")

# A directory that cannot be listed is one only for a walk that goes on after it.
Kind = Literal["file", "directory", "link", "other", "unlistable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a tree: its path below the root, what it is, and its size in bytes."""

    name: str
    kind: Kind
    size_bytes: int


def walk(root: Path, *, keep_going: bool = False) -> Iterator[Entry]:
    """Every entry below a directory, sorted by name, parents first; no link is followed.

    A walk that keeps going gives a directory that it cannot list once more, as unlistable. Raises
    ArchiveError where the root is no directory, a directory cannot be listed, or there are more
    than ENTRY_LIMIT entries.
    """
    for count, entry in enumerate(_walk(root, keep_going), 1):
        if count > ENTRY_LIMIT:
            raise ArchiveError(f"{root} holds more than {ENTRY_LIMIT:,} files and directories")
        yield entry


def _walk(root: Path, keep_going: bool) -> Iterator[Entry]:
    # A list of what is left to do, not recursion: a tree may be deeper than Python's stack.
    left = [""]
    while left:
        current = left.pop()
        try:
            with os.scandir(root / current) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if keep_going and current:
                yield Entry(name=current, kind="unlistable", size_bytes=0)
                continue
            raise ArchiveError(f"{root / current} cannot be listed: {error.strerror}") from error
        inner = []
        for entry in entries:
            name = f"{current}/{entry.name}" if current else entry.name
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                # Its path is too long, or it has gone since.
                if keep_going:
                    yield Entry(name=name, kind="unlistable", size_bytes=0)
                    continue
                raise ArchiveError(f"{root / name} cannot be read: {error.strerror}") from error
            kind = _kind(status.st_mode)
            yield Entry(name=name, kind=kind, size_bytes=status.st_size)
            if kind == "directory":
                inner.append(name)
        left += reversed(inner)


def _kind(mode: int) -> Kind:
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "directory"
    return "file" if stat.S_ISREG(mode) else "other"


def is_junk(name: str) -> bool:
    """Whether the last part of a path is what a desktop or an editor leaves behind."""
    last = name.rpartition("/")[2]
    return last in JUNK_NAMES or last.startswith("._") or last.endswith(("~", ".swp"))


def read_bytes(path: Path, limit_bytes: int = TEXT_LIMIT_BYTES) -> bytes:
    """A regular file of at most `limit_bytes`; no link is followed. Raises ArchiveError."""
    try:
        # Without O_NONBLOCK the opening of a pipe would wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ArchiveError(f"{path} is no regular file")
            data = file.read(limit_bytes + 1)
    except OSError as error:
        is_link = error.errno == errno.ELOOP and path.is_symlink()
        reason = "it is a link, and none is followed" if is_link else error.strerror
        raise ArchiveError(f"{path} cannot be read: {reason}") from error
    if len(data) > limit_bytes:
        raise ArchiveError(f"{path} has more than {limit_bytes >> 20} MiB, which is not read")
    return data


def read_text(path: Path, limit_bytes: int = TEXT_LIMIT_BYTES) -> str:
    """A file in UTF-8, as `read_bytes` reads it. Raises ArchiveError."""
    return _decoded(path, read_bytes(path, limit_bytes))


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{path} is not in UTF-8: byte {error.start}") from error


def read_json(path: Path, limit_bytes: int = TEXT_LIMIT_BYTES) -> object:
    """The document of a JSON file. Raises ArchiveError with the line and column of a mistake."""
    return parse_json(path, read_bytes(path, limit_bytes))


def parse_json(path: Path, data: bytes) -> object:
    """The document that the bytes of a file hold, as `read_json` reads it. Raises ArchiveError."""
    text = _decoded(path, data)
    _refuse_depth(path, text)
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise ArchiveError(f"{path} is no JSON: {place}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        # Numbers of more digits than Python converts, and constants that JSON does not have.
        raise ArchiveError(f"{path} is no JSON: {error}") from error


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _refuse_repeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:80]!r} stands in it twice")
    return found


# All that is no bracket: strings, one of which ends with the text where it is not closed, and what
# stands between. Possessive, so that no text makes it go back.
_NO_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[^"\[\]{}]++', re.DOTALL)
_ONE_KIND = str.maketrans("{}", "[]")


def _refuse_depth(path: Path, text: str) -> None:
    """Peel brackets level by level, before a parser builds anything from them."""
    if text.count("[") + text.count("{") <= DEPTH_LIMIT:
        return
    brackets = _NO_BRACKETS.sub("", text).translate(_ONE_KIND)
    for _ in range(DEPTH_LIMIT):
        peeled = brackets.replace("[]", "")
        if len(peeled) == len(brackets):
            break
        brackets = peeled
    # What is left over is deeper, or was never closed, which a parser tells better.
    if "[]" in brackets or brackets.count("[") > DEPTH_LIMIT:
        raise ArchiveError(f"{path} is nested deeper than {DEPTH_LIMIT} levels")


def read_yaml(path: Path, limit_bytes: int = TEXT_LIMIT_BYTES) -> object:
    """The document of a YAML file, as `parse_yaml` takes it. Raises ArchiveError."""
    return parse_yaml(read_text(path, limit_bytes), str(path))


def parse_yaml(text: str, origin: str) -> object:
    """A YAML document of plain values: no tag builds an object, no alias repeats a part.

    Raises ArchiveError with the line and column of a mistake.
    """
    return _parsed(text, origin)[1]


def located_yaml(text: str, origin: str) -> tuple[object, dict[str, int]]:
    """A document as `parse_yaml` takes it, and the line of each of its dotted keys."""
    node, document = _parsed(text, origin)
    return document, {} if node is None else dict(_lines(node, ()))


def _parsed(text: str, origin: str) -> tuple[yaml.Node | None, object]:
    try:
        node = _compose(text, origin)
        return node, None if node is None else yaml.SafeLoader("").construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1} column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context
        raise ArchiveError(f"{origin} is no YAML: {place}{problem}") from error
    except ReaderError as error:
        # Its position counts bytes or letters, as the parser is in C or not; the first is meant.
        before = text.partition(chr(error.character))[0]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        place = f"line {line} column {column}: U+{error.character:04X}"
        raise ArchiveError(f"{origin} is no YAML: {place}: {error.reason}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ArchiveError(f"{origin} is no YAML: {error}") from error


def _lines(node: yaml.Node, path: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    parts: list[tuple[str, int, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        parts = [(str(key.value), _line(key), value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        parts = [(str(index), _line(value), value) for index, value in enumerate(node.value)]
    for name, line, value in parts:
        yield ".".join((*path, name)), line
        yield from _lines(value, (*path, name))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1 if node.start_mark else 0


def _compose(text: str, origin: str) -> yaml.Node | None:
    """The nodes of a document, after its events have shown that it is neither deep nor large."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise ArchiveError(f"{origin}: line {line}: an alias (*{event.anchor}) is not read")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_LIMIT:
            raise ArchiveError(f"{origin} is nested deeper than {DEPTH_LIMIT} levels")
        if count > NODE_LIMIT:
            raise ArchiveError(f"{origin} has more than {NODE_LIMIT:,} values, which is not read")
    return yaml.compose(text, Loader=_Loader)


# The parser in C where PyYAML has it: a hundred times as fast on a large file.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

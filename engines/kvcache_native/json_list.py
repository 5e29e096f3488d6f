"""Reading a long JSON list as a stream: only a part of the file is ever in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..errors import EngineError, storage_error

_ELEMENT_MAX_CHARACTERS = 2**26
_READ_CHARACTERS = 2**20


def json_elements(path: Path) -> Iterator[tuple[int, object]]:
    """The elements of a file that is one JSON list, each with the line on which it begins.

    An empty file has none. Raises EngineError naming the line for what is not JSON.
    """
    text = _Text(path)
    if text.peek() == "":
        return
    text.expect("[", "the file must be one JSON list")
    if text.peek() == "]":
        text.expect("]", "")
    else:
        while True:
            text.peek()
            line = text.line
            yield line, text.value()
            if text.peek() != ",":
                break
            text.expect(",", "")
        text.expect("]", "elements of the list are separated by commas")
    if text.peek():
        raise EngineError(f"{path} line {text.line}: there is more after the end of the list")


class _Text:
    """A text file of which only the part around the place of reading is in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks = _characters(path)
        self._buffer = ""
        self._at = 0
        self._decoder = json.JSONDecoder()
        self.line = 1

    def peek(self) -> str:
        """The next character that is not space, where reading goes on; empty at the end."""
        while True:
            rest = len(self._buffer)
            while self._at < rest and self._buffer[self._at] in " \t\r\n":
                self.line += self._buffer[self._at] == "\n"
                self._at += 1
            if self._at < rest or not self._more():
                return self._buffer[self._at : self._at + 1]

    def expect(self, character: str, reason: str) -> None:
        """Takes a character; raises EngineError when there is another one."""
        found = self.peek()
        if found != character:
            what = repr(found) if found else "the end of the file"
            raise EngineError(
                f"{self._path} line {self.line}: expected {character!r}, found {what}: {reason}"
            )
        self._at += 1

    def value(self) -> object:
        """Takes a JSON value; raises EngineError naming the line of an error in it."""
        while True:
            try:
                value: object
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except RecursionError as error:
                raise EngineError(f"{self._path} line {self.line}: is nested too deeply") from error
            except json.JSONDecodeError as error:
                if self._incomplete(error) and self._more():
                    continue
                line = self.line + self._buffer.count("\n", self._at, error.pos)
                raise EngineError(
                    f"{self._path} line {line}: {error.msg}; what follows cannot be read"
                ) from error
            except ValueError as error:  # a number of thousands of digits
                raise EngineError(f"{self._path} line {self.line}: {error}") from error
            # A number could go on in the next chunk, with as much as "e+1".
            if end + 3 < len(self._buffer) or not self._more():
                self.line += self._buffer.count("\n", self._at, end)
                self._at = end
                return value

    def _incomplete(self, error: json.JSONDecodeError) -> bool:
        """Whether more characters could mend it."""
        # The longest that is one piece for the decoder is an escape of two surrogates.
        near_end = error.pos >= len(self._buffer) - 12
        return near_end or error.msg.startswith("Unterminated string")

    def _more(self) -> bool:
        """Reads on and forgets what is done; False at the end of the file."""
        if len(self._buffer) - self._at > _ELEMENT_MAX_CHARACTERS:
            raise EngineError(
                f"{self._path} line {self.line}: an element is longer than"
                f" {_ELEMENT_MAX_CHARACTERS} characters"
            )
        # As much again as is there: an element that is long is decoded a few times, not many.
        wanted = max(1, (len(self._buffer) - self._at) // _READ_CHARACTERS)
        chunks = list(islice(self._chunks, wanted))
        if not chunks:
            return False
        self._buffer = self._buffer[self._at :] + "".join(chunks)
        self._at = 0
        return True


def _characters(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            while text := file.read(_READ_CHARACTERS):
                yield text
    except UnicodeDecodeError as error:
        raise EngineError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise storage_error(error, "read", path) from error

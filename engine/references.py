"""Text with references into a job, `{benchmark.settings.size}`, and its values filled in. Pure.

There is no shell and no evaluation: a reference stands for a value of the job, and what it brings
in is not read again. A literal brace is doubled. Mappings are taken in the order of their keys, as
an archived job holds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .canonical import Document

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[A-Za-z0-9_-]+)*")

# What only the process itself knows, on its host.
LATE = ("rank", "host")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name in braces."""

    name: str


# A text whose values are filled in, but for the references that a process fills in itself.
Text = tuple[str | Reference, ...]

# Values by their name; those below `benchmark` by its keys.
Scope = Mapping[str, Any]


def parse(text: str) -> list[str | Reference]:
    """The parts of a text, neighbouring literal ones joined. Raises ValueError."""
    parts: list[str | Reference] = []
    end = 0
    for match in _PIECE.finditer(text):
        _add(parts, text[end : match.start()])
        end = match.end()
        if match[0] in ("{{", "}}"):
            _add(parts, match[0][0])
        elif match[1] is None or not _NAME.fullmatch(match[1]):
            raise ValueError(f"{text!r}: {match[0]} is no reference; a literal brace is doubled")
        else:
            parts.append(Reference(match[1]))
    _add(parts, text[end:])
    return parts


def _add(parts: list[str | Reference], text: str) -> None:
    if text and parts and isinstance(parts[-1], str):
        parts[-1] += text
    elif text:
        parts.append(text)


def escape(text: str) -> str:
    """The text that stands for this one as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def names_in(value: object) -> Iterator[str]:
    """The names of all references in a value of YAML, in keys too. Raises ValueError."""
    if isinstance(value, str):
        yield from (part.name for part in parse(value) if isinstance(part, Reference))
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from names_in(str(key))
            yield from names_in(below)
    elif isinstance(value, Sequence):
        for below in value:
            yield from names_in(below)


def find(name: str, scope: Scope) -> Any:  # noqa: ANN401 - whatever the job holds there
    """The value of a reference. Raises ValueError where there is none."""
    value: Any = scope
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise ValueError(f"{{{name}}} is nothing of the job")
        value = value[key]
    return value


def fill_text(text: str, scope: Scope) -> Text:
    """A text with its values; a list in a text is joined by commas. Raises ValueError."""
    parts: list[str | Reference] = []
    for part in parse(text):
        if isinstance(part, str):
            _add(parts, part)
        elif part.name in LATE:
            parts.append(part)
        else:
            _add(parts, _in_text(part.name, find(part.name, scope)))
    return tuple(parts)


def fill_words(items: Sequence[Any], scope: Scope) -> list[Text]:
    """The words of an argv. Raises ValueError.

    An item that is one reference stands for one word, for each item of a list, or for none where
    the value is null. `{each: reference to a mapping, as: words}` stands for these words for each
    key of the mapping, with {key} and {value}.
    """
    words: list[Text] = []
    for item in items:
        if isinstance(item, Mapping):
            words += _each(item, scope)
            continue
        whole = _whole(item)
        if whole is None or whole in LATE:
            words.append(fill_text(item, scope))
            continue
        value = find(whole, scope)
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        words += [(_scalar(whole, each),) for each in values]
    return words


def _each(item: Mapping[str, Any], scope: Scope) -> Iterator[Text]:
    name = _whole(item["each"])
    pairs = None if name is None else find(name, scope)
    if not isinstance(pairs, Mapping):
        raise ValueError(f"{item['each']!r} is no reference to a mapping")
    for key, value in sorted(pairs.items()):
        if value is None or value is False:
            continue
        # A switch has no value: `true` brings the words without the one that is to hold it.
        form = [word for word in item["as"] if value is not True or word != "{value}"]
        yield from fill_words(form, {**scope, "key": key, "value": value})


def fill_value(value: object, scope: Scope) -> Any:  # noqa: ANN401 - a value as YAML holds it
    """A value of YAML with its references filled in; one that stands alone keeps its type.

    Raises ValueError.
    """
    if isinstance(value, Mapping):
        return {
            joined(fill_text(str(key), scope)): fill_value(below, scope)
            for key, below in sorted(value.items())
        }
    if isinstance(value, list):
        return [fill_value(below, scope) for below in value]
    if not isinstance(value, str):
        return value
    whole = _whole(value)
    if whole is not None and whole not in LATE:
        return _sorted(find(whole, scope))
    return joined(fill_text(value, scope))


def _sorted(value: Any) -> Any:  # noqa: ANN401 - a value as YAML holds it
    if isinstance(value, Mapping):
        return {key: _sorted(below) for key, below in sorted(value.items())}
    return [_sorted(below) for below in value] if isinstance(value, list) else value


def joined(text: Text) -> str:
    """A text in which nothing is left to be filled in. Raises ValueError."""
    late = next((part.name for part in text if isinstance(part, Reference)), None)
    if late is not None:
        raise ValueError(f"{{{late}}} is known to a process alone; no file can hold it")
    return "".join(part for part in text if isinstance(part, str))


def shown(text: Text) -> str:
    """A text for people: what a process fills in stands in braces."""
    return "".join(part if isinstance(part, str) else f"{{{part.name}}}" for part in text)


def as_document(text: Text) -> list[str | Document]:
    """A text as JSON, unmistakably: `["--output=", {"late": "rank"}]`."""
    return [part if isinstance(part, str) else {"late": part.name} for part in text]


def _whole(text: str) -> str | None:
    """The name of the reference that a text is; None where there is more, or none."""
    parts = parse(text)
    if len(parts) == 1 and isinstance(parts[0], Reference):
        return parts[0].name
    return None


def _in_text(name: str, value: object) -> str:
    if isinstance(value, list):
        return ",".join(_scalar(name, each) for each in value)
    return _scalar(name, value)


def _scalar(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    kind = "null" if value is None else "a list" if isinstance(value, list) else "a mapping"
    raise ValueError(f"{{{name}}} is {kind}, which has no place in a text")

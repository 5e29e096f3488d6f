"""Descriptions of systems: those of the page, and with single fields changed."""

from __future__ import annotations

import copy
import re
import textwrap
from pathlib import Path

from mlps.engine.plain_files import parse_yaml

PAGE = (Path(__file__).parents[1] / "docs/system.md").read_text(encoding="utf-8")
ABSENT = object()


def text_of(kind):
    """The YAML of an example of the page, as a submission has it: onprem or cloud."""
    label = {"onprem": "onprem", "cloud": "conf/system/mysystem.yaml"}[kind]
    text = re.search(rf"^```yaml {label}\n(.*?)^```$", PAGE, re.M | re.S).group(1)
    return text if kind == "onprem" else textwrap.dedent(text.partition("description:\n")[2])


def described(kind="onprem", **changes):
    """An example with fields changed: `clients__0__quantity=3`; ABSENT takes one away."""
    document = parse_yaml(text_of(kind), kind)
    for place, value in changes.items():
        *path, name = [int(part) if part.isdigit() else part for part in place.split("__")]
        part = document["system_under_test"]
        for step in path:
            part = part[step]
        if value is ABSENT:
            del part[name]
        else:
            part[name] = copy.deepcopy(value)
    return document

"""Unpacks a tree of small files that is written as one text: tests/host_trees/*.txt.

== /path            the lines below, up to the next line of this kind, are the file
= /path = text      a file of one line
= /path -> /target  a symbolic link; the target counts from the root of the tree
= /path/            an empty directory
"""

from __future__ import annotations

import os
import re
from pathlib import Path

TREES = Path(__file__).parent / "host_trees"


def unpack(text, root):
    """Writes the files of a text below a directory and returns the directory."""
    for entry in re.split(r"(?m)^(?==)", text)[1:]:
        head, _, body = entry.partition("\n")
        path, sign, rest = re.fullmatch(r"==? (.+?)(?: (=|->)(?: (.*))?)?", head).groups("")
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            place.mkdir(exist_ok=True)
        elif sign == "->":
            place.symlink_to(os.path.relpath(root / rest.lstrip("/"), place.parent))
        else:
            place.write_text(rest + "\n" if sign else body)
    return root


def unpack_host(name, root):
    """One of the hosts in tests/host_trees."""
    return unpack((TREES / f"{name}.txt").read_text(), root)

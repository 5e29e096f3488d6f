"""A report as text, for comparisons."""

from __future__ import annotations

import io

from mlps.engine.report import read_published, write_report


def text_of(archive):
    """What is printed of an archive."""
    out = io.StringIO()
    write_report(out, read_published(archive))
    return out.getvalue()


def squeezed(text):
    """Its lines, with one space wherever there are several."""
    return [" ".join(line.split()) for line in text.splitlines()]

"""A report as text, for comparisons."""

from __future__ import annotations

import io

from mlps.engine.report import read_published, write_report
from mlps.engine.verify import verify_archive


def text_of(archive):
    """What is printed of an archive."""
    out = io.StringIO()
    write_report(out, read_published(archive))
    return out.getvalue()


def squeezed(text):
    """Its lines, with one space wherever there are several."""
    return [" ".join(line.split()) for line in text.splitlines()]


def assert_follows_from_evidence(archive, metric, edit, reseal):
    """An archive verifies, and no more once the mean of a metric is another; fixtures edit it."""
    assert verify_archive(archive.root).findings == ()

    def better(result):
        result["metrics"][0]["values"][metric]["mean"] = 99.9

    edit(archive, "result.json", better)
    reseal(archive)
    assert "EVD-03" in [finding.rule for finding in verify_archive(archive.root).findings]

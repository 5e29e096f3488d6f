"""Reads what the page of an archive is made from; the page itself is drawn by `page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import archive as files
from .archive import Archive
from .canonical import Document
from .compose import Origin
from .environment import content_sha256
from .page.document import job_page
from .page.samples import read_rates
from .page.source import Source, Stage
from .plan import Launch

# What drawing raises for a document of another form than this version writes.
UNDRAWABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


def draw_page(
    archive: Archive,
    *,
    job: Document,
    origins: Mapping[str, Origin],
    launches: Sequence[Launch],
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    facts: Mapping[str, Document],
    result: Document,
    verdict: Document,
) -> bytes:
    """The page of an archive. Raises ArchiveError, or one of UNDRAWABLE."""
    sampled = archive.path(files.SERIES_GZ).is_file()
    stages = [
        Stage(
            name=launch.name,
            measured=launch.measured,
            outcome=outcomes[launch.name],
            result=results.get(launch.name),
        )
        for launch in launches
    ]
    return job_page(
        Source(
            result=result,
            verdict=verdict,
            job=job,
            origins={key: origin.as_document() for key, origin in origins.items()},
            stages=stages,
            facts=facts,
            rates=read_rates(files.series_lines(archive)) if sampled else None,
        )
    )


def is_redrawable(archive: Archive) -> bool:
    """Whether the page was drawn by the very code that runs now."""
    if not archive.path(files.PAGE).is_file():
        return False
    environment = files.read_document(archive.path(files.ENVIRONMENT))
    return bool(environment["mlps"]["content_sha256"] == content_sha256())

"""Backends by name: those of this project, and those of others by entry points.

Nothing of a backend is imported before it is chosen. An entry point of the group names what is
called without arguments and returns a `Backend`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import cast

from ..errors import EngineError, JobError
from .backend import Backend

GROUP = "mlps.vectordb"
# Modules of this package with a function `backend`.
OWN: Mapping[str, str] = {
    "faiss": "faiss_backend",
    "milvus": "milvus_backend",
    "native_ivf": "native.backend",
    "pgvector": "pgvector_backend",
    "zvec": "zvec_backend",
}


def backend_of(name: str) -> Backend:
    """The backend of this name; raises JobError if there is none, EngineError if it fails."""
    if name in OWN:
        module = importlib.import_module(f".{OWN[name]}", __package__)
        return cast(Backend, module.backend())
    for entry in entry_points(group=GROUP, name=name):
        return _loaded(name, entry.load)
    names = backend_names()
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise JobError(f"no backend is called {name!r}: {meant}There are {', '.join(names)}")


def backend_names() -> tuple[str, ...]:
    """All that are installed, sorted."""
    return tuple(sorted({*OWN, *(entry.name for entry in entry_points(group=GROUP))}))


@contextmanager
def code_of(name: str) -> Iterator[None]:
    """What a backend raises inside becomes an EngineError that names it."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # code of others may raise anything
        raise EngineError(f"backend {name}: {type(error).__name__}: {error}") from error


def _loaded(name: str, load: Callable[[], Callable[[], Backend]]) -> Backend:
    try:
        return load()()
    except EngineError:
        raise
    except Exception as error:  # code of others may raise anything
        raise EngineError(
            f"backend {name} of the entry points {GROUP} does not load:"
            f" {type(error).__name__}: {error}"
        ) from error

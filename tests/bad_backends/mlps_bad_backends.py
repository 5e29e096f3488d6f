"""Backends that are wrong, each in one way; else they are what native_ivf is.

With this directory on PYTHONPATH they are found by their entry points: `bad_` and the name.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from mlps.engines.vectordb.backend import NO_ID, Moved
from mlps.engines.vectordb.backends import backend_of

# The search of each reader that raises, and the one that hangs.
NTH = 12
HANGS_S = 1.0
CLAIMED_BYTES = 65536


class Spoiled:
    """A backend whose readers have their answers spoiled: by a function of queries and answer."""

    def __init__(self, name, spoil):
        self._name = f"bad_{name}"
        self._spoil = spoil
        self._right = backend_of("native_ivf")

    def __getattr__(self, name):
        return getattr(self._right, name)

    def describe(self):
        return replace(self._right.describe(), name=self._name)

    def reader(self, directory, spec, search):
        return SpoiledReader(self._right.reader(directory, spec, search), spec, self._spoil)


class SpoiledReader:
    def __init__(self, right, spec, spoil):
        self._right = right
        self._spoil = spoil
        self.spec = spec
        self.searches = 0

    def __getattr__(self, name):
        return getattr(self._right, name)

    def search(self, queries, k):
        self.searches += 1
        return self._spoil(self, *self._right.search(queries, k))


def garbage():
    """Ids that have nothing to do with the query, in another order each time."""

    def spoil(reader, ids, scores):
        chance = np.random.default_rng(reader.searches)
        return chance.integers(0, reader.spec.vectors, ids.shape), scores

    return Spoiled("garbage", spoil)


def duplicates():
    """The nearest, and no other."""
    return Spoiled(
        "duplicates", lambda _, ids, scores: (np.repeat(ids[:, :1], ids.shape[1], 1), scores)
    )


def shifted():
    """The ids of the vectors after those that were found."""
    return Spoiled("shifted", lambda reader, ids, scores: ((ids + 1) % reader.spec.vectors, scores))


def few():
    """Half of what was found."""

    def spoil(_, ids, scores):
        half = ids.shape[1] // 2
        ids[:, half:], scores[:, half:] = NO_ID, -np.inf
        return ids, scores

    return Spoiled("few", spoil)


def foreign():
    """Ids as they are, but for one that no vector has."""

    def spoil(reader, ids, scores):
        ids[:, -1] = reader.spec.vectors
        return ids, scores

    return Spoiled("foreign", spoil)


def form():
    """Ids of a query too many."""
    return Spoiled("form", lambda _, ids, scores: (np.vstack([ids, ids]), scores))


def changing():
    """The nearest is left out every other time."""

    def spoil(reader, ids, scores):
        ids[:, 0] = ids[:, 0] if reader.searches % 2 else NO_ID
        return ids, scores

    return Spoiled("changing", spoil)


def raising():
    """One search raises what no interface knows of."""

    def spoil(reader, ids, scores):
        if reader.searches == NTH:
            raise ConnectionResetError("vectors.example.org:19530 is gone")
        return ids, scores

    return Spoiled("raising", spoil)


def hanging():
    """One search lasts much longer than others."""

    def spoil(reader, ids, scores):
        if reader.searches == NTH:
            time.sleep(HANGS_S)
        return ids, scores

    return Spoiled("hanging", spoil)


class Idle(Spoiled):
    """Answers from memory, says that it reads past the page cache, and perhaps how much."""

    def __init__(self, name, claimed_bytes):
        super().__init__(name, None)
        self._claimed_bytes = claimed_bytes

    def writer(self, directory, spec):
        return RememberingWriter(self._right.writer(directory, spec), directory)

    def reader(self, directory, spec, search):
        return IdleReader(
            self._right.reader(directory, spec, search), directory, self._claimed_bytes
        )

    def drop(self, directory):
        for path in directory.glob("memory_*.npz"):
            path.unlink()
        self._right.drop(directory)


class RememberingWriter:
    def __init__(self, right, directory):
        self._right = right
        self._directory = directory

    def __getattr__(self, name):
        return getattr(self._right, name)

    def insert(self, ids, vectors):
        np.savez(self._directory / f"memory_{ids[0]}.npz", ids=ids, vectors=vectors)
        return self._right.insert(ids, vectors)


class IdleReader(SpoiledReader):
    """Finds the nearest by their angle."""

    def __init__(self, right, directory, claimed_bytes):
        super().__init__(right, None, None)
        parts = [np.load(path) for path in directory.glob("memory_*.npz")]
        self._ids = np.concatenate([part["ids"] for part in parts])
        self._vectors = np.concatenate([part["vectors"] for part in parts])
        for part in parts:
            part.close()
        self._claimed_bytes = claimed_bytes

    def search(self, queries, k):
        self.searches += 1
        scores = queries @ self._vectors.T
        best = np.argsort(-scores, axis=1)[:, :k]
        return self._ids[best], np.take_along_axis(scores, best, axis=1)

    def moved(self):
        return Moved(read_bytes=self.searches * self._claimed_bytes, reads=self.searches)


def idle():
    """Reads nothing, and says so."""
    return Idle("idle", 0)


def claiming():
    """Reads nothing, and says that it does."""
    return Idle("claiming", CLAIMED_BYTES)

"""Truth: what brute force in float64 finds, ties by id, however the vectors come; and its file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import EngineError
from mlps.engines.vectordb import queries as query_module
from mlps.engines.vectordb.queries import Queries, query_vectors
from mlps.engines.vectordb.truth import (
    Truth,
    exact,
    merge,
    read_truth,
    scores_of,
    truth_of,
    write_truth,
)
from mlps.engines.vectordb.vectors import Dataset, fingerprint, rows

METRICS = ["COSINE", "L2", "IP"]
DATA = Dataset(
    vectors=9000, dimension=24, distribution="clustered", seed=1, clusters=40, cluster_spread=1.5
)
QUERIES = Queries(count=30, mode="planted", noise=0.05, seed=2)


def always(done):
    return True


def found(blocks, queries, metric="L2", depth=5, tile_bytes=2**20, alive=always):
    return exact(blocks, queries, metric, depth, tile_bytes=tile_bytes, alive=alive)


def blocks_of(vectors, *cuts, first=0):
    """Vectors in blocks that begin at the cuts."""
    ids = np.arange(first, first + len(vectors), dtype=np.int64)
    return list(zip(np.split(ids, cuts), np.split(vectors, cuts), strict=True))


def brute_force(vectors, queries, metric):
    """Scores of all, shape (queries, vectors), the plain way."""
    wide, others = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "L2":
        return -((others[:, None, :] - wide[None, :, :]) ** 2).sum(axis=2)
    scores = np.einsum("qd,nd->qn", others, wide)
    if metric == "COSINE":
        lengths = np.linalg.norm(others, axis=1)[:, None] * np.linalg.norm(wide, axis=1)
        scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
    return scores


def brute_ids(vectors, queries, metric, depth):
    """Ids by exact fractions, the nearest first and ties by id; for whole numbers."""
    ids = []
    for query in queries.astype(int).tolist():
        keys = []
        for number, vector in enumerate(vectors.astype(int).tolist()):
            product = sum(x * y for x, y in zip(query, vector, strict=True))
            square = sum(x * x for x in vector)
            if metric == "L2":
                score = 2 * product - square
            elif metric == "IP":
                score = product
            else:
                # Of cosines the square keeps the order, with the sign of the product.
                score = Fraction(product * abs(product), square) if square else 0
            keys.append((-score, number))
        ids.append([number for _, number in sorted(keys)[:depth]])
    return np.array(ids)


whole_vectors = st.integers(1, 4).flatmap(
    lambda width: st.tuples(
        st.lists(st.lists(st.integers(-2, 2), min_size=width, max_size=width), min_size=1),
        st.lists(
            st.lists(st.integers(-2, 2), min_size=width, max_size=width), min_size=1, max_size=4
        ),
    )
)


# ---------------------------------------------------------------- the nearest


@given(whole_vectors, st.sampled_from(["L2", "IP"]), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_ties_go_to_the_lower_id(both, metric, depth):
    vectors, queries = (np.array(rows_, dtype=np.float32) for rows_ in both)
    truth = found(blocks_of(vectors), queries, metric, depth)
    there = min(depth, len(vectors))
    assert (truth.ids[:, :there] == brute_ids(vectors, queries, metric, there)).all()
    assert (truth.ids[:, there:] == -1).all()
    assert (truth.scores[:, there:] == -np.inf).all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_equal_vectors_tie_by_the_cosine_too(kinds, depth):
    kind = np.random.default_rng(5).standard_normal((4, 7)).astype(np.float32)
    vectors = kind[kinds]
    truth = found(blocks_of(vectors), kind[:1], "COSINE", depth)
    order = np.lexsort((np.arange(len(kinds)), -brute_force(kind, kind[:1], "COSINE")[0][kinds]))
    assert truth.ids[0, : len(kinds)].tolist() == order[:depth].tolist()


@pytest.mark.parametrize("metric", METRICS)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 400),
    st.integers(1, 40),
    st.integers(1, 20),
    st.sampled_from([1.0, 1e-6, 1e6]),
)
@settings(max_examples=40, deadline=None)
def test_the_truth_is_what_brute_force_finds(metric, seed, count, dimension, depth, size):
    random = np.random.default_rng(seed)
    vectors = (random.standard_normal((count, dimension)) * size).astype(np.float32)
    queries = random.standard_normal((3, dimension)).astype(np.float32)
    truth = found(blocks_of(vectors), queries, metric, depth, tile_bytes=1)
    scores = brute_force(vectors, queries, metric)
    there = min(depth, count)
    best = -np.sort(-scores, axis=1)[:, :there]
    scale = 1e-12 * max(np.abs(scores).max(), 1e-30)
    assert np.abs(truth.scores[:, :there] - best).max() <= scale
    named = np.take_along_axis(scores, truth.ids[:, :there], axis=1)
    assert np.abs(named - best).max() <= scale
    assert all(len(set(ids)) == there for ids in truth.ids[:, :there].tolist())


@pytest.mark.parametrize("metric", METRICS)
def test_scores_closer_than_float32_can_tell_are_in_order(metric):
    # All are the same but for the last bits, which the rounding of float32 products hides.
    random = np.random.default_rng(8)
    vectors = np.tile(random.standard_normal((1, 256)), (3000, 1)).astype(np.float32)
    vectors *= 1 + random.integers(-3, 4, vectors.shape).astype(np.float32) * np.float32(2**-23)
    queries = random.standard_normal((4, 256)).astype(np.float32)
    truth = found(blocks_of(vectors, 100, 1000), queries, metric, 10)
    order = np.argsort(-brute_force(vectors, queries, metric), axis=1, kind="stable")
    assert truth.ids.tolist() == order[:, :10].tolist()


@given(
    st.lists(st.integers(0, 300), max_size=5),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 2000, 2**20]),
    st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_any_split_into_blocks_and_parts_gives_the_same_bytes(cuts, order, tile_bytes, parts):
    random = np.random.default_rng(3)
    # Many are the same, so ties decide, and the lower id may come later.
    vectors = random.integers(-1, 2, (300, 3)).astype(np.float32)
    queries = random.standard_normal((6, 3)).astype(np.float32)
    whole = found(blocks_of(vectors), queries, "COSINE", 12)
    blocks = blocks_of(vectors, *sorted(cuts))
    order.shuffle(blocks)
    truths = [
        found(blocks[part::parts], queries, "COSINE", 12, tile_bytes) for part in range(parts)
    ]
    merged = merge(truths)
    assert (merged.ids == whole.ids).all()
    assert (merged.scores == whole.scores).all()
    assert merged.covered == whole.covered == ((0, 300),)


def test_more_queries_than_are_looked_at_together():
    random = np.random.default_rng(4)
    vectors = random.standard_normal((50, 3)).astype(np.float32)
    queries = random.standard_normal((2100, 3)).astype(np.float32)
    truth = found(blocks_of(vectors), queries, "L2", 2)
    assert (truth.ids[:, 0] == brute_force(vectors, queries, "L2").argmax(axis=1)).all()


def test_scores_do_not_depend_on_what_is_beside_them():
    random = np.random.default_rng(6)
    vectors = random.standard_normal((97, 131)).astype(np.float32)
    queries = random.standard_normal((97, 131)).astype(np.float32)
    for metric in METRICS:
        together = scores_of(vectors, queries, metric)
        alone = [scores_of(vectors[n : n + 1], queries[n : n + 1], metric)[0] for n in range(97)]
        assert together.tolist() == alone


def test_a_vector_without_length_has_the_cosine_0():
    vectors = np.array([[-1, 0], [0, 0], [1, 0]], dtype=np.float32)
    truth = found(blocks_of(vectors), vectors, "COSINE", 3)
    assert truth.ids.tolist() == [[0, 1, 2], [0, 1, 2], [2, 1, 0]]
    assert truth.scores.tolist() == [[1, 0, -1], [0, 0, 0], [1, 0, -1]]


# ---------------------------------------------------------------- what cannot be


def test_when_it_is_stopped_the_rest_is_not_covered(tmp_path):
    told = []

    def until_200(done):
        told.append(done)
        return done < 200

    vectors = np.ones((300, 2), dtype=np.float32)
    truth = found(blocks_of(vectors, 100, 200), vectors[:1], alive=until_200)
    assert told == [100, 200]
    assert truth.covered == ((0, 200),)
    assert truth.vectors == 200


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        (
            [([0, 1], [[1, 2], [3, np.nan]])],
            "vector 1 has components that are not finite",
        ),
        ([([5], [[1, -np.inf]])], "vector 5 has components that are not finite"),
        ([([0], [[1, 2, 3]])], r"vectors of shape \(1, 3\) for 1 ids do not fit"),
        ([([0, 1], [[1, 2]])], r"vectors of shape \(1, 2\) for 2 ids do not fit"),
        ([([3, 3], [[1, 2], [1, 2]])], "vector 3 was given twice"),
        ([([0, 1], [[1, 2], [1, 2]]), ([1], [[1, 2]])], "vector 1 was given twice"),
        ([([0], [[1e30, 2]])], "too long for products in float32"),
    ],
    ids=["nan", "infinite", "dimensions", "ids", "twice", "twice in blocks", "too long"],
)
def test_vectors_that_cannot_be_scored_are_refused(blocks, text):
    arrays = [(np.array(ids), np.array(vectors, dtype=np.float32)) for ids, vectors in blocks]
    with pytest.raises(EngineError, match=text):
        found(arrays, np.ones((1, 2), dtype=np.float32))


def test_a_query_that_is_not_finite_is_refused():
    with pytest.raises(EngineError, match="query 1 has components that are not finite"):
        found([], np.array([[1], [np.nan]], dtype=np.float32))


def test_parts_that_overlap_or_do_not_fit_are_refused():
    vectors = np.ones((10, 2), dtype=np.float32)
    part = found(blocks_of(vectors), vectors[:1])
    other = found(blocks_of(vectors, first=9), vectors[:1])
    with pytest.raises(EngineError, match="vector 9 was given twice"):
        merge([part, other])
    with pytest.raises(EngineError, match="of other queries or of another depth"):
        merge([part, found(blocks_of(vectors, first=10), vectors[:2])])


# ---------------------------------------------------------------- the file


def key(data=DATA, queries=QUERIES, metric="COSINE"):
    return truth_of(fingerprint(data), query_module.fingerprint(data, queries), metric)


KEY = key()


@pytest.fixture(scope="module")
def truth():
    blocks = rows(DATA, 0, DATA.vectors)
    return found(blocks, query_vectors(DATA, QUERIES, 0, QUERIES.count), "COSINE", 10)


@pytest.fixture
def path(truth, tmp_path):
    write_truth(tmp_path / "truth", truth, KEY)
    return tmp_path / "truth"


def test_what_is_read_is_what_was_written(truth, path):
    again = read_truth(path, KEY)
    assert (again.ids == truth.ids).all()
    assert (again.scores == truth.scores).all()
    assert again.covered == ((0, 9000),)
    assert [entry.name for entry in path.parent.iterdir()] == ["truth"]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (key(replace(DATA, seed=3)), "data.seed: found 1, asked 3"),
        (key(replace(DATA, vectors=9001)), "data.vectors: found 9000, asked 9001"),
        (key(replace(DATA, cluster_spread=1.4)), "data.cluster_spread: found 1.5, asked 1.4"),
        (key(queries=replace(QUERIES, noise=0.06)), "queries.noise: found 0.05, asked 0.06"),
        (key(queries=replace(QUERIES, seed=3)), "queries.seed: found 2, asked 3"),
        (key(queries=replace(QUERIES, count=31)), "queries.count: found 30, asked 31"),
        (key(metric="L2"), "metric: found COSINE, asked L2"),
    ],
    ids=["seed", "vectors", "spread", "noise", "query seed", "query count", "metric"],
)
def test_the_truth_of_something_else_is_refused(path, asked, text):
    with pytest.raises(EngineError, match=rf"is the truth of something else \({text}\)"):
        read_truth(path, asked)


@pytest.mark.parametrize("name", ["first_block_sha256", "last_block_sha256"])
def test_a_drift_of_the_generator_is_refused(path, name):
    drifted = {**KEY, "data": {**KEY["data"], name: "0"}}
    with pytest.raises(EngineError, match=f"data.{name}"):
        read_truth(path, drifted)


def test_a_coverage_of_99_percent_is_refused(truth, tmp_path):
    part = found(rows(DATA, 0, 8910), query_vectors(DATA, QUERIES, 0, QUERIES.count), "COSINE", 10)
    with pytest.raises(EngineError, match=r"must cover all 9000 vectors, .* \[\[0, 8910\]\]"):
        write_truth(tmp_path / "truth", part, KEY)
    hole = Truth(ids=truth.ids, scores=truth.scores, covered=((0, 10), (11, 9001)))
    with pytest.raises(EngineError, match="must cover all 9000"):
        write_truth(tmp_path / "truth", hole, KEY)
    assert not list(tmp_path.iterdir())


def forged(path, **changes):
    """The same file with another document, and its checksum."""
    magic, _, header, data = path.read_bytes().split(b"\n", 3)
    content = json.dumps({**json.loads(header), **changes}).encode() + b"\n" + data
    checksum = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(b"\n".join([magic, checksum, content]))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"covered": [[0, 8910]]}, r"must cover all 9000 vectors, .* \[\[0, 8910\]\]"),
        ({"form": 2}, "another version of mlps"),
        ({"shape": [60, 5]}, "4800 bytes are not 60 x 5"),
        ({"shape": [30, 9]}, "4800 bytes are not 30 x 9"),
    ],
    ids=str,
)
def test_a_document_that_does_not_fit_is_refused(path, changes, text):
    forged(path, **changes)
    with pytest.raises(EngineError, match=text):
        read_truth(path, KEY)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_any_damage_is_seen(truth, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged"
    write_truth(path, truth, KEY)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(EngineError, match="damaged"):
        read_truth(path, KEY)


def test_ids_of_no_vector_are_refused(truth, tmp_path):
    wrong = Truth(ids=truth.ids + 9000, scores=truth.scores, covered=truth.covered)
    write_truth(tmp_path / "truth", wrong, KEY)
    with pytest.raises(EngineError, match="names ids that are none of the 9000 vectors"):
        read_truth(tmp_path / "truth", KEY)


def test_where_there_is_no_truth_the_file_is_named(tmp_path):
    with pytest.raises(EngineError, match=r"cannot read .*truth: No such file"):
        read_truth(tmp_path / "truth", KEY)

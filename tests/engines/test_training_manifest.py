"""Manifests and journals: the same for any split of the work, and nothing that is not whole."""

from __future__ import annotations

import json
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_models import MODELS, dataset

from mlps.engines.errors import EngineError
from mlps.engines.training_native import journal
from mlps.engines.training_native.generation import _assembled
from mlps.engines.training_native.journal import (
    ENTRY,
    Journal,
    decoded,
    encoded,
    merge_journals,
    read_earlier,
    read_journals,
)
from mlps.engines.training_native.manifest import (
    GENERATING,
    MANIFEST,
    TABLE,
    difference,
    identity_of,
    manifest_of,
    read_manifest,
    write_manifest,
)


def entries_of(numbers):
    return np.array([(n, (n * 2654435761) % 2**32, 1000 + n) for n in numbers], dtype=ENTRY)


def small_manifest(data):
    sizes = np.arange(data.files, dtype=np.int64) + 2**40
    return manifest_of(data, "mlps", sizes, np.arange(data.files, dtype=np.uint32))


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    data = dataset("npz", files=5, eval_files=2)
    written = small_manifest(data)
    write_manifest(tmp_path, data, written)
    found = read_manifest(tmp_path, data)
    assert (found.made_by, found.train_files, found.eval_files) == ("mlps", 5, 2)
    assert found.sha256 == written.sha256
    assert found.sizes_bytes.dtype == np.int64
    assert found.crc32.dtype == np.uint32
    assert found.sizes_bytes.tolist() == written.sizes_bytes.tolist()
    assert found.crc32.tolist() == written.crc32.tolist()


def test_a_million_files_take_little_time_and_memory(tmp_path):
    data = MODELS["retinanet"]
    tracemalloc.start()
    begun_s = time.process_time()
    write_manifest(tmp_path, data, small_manifest(data))
    read_manifest(tmp_path, data)
    took_s = time.process_time() - begun_s
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took_s < 5
    assert peak < 100 * 2**20


def test_what_is_no_manifest_of_it_is_refused(tmp_path):
    data = dataset("npz")
    with pytest.raises(EngineError, match=r"does not exist"):
        read_manifest(tmp_path / "none", data)
    with pytest.raises(EngineError, match=f"has no file {MANIFEST}"):
        read_manifest(tmp_path, data)
    (tmp_path / GENERATING).mkdir()
    with pytest.raises(EngineError, match=r"its generation was stopped"):
        read_manifest(tmp_path, data)
    write_manifest(tmp_path, data, small_manifest(data))
    with pytest.raises(EngineError, match=r"dataset.seed: found 10, asked 3"):
        read_manifest(tmp_path, dataset("npz", seed=3))
    table = (tmp_path / TABLE).read_bytes()
    (tmp_path / TABLE).write_bytes(table[:-1] + b"\xff")
    with pytest.raises(EngineError, match=r"is not the table"):
        read_manifest(tmp_path, data)
    document = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**document, "form": 2}))
    with pytest.raises(EngineError, match=r"another version of mlps"):
        read_manifest(tmp_path, data)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(EngineError, match=r"is no manifest"):
        read_manifest(tmp_path, data)


def test_only_what_decides_bytes_makes_another_dataset():
    dlrm = MODELS["dlrm"]
    assert difference(identity_of(dlrm), dlrm, "mlps") is None
    assert "parquet.columns[199]" in identity_of(dlrm)
    found = identity_of(dataset("npz", seed=1))
    assert difference(found, dataset("npz", seed=2), "mlps") == "dataset.seed: found 1, asked 2"
    assert difference(found, dataset("npz", seed=2), "other") is None
    jpeg = dataset("jpeg", jpeg_encoding="real")
    text = difference(identity_of(jpeg), dataset("npz"), "mlps")
    assert text == "dataset.format: found jpeg, asked npz"


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=1), max_size=5), st.data())
def test_a_journal_cut_anywhere_holds_whole_blocks(blocks, data):
    every = [entries_of(block) for block in blocks]
    whole = b"".join(map(encoded, every))
    cut = data.draw(st.integers(0, len(whole)))
    kept, length = [], 0
    for block in every:
        length += len(encoded(block))
        if length > cut:
            break
        kept += block.tolist()
    assert decoded(whole[:cut]).tolist() == kept
    # What comes after a cut is not what would have come.
    other = bytes([whole[cut] ^ 1 if cut < len(whole) else 0]) + bytes(99)
    assert decoded(whole[:cut] + other).tolist() == kept


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_split_over_ranks_and_launches_ends_with_the_same_manifest(tmp_path_factory, data):
    files = data.draw(st.integers(1, 40))
    directory = tmp_path_factory.mktemp("journals")
    left = list(range(files))
    for _ in range(data.draw(st.integers(0, 3))):  # launches that are killed
        ranks = data.draw(st.integers(1, 4))
        merge_journals(directory, files)
        left = sorted(set(left) - set(read_earlier(directory)["number"].tolist()))
        for rank in range(ranks):
            own = [number for number in left if number % ranks == rank]
            done = Journal(directory, rank)
            for block in (own[: len(own) // 2], own[len(own) // 2 :]):
                if block and data.draw(st.booleans()):
                    done.append(entries_of(block))
            done.close()
    earlier = read_journals(directory, files)
    rest = sorted(set(range(files)) - set(earlier["number"].tolist()))
    plan = dataset("npz", files=files)
    split = _assembled(plan, earlier, entries_of(rest))
    whole = _assembled(plan, entries_of(range(files)), entries_of([]))
    assert split.sha256 == whole.sha256


def test_merging_leaves_one_journal(tmp_path):
    for rank in range(3):
        one = Journal(tmp_path, rank)
        one.append(entries_of([rank, 7]))
        one.close()
    assert merge_journals(tmp_path, 7) == 3
    assert [path.name for path in tmp_path.iterdir()] == [journal.EARLIER]
    assert read_earlier(tmp_path)["number"].tolist() == [0, 1, 2]

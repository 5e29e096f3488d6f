"""What a stage works on, and how its result tells of it."""

from __future__ import annotations

import pytest

from mlps.engines.contract import read_job
from mlps.engines.vectordb.backend import Io
from mlps.engines.vectordb.setting import setting_of


@pytest.fixture
def setting(vectordb):
    return setting_of(read_job(vectordb.canonical, vectordb.run_id, None), 2)


def test_index_and_truth_have_their_places(setting, vectordb):
    assert setting.index_directory == vectordb.place / "index"
    assert setting.truth_path.parent == vectordb.place
    fingerprint = setting.truth_fingerprint()
    assert fingerprint["data"]["vectors"] == 600
    assert fingerprint["queries"]["count"] == 12
    assert fingerprint["metric"] == "COSINE"


def test_the_document_has_every_key_and_nulls_for_what_is_not_given(setting):
    document = setting.document("run", points=[{"purpose": "run"}])
    assert list(document) == [
        "does", "backend", "dataset", "queries", "directory", "kept", "load", "truth", "points",
    ]  # fmt: skip
    assert (document["load"], document["truth"]) == (None, None)
    assert document["points"] == [{"purpose": "run"}]
    assert document["backend"]["build"] == {"nlist": 12, "kmeans_rounds": 3, "sample": 480}
    assert document["backend"]["search"] == {"nprobe": 6, "reads_in_flight": 4, "io": "auto"}
    assert (document["backend"]["io_class"], document["backend"]["io_reason"]) == ("direct", None)
    assert {name: document["queries"][name] for name in ("count", "mode")} == {
        "count": 12, "mode": "planted",
    }  # fmt: skip


def test_it_tells_what_readers_really_do(setting):
    told = setting.document("probe", Io(io_class="buffered", reason="tmpfs"))["backend"]
    assert (told["io_class"], told["io_reason"]) == ("buffered", "tmpfs")


def test_digests_follow_data_and_queries_alone(vectordb):
    def digests(**changes):
        vectordb.changes = changes
        job = read_job(vectordb.canonical, vectordb.run_id, None)
        document = setting_of(job, 1).document("load")
        return document["dataset"]["sha256"], document["queries"]["sha256"]

    data, queries = digests()
    assert digests(search={"nprobe": 2}, dataset={"batch_size": 9}) == (data, queries)
    assert digests(query={"seed": 1})[0] == data
    assert digests(query={"seed": 1})[1] != queries
    assert digests(dataset={"clusters": 13})[0] != data


def test_the_identity_of_an_index_has_the_users_keys(setting):
    kept = setting.kept()
    assert kept.identity["database.backend"] == "native_ivf"
    assert kept.identity["index.nlist"] == 12
    assert kept.identity["dataset.vectors"] == 600
    assert not kept.complete

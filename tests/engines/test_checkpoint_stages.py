"""Checkpoints by real ranks: written, dropped from memory, read by these or others, removed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from mlps.engines.checkpoint_native.manifest import MANIFEST, read_manifest
from mlps.engines.checkpoint_native.stages import CheckpointEngine
from mlps.engines.checkpoint_native.workload import checkpointing_of
from mlps.engines.contract import Job

TRAINING = {"steps": 3, "computation_s": 0.02, "background": False}


def change(bench, **changes):
    bench.changes = {**bench.changes, **changes}
    return bench


def layout_of(bench, ranks):
    return checkpointing_of(bench.job["benchmark"], ranks).layout


def files_below(directory):
    return {
        str(path.relative_to(directory)): path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file() and path.name not in (MANIFEST, "CHECKPOINTS.owner")
    }


def told(result):
    assert result["status"] == "complete", result["errors"]
    return result["checkpointing"]


def go(bench, stage, ranks=None):
    """A stage in this process, or in so many of its own."""
    return bench.solo(stage) if ranks is None else bench.stage(stage, ranks=ranks)


def written(bench, ranks=None):
    told(go(bench, "write", ranks))
    return bench


def read(bench, ranks=None):
    return go(bench, "read", ranks)


@pytest.fixture(scope="module")
def by_two(new_place, make_checkpoint_bench):
    """A job whose checkpoints two ranks have written, the result of that, and a copy of them."""
    place = new_place()
    # By another name first, as a clean-up looks for what was cut short.
    bench = make_checkpoint_bench(place / "data", changes={"io": {"rename": True}})
    bench.data_dir.mkdir(parents=True)
    result = bench.stage("write", ranks=2)
    shutil.copytree(bench.directory, place / "copy")
    return bench, result, place / "copy"


@pytest.fixture
def written_by_two(by_two):
    """The same, as it was written."""
    bench, _, copy = by_two
    shutil.rmtree(bench.directory, ignore_errors=True)
    shutil.copytree(copy, bench.directory)
    return replace(bench)


def assert_written_and_read(bench, count, wrote, result):
    layout = layout_of(bench, count)
    expected = {
        f"global_epoch1_step{number}/{file.name}": file.size_bytes
        for number in (1, 2)
        for rank in range(count)
        for file in layout.files(rank)
    }
    assert files_below(bench.checkpoints) == expected
    assert [each["number"] for each in told(wrote)["checkpoints"]] == [1, 2]
    assert {each["bytes"] for each in told(wrote)["checkpoints"]} == {layout.totals().size_bytes}
    assert [each["number"] for each in told(result)["checkpoints"]] == [1, 2]
    assert (
        result["verify"]["bytes"] == result["io"]["read"]["total_bytes"] == sum(expected.values())
    )
    assert result["verify"]["mismatches"] == 0


def test_a_rank_alone_writes_its_files_and_reads_them(checkpointing):
    assert_written_and_read(checkpointing, 1, go(checkpointing, "write"), read(checkpointing))


def test_each_rank_writes_its_files_and_reads_them_within_what_it_needs(by_two, written_by_two):
    _, wrote, _ = by_two
    result = read(written_by_two, 2)
    assert_written_and_read(written_by_two, 2, wrote, result)
    most_bytes = written_by_two.needs(2).memory_bytes_per_rank
    assert max(wrote["ranks"]["peak_rss_bytes"]) <= most_bytes
    assert max(result["ranks"]["peak_rss_bytes"]) <= most_bytes


def test_times_of_a_checkpoint_are_those_of_its_ranks(by_two):
    _, result, _ = by_two
    for each in told(result)["checkpoints"]:
        assert 0 < each["rank_least_s"] <= each["rank_median_s"] <= each["wall_s"]
        assert each["rank0_s"] <= each["wall_s"]
        assert each["transfer_most_s"] + each["sync_most_s"] <= 2 * each["wall_s"]
        assert each["straggler"] in (0, 1)


def test_a_result_without_requests_tells_of_none(checkpointing):
    result = go(checkpointing, "write")
    assert {sum(each["count"]) for each in result["latency"].values()} == {0}
    assert result["sizes"] == {"read": [], "write": []}
    assert sum(result["io"]["write"]["latency"]["count"]) > 0


def test_the_manifest_says_who_wrote_what(checkpointing):
    manifest = read_manifest(written(checkpointing).checkpoints)
    assert manifest.checkpoints == (1, 2)
    assert len(manifest.hosts) == 1
    assert manifest.start_unix_s < manifest.end_unix_s
    source = told(read(checkpointing))["source"]
    assert source == {
        "run_id": manifest.run_id,
        "job_sha256": manifest.job_sha256,
        "start_unix_s": manifest.start_unix_s,
        "end_unix_s": manifest.end_unix_s,
        "checkpoints": 2,
    }


@pytest.mark.parametrize(("shift", "shown"), [(3, 1), ("host", 0)])
def test_other_ranks_read_what_a_rank_wrote(written_by_two, shift, shown):
    own = told(read(change(written_by_two, read_shift=shift), 2))
    assert (own["shift"], own["crossed_ranks"]) == (shown, 0)


def test_every_file_is_read_once_whoever_reads_it(checkpointing):
    change(checkpointing, parallelism={"zero": 1, "tensor": 2}, read_shift=1)
    result = read(written(checkpointing, ranks=4), ranks=4)
    assert result["io"]["read"]["total_bytes"] == sum(
        files_below(checkpointing.checkpoints).values()
    )


def test_some_parallelisms_leave_ranks_without_files(checkpointing):
    change(checkpointing, parallelism={"zero": 0})
    own = told(go(checkpointing, "write", 2))
    assert own["layout"]["rank_bytes_least"] == 0
    assert {each["rank_least_gib_s"] > 0 for each in own["checkpoints"]} == {True}
    assert told(read(checkpointing, 2))["planned"] == 2


def test_a_later_trial_writes_anew(checkpointing):
    first = read_manifest(written(checkpointing).checkpoints)
    before = {path: path.read_bytes() for path in checkpointing.checkpoints.glob("*/*optim*")}
    told(go(checkpointing, "write"))
    assert read_manifest(checkpointing.checkpoints).key != first.key
    assert not [path for path, data in before.items() if path.read_bytes() == data]
    told(read(checkpointing))


def test_more_reads_than_checkpoints_begin_again(checkpointing):
    change(checkpointing, reads=5)
    own = told(read(written(checkpointing)))
    assert [each["number"] for each in own["checkpoints"]] == [1, 2, 1, 2, 1]


def test_the_last_alone_is_kept(checkpointing):
    change(checkpointing, keep="last", writes=3)
    written(checkpointing)
    folders = {name.split("/")[0] for name in files_below(checkpointing.checkpoints)}
    assert folders == {"global_epoch1_step3"}
    assert sorted(path.name for path in checkpointing.checkpoints.iterdir()) == [
        MANIFEST, "global_epoch1_step3",
    ]  # fmt: skip
    assert [each["number"] for each in told(read(checkpointing))["checkpoints"]] == [3, 3]


@pytest.mark.parametrize(
    ("core", "name"),
    [("uring", "uring"), ("threads", "c_threads"), ("python", "python_threads")],
)
@pytest.mark.parametrize("io", [{"direct": False, "fsync": False}, {"rename": True}], ids=str)
def test_each_core_reads_what_it_wrote(checkpointing, core, name, io):
    change(checkpointing, io={"core": core, **io})
    result = read(written(checkpointing))
    assert told(result)["planned"] == 2
    assert result["core"]["name"] == name


def test_a_reader_may_have_other_transfers_than_the_writer(checkpointing):
    written(checkpointing)
    change(checkpointing, io={"io_size_bytes": 4096, "depth": 1, "core": "threads"})
    result = read(checkpointing)
    assert result["core"]["io_size_bytes"] == 4096
    assert result["verify"]["mismatches"] == 0


# ---------------------------------------------------------------- pauses and training


def test_a_pause_comes_before_each(checkpointing):
    change(checkpointing, time_between_s=0.3)
    first, second = told(go(checkpointing, "write"))["checkpoints"]
    assert first["start_s"] >= 0.3
    assert second["start_s"] >= first["start_s"] + first["wall_s"] + 0.3


def test_training_waits_for_its_checkpoints(checkpointing):
    change(checkpointing, training=TRAINING)
    result = go(checkpointing, "write", 2)
    own = told(result)
    assert own["training"] == TRAINING
    for each in own["checkpoints"]:
        assert each["stall_s"] >= each["wall_s"] - 0.001
    assert result["window"]["length_s"] >= 2 * 3 * 0.02


def test_training_goes_on_beside_a_checkpoint(checkpointing):
    change(checkpointing, training={**TRAINING, "steps": 20, "background": True})
    result = go(checkpointing, "write")
    first, second = told(result)["checkpoints"]
    # The steps beside the first are over before the second begins.
    assert second["start_s"] >= first["start_s"] + 20 * 0.02
    assert result["window"]["length_s"] >= 3 * 20 * 0.02
    told(read(checkpointing))


def test_without_training_nothing_stalls(checkpointing):
    own = told(go(checkpointing, "write"))
    assert (own["training"], {each["stall_s"] for each in own["checkpoints"]}) == (None, {None})


# ---------------------------------------------------------------- eviction


def test_a_program_of_the_site_runs_once_a_host(written_by_two, tmp_path):
    log = tmp_path / "ran"
    script = tmp_path / "drop"
    script.write_text(f"#!/bin/sh\necho ran >> {log}\n")
    script.chmod(0o755)
    eviction = {"when": "success", "method": "command", "command": [str(script)]}
    change(written_by_two, eviction=eviction)
    own = told(go(written_by_two, "evict", 2))
    assert log.read_text() == "ran\n"
    assert (own["eviction"]["method"], own["eviction"]["hosts"]) == ("command", 1)
    change(written_by_two, reads=3)
    told(read(written_by_two, 2))  # the third is of the first again
    assert log.read_text() == "ran\n" * 2


def test_a_program_that_fails_ends_the_stage(written_by_two):
    eviction = {"when": "success", "method": "command", "command": ["false"]}
    change(written_by_two, eviction=eviction)
    result = go(written_by_two, "evict", 2)
    assert result["status"] == "failed"
    assert "eviction.command: false ended with status 1" in result["errors"][0]["message"]


def test_an_eviction_is_of_all_that_will_be_read(written_by_two):
    eviction = told(go(written_by_two, "evict", 2))["eviction"]
    files = files_below(written_by_two.checkpoints)
    assert (eviction["files"], eviction["bytes"]) == (len(files), sum(files.values()))


# ---------------------------------------------------------------- what cannot be read, what is left


@pytest.mark.parametrize(
    ("changes", "ranks", "said"),
    [
        ({"scale": 0.5}, None, "holds checkpoints of another kind: scale: found 1.0, asked 0.5"),
        ({}, 2, "ranks: found 1, asked 2"),
        ({"model": {"layers": 2}}, None, "model.layers: found 3, asked 2"),
    ],
)
def test_checkpoints_of_another_kind_are_refused(checkpointing, changes, ranks, said):
    model = checkpointing.job["benchmark"]["model"]
    written(checkpointing)
    if "model" in changes:
        changes = {"model": {**model, **changes["model"]}}
    change(checkpointing, **changes)
    result = read(checkpointing, ranks)
    assert result["status"] == "failed"
    assert said in result["errors"][0]["message"]


def test_nothing_was_written(checkpointing):
    result = read(checkpointing)
    assert result["status"] == "failed"
    assert "no complete checkpoint was written there" in result["errors"][0]["message"]


@pytest.mark.parametrize("ranks", [2, 1])
def test_cleanup_leaves_nothing_even_with_fewer_ranks(written_by_two, ranks):
    draft = written_by_two.checkpoints / "global_epoch1_step2"
    name = layout_of(written_by_two, 2).files(1)[0].name
    (draft / f"{name}.part").write_bytes(b"cut short")
    words = ("--ranks", "2") if ranks < 2 else ()
    result = written_by_two.stage("cleanup", *words, ranks=ranks)
    assert result["details"]["left"] == []
    assert list(written_by_two.data_dir.iterdir()) == []


def test_cleanup_leaves_what_others_have_put_there_and_says_so(checkpointing):
    written(checkpointing)
    stranger = checkpointing.checkpoints / "global_epoch1_step1" / "notes"
    stranger.write_text("mine")
    result = go(checkpointing, "cleanup")
    assert str(stranger) in result["details"]["left"]
    assert files_below(checkpointing.data_dir).keys() == {
        str(stranger.relative_to(checkpointing.data_dir)),
        f"{checkpointing.directory.name}/MLPS_JOB",
    }


def test_kept_checkpoints_stay_but_for_those_cut_short(checkpointing):
    change(checkpointing, directory="kept")
    written(checkpointing)
    kept = checkpointing.data_dir / "kept"
    before = files_below(kept)
    change(checkpointing, writes=3)
    name = layout_of(checkpointing, 1).files(0)[0].name
    (kept / "global_epoch1_step3").mkdir()
    (kept / "global_epoch1_step3" / name).write_bytes(b"cut short")
    told_by = go(checkpointing, "cleanup")
    assert (told_by["status"], files_below(kept)) == ("complete", before)
    assert read_manifest(kept).checkpoints == (1, 2)


def test_cleanup_of_what_was_never_made(checkpointing):
    assert go(checkpointing, "cleanup")["status"] == "complete"
    assert list(checkpointing.data_dir.iterdir()) == []


# ---------------------------------------------------------------- needs


def test_needs_tell_of_a_checkpoint(checkpointing):
    job = Job(
        sha256="0", run_id="r", benchmark=checkpointing.job["benchmark"],
        data_dir=checkpointing.data_dir, seed=1,
    )  # fmt: skip
    needs = CheckpointEngine().needs(job, 1)
    own = told(go(checkpointing, "write"))
    assert needs.facts == {"checkpoint": own["layout"]}
    assert needs.disk_bytes == 2 * own["checkpoints"][0]["bytes"]
    assert needs.packages == ("numpy",)
    json.dumps(needs.facts)

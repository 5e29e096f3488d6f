"""Benchmarks of the checkpointing family as their users start them, as small as they can be."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest

from mlps.engine.verify import verify_archive

pytestmark = pytest.mark.mpi

# A checkpoint of four files and 7.9 MB.
SIZE = 7_916_288
TINY = (
    "benchmark=checkpointing/quick",
    "benchmark.model.layers=3",
    "benchmark.model.hidden=128",
    "benchmark.model.ffn=250",
    "benchmark.model.heads=4",
    "benchmark.model.kv_heads=2",
    "benchmark.model.vocab=500",
    "benchmark.scale=1",
    "benchmark.time_between_s=0.05",
    "monitor.interval_s=null",
    "preflight.skip=[CAP-01,CAP-03]",
)


@pytest.fixture
def checkpointed(place):
    """Runs a job in a data directory; returns what it printed, and its archive."""

    def run(data_dir, *words, exit_code=0):
        words = (*TINY, "cluster=local", f"data_dir={data_dir}", *words)
        return place.archived(*words, exit_code=exit_code)

    return run


def stages(archive):
    return sorted(path.name for path in (archive / "stages").iterdir())


def numbers(archive, stage, load):
    """The checkpoints that a stage has completed."""
    own = load(archive / f"stages/{stage}/result.json")["checkpointing"]
    return [checkpoint["number"] for checkpoint in own["checkpoints"]]


def reseal(archive):
    """What a forger would do: make the manifest fit again."""
    paths = sorted(path for path in archive.rglob("*") if path.is_file())
    names = [path.relative_to(archive).as_posix() for path in paths]
    (archive / "MANIFEST.sha256").write_text(
        "".join(
            f"{hashlib.sha256((archive / name).read_bytes()).hexdigest()}  {name}\n"
            for name in names
            if name != "MANIFEST.sha256"
        )
    )


def named(archive):
    """What `mlps verify` returns, and what it finds fault with."""
    verification = verify_archive(archive)
    return verification.exit_code, {finding.key for finding in verification.findings}


def test_a_quick_run_and_what_becomes_of_its_archive(checkpointed, place, memory, load):
    text, archive = checkpointed(memory)
    assert list(memory.iterdir()) == []
    assert stages(archive) == ["00-write-0", "01-evict-0", "02-read-0", "03-cleanup"]
    lines = text.splitlines()
    assert lines[0] == "checkpointing/quick on 2 ranks, 1 host: complete, verdict WHATIF"
    assert any(line.startswith("saved 3 checkpoints of 0.01 GiB at ") for line in lines)
    assert any(line.startswith("loaded 3 checkpoints of 0.01 GiB at ") for line in lines)
    for stage, direction in (("00-write-0", "write"), ("02-read-0", "read")):
        result = load(archive / f"stages/{stage}/result.json")
        own = result["checkpointing"]
        assert [each["bytes"] for each in own["checkpoints"]] == [SIZE] * 3
        assert result["io"][direction]["total_bytes"] == 3 * SIZE
    assert result["verify"]["bytes"] == 3 * SIZE
    assert result["verify"]["mismatches"] == 0

    done = place.run("verify", str(archive))
    assert (done.returncode, done.stdout.split()[1]) == (0, "valid,")
    name = "stages/00-write-0/result.json"
    path = archive / name
    before = path.read_text()
    path.write_text(before.replace('"wall_s":', '"wall_s": ', 1))
    assert named(archive) == (6, {name})
    # With a manifest that fits, the numbers no longer follow from what the stages say.
    document = json.loads(before)
    for checkpoint in document["checkpointing"]["checkpoints"]:
        checkpoint["wall_s"] /= 2
    path.write_text(json.dumps(document) + "\n")
    reseal(archive)
    code, names = named(archive)
    assert (code, {"result.json", name} & names) == (7, {name})


def test_one_job_writes_and_another_one_reads(checkpointed, memory, load):
    words = ("benchmark.directory=kept", "benchmark.writes=2", "benchmark.reads=0")
    text, written = checkpointed(memory, *words)
    assert stages(written) == ["00-write-0", "01-cleanup"]
    assert "loaded" not in text
    kept = sorted(path for path in memory.rglob("*"))
    assert [path.name for path in memory.iterdir()] == ["kept"]
    words = ("benchmark.directory=kept", "benchmark.writes=0", "benchmark.reads=2")
    text, read = checkpointed(memory, *words)
    assert stages(read) == ["00-evict-0", "01-read-0", "02-cleanup"]
    assert "saved" not in text
    assert "the first read began " in text
    own = load(read / "stages/01-read-0/result.json")["checkpointing"]
    window = load(written / "stages/00-write-0/result.json")["window"]
    assert own["source"]["run_id"] in written.name
    assert window["start_unix_s"] <= own["source"]["start_unix_s"] < own["source"]["end_unix_s"]
    assert numbers(read, "01-read-0", load) == [1, 2]
    assert sorted(path for path in memory.rglob("*")) == kept


@pytest.fixture
def small_disk(place):
    """A file system that two checkpoints fit into, and a part of a third one; needs root."""
    path = place.root / "small"
    path.mkdir()
    options = f"size={2 * SIZE + SIZE // 2}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", path]).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def test_a_full_disk_leaves_a_part_in_the_report_and_no_files(checkpointed, small_disk, load):
    text, archive = checkpointed(small_disk, "benchmark.writes=10", exit_code=4)
    assert "00-write-0: partial, 2 of 10 checkpoints had been written when it failed" in text
    assert "No space left on device (ENOSPC)" in text
    assert numbers(archive, "00-write-0", load) == [1, 2]
    assert load(archive / "result.json")["status"] == "failed"
    assert load(archive / "verdict.json")["verdict"] == "INVALID"
    assert list(small_disk.iterdir()) == []

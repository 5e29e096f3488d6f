"""Jobs on many hosts, with each launcher, from the command line to the archive."""

from __future__ import annotations

import time

import pytest
from workplace import PATIENT

pytestmark = [pytest.mark.cluster, pytest.mark.mpi]


AS_ROOT = "launcher.run_as_root=true"  # Open MPI wants it said


@pytest.fixture
def check(load, wait_for):
    """Looks whether a job was valid on all hosts and left nothing but its archive."""

    def look(place, done):
        logs = [path.read_text() for path in place.results_dir.glob("*/stages/*/stderr.log")]
        assert done.returncode == 0, "".join([done.stderr, done.stdout, *logs])
        archive, names = place.archive(), place.cluster.names
        result = load(archive / "result.json")
        assert (result["status"], result["hosts"]) == ("complete", len(names))
        assert load(archive / "stages/01-run-0/result.json")["ranks"]["hosts"] == names
        assert place.run("verify", str(archive)).returncode == 0
        assert list(place.data_dir.iterdir()) == []
        wait_for(lambda: not place.leftovers(), "the end of all processes", 10)

    return look


# With MPICH, training and checkpoints are run on eight hosts below.
@pytest.mark.parametrize("flavour", ["openmpi"], indirect=True)
def test_eight_hosts_that_share_no_results(make_place, flavour, check):
    words, env = flavour
    place = make_place(8, **env)
    for node in place.cluster.nodes:
        node.private_tmpfs(place.results_dir)
    started = time.monotonic()
    done = place.run(*place.small("cluster=8node", *words))
    assert time.monotonic() - started < 120
    check(place, done)
    for node in place.cluster.nodes:
        assert node.run(["ls", "-A", place.results_dir]).stdout == ""


def test_each_host_counts_its_own_network_and_their_one_machine_its_device_once(make_place, load):
    place = make_place(2)
    # Long enough for reports of the ranks to one another.
    words = ("benchmark.ranks_per_host=2", "benchmark.duration_s=2")
    done = place.run(*place.small("cluster=2node", "launcher=mpich", *words))
    assert done.returncode == 0, done.stderr
    result = load(place.archive() / "stages/01-run-0/result.json")
    networks = [(entry["host"], entry["interfaces"]) for entry in result["network"]]
    assert networks == [(name, ["eth0"]) for name in place.cluster.names]
    assert all(entry["receive_bytes"] + entry["send_bytes"] > 0 for entry in result["network"])
    assert len(result["mount"]) == 1
    assert len(result["device"]) <= 1  # none on a tmpfs
    for entry in [*result["network"], *result["device"]]:
        assert 0.3 < entry["window"]["length_s"] < 5


def test_openmpi_4(make_place, openmpi4, check):
    place = make_place(2, **openmpi4)
    done = place.run(*place.small("cluster=2node", "launcher=openmpi4", AS_ROOT))
    check(place, done)


def test_srun_in_an_allocation(make_slurm_place, check):
    place = make_slurm_place(2)
    words = place.small("cluster=slurm", "launcher=srun", "launcher.ssh=null")
    done = place.run(*words, within=["salloc", "-N2", "-n2"])
    check(place, done)


def test_mpirun_in_an_allocation(make_slurm_place, openmpi5, check):
    place = make_slurm_place(2, **openmpi5)
    words = place.small("cluster=slurm", "launcher=salloc", AS_ROOT, "launcher.ssh=null")
    done = place.run(*words, within=["salloc", "-N2", "-n2"])
    check(place, done)


def on_eight_hosts(place, *words):
    """The archive of a job with a rank on each host."""
    done = place.run(
        "cluster=8node", "cluster.ranks_per_host=1", *words,
        f"launcher.ssh={place.cluster.ssh}", "preflight.skip=[CAP-03]",
        f"data_dir={place.data_dir}", f"results_dir={place.results_dir}",
    )  # fmt: skip
    assert place.archives(), done.stderr
    archive = place.archive()
    logs = [path.read_text() for path in archive.glob("stages/*/stderr.log")]
    assert done.returncode == 0, "".join([done.stderr, done.stdout, *logs])
    return archive


def assert_nothing_left(place, archive, wait_for):
    """The archive is valid, and neither files nor processes of its job are left."""
    assert place.run("verify", str(archive)).returncode == 0
    assert list(place.data_dir.iterdir()) == []
    wait_for(lambda: not place.leftovers(), "the end of all processes", 10)


def test_training_on_eight_hosts(make_place, load, wait_for):
    """Each host reads its own share of the files that all of them have made together."""
    place = make_place(8)
    archive = on_eight_hosts(
        place, "benchmark=training/quick", "launcher=mpich", *PATIENT,
        "benchmark.dataset.record_bytes=200000", "benchmark.dataset.record_bytes_stdev=0",
        "benchmark.evaluation.batch=1",
    )  # fmt: skip
    own = load(archive / "stages/03-run-0/result.json")
    made = load(archive / "stages/00-generate/result.json")["dataset"]
    assert own["ranks"]["hosts"] == place.cluster.names
    assert made["written_files"] == 104
    assert [epoch["steps"] for epoch in own["training"]["epochs"]] == [96 // 8 // 4] * 3
    assert all(read > 0 for read in own["ranks"]["peak_rss_bytes"])
    assert own["io"]["read"]["total_operations"] == 3 * 96 + 8
    assert_nothing_left(place, archive, wait_for)


def test_checkpoints_are_read_on_other_hosts_than_they_were_written_on(make_place, load, wait_for):
    place = make_place(8)
    archive = on_eight_hosts(
        place, "benchmark=checkpointing/quick", "launcher=mpich", *PATIENT,
        "benchmark.read_shift=host",
    )  # fmt: skip
    written, evicted, own = (
        load(archive / f"stages/{stage}/result.json")
        for stage in ("00-write-0", "01-evict-0", "02-read-0")
    )
    assert own["ranks"]["hosts"] == place.cluster.names
    assert own["checkpointing"]["crossed_ranks"] == 8
    assert own["checkpointing"]["shift"] == 1
    assert evicted["checkpointing"]["eviction"]["hosts"] == 8
    size = sum(
        written["checkpointing"]["layout"][f"{part}_bytes"] for part in ("model", "optimizer")
    )
    for result in (written, own):
        checkpoints = result["checkpointing"]["checkpoints"]
        assert [each["number"] for each in checkpoints] == [1, 2, 3]
        assert [each["bytes"] for each in checkpoints] == [size] * 3
        assert all(each["straggler_host"] in place.cluster.names for each in checkpoints)
        assert all(each["counted_bytes"]["network"] >= 0 for each in checkpoints)
    assert own["verify"]["bytes"] == 3 * size
    assert_nothing_left(place, archive, wait_for)


def test_vectors_are_searched_from_four_hosts_as_from_one(make_place, load, wait_for):
    place = make_place(4)
    told = []
    for count in (1, 4):
        before = set(place.archives())
        done = place.run(
            f"cluster.hosts=['node[1-{count}]']", "cluster.ranks_per_host=1", "launcher=mpich",
            "benchmark=vectordb/quick", "benchmark.trials=1", "benchmark.run.runtime_s=1",
            "benchmark.dataset.num_vectors=4000", "benchmark.query.num_query_vectors=100",
            f"launcher.ssh={place.cluster.ssh}", "preflight.skip=[CAP-03]", *PATIENT,
            f"data_dir={place.data_dir}", f"results_dir={place.results_dir}",
        )  # fmt: skip
        (archive,) = set(place.archives()) - before
        assert done.returncode == 0, done.stderr + done.stdout
        own = load(archive / "stages/03-run-0/result.json")
        assert own["ranks"]["hosts"] == place.cluster.names[:count]
        (point,) = own["vectordb"]["points"]
        assert point["reads"]["backend"]["bytes"] > 0
        truth = load(archive / "stages/01-truth/result.json")["vectordb"]["truth"]
        told.append((own["vectordb"]["dataset"], truth["sha256"], point["recall"]))
        assert_nothing_left(place, archive, wait_for)
    assert told[0] == told[1]
    assert told[0][2]["mean"] >= 0.95

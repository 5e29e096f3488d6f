"""What people read of a job of training, from archives of a job that was played."""

from __future__ import annotations

import json

import pytest
from conftest import Silent, histogram_of, request_of, stage_result
from report_texts import assert_follows_from_evidence, squeezed, text_of
from training_results import GIB, Step, dataset_of, epoch_of, training_of, training_spec

from mlps.engine.errors import ArchiveError, ComplianceError
from mlps.engine.report import csv_report, headline, read_published
from mlps.engine.report_command import report
from mlps.engine.run import run_job
from mlps.engine.signals import StopRequests
from mlps.engine.training_report import stage_line

NOTHING_COMPARED = {"operations": 0, "blocks": 0, "bytes": 0, "mismatches": 0}


def reported(**sections):
    """What a stage reports: in 2 s, 1024 reads of 4 MiB."""
    result = stage_result(ranks=1, verify=NOTHING_COMPARED, **sections)
    del result["io"]["write"]
    named = ("event", "stage", "option", "trial")
    return {key: value for key, value in result.items() if key not in named}


def trained(**training):
    return reported(
        training=training_of(ranks=1, **training),
        latency={"batch_wait": histogram_of(1, 2, 9), "batch_read": histogram_of(5, 10, 20)},
        details={"working_set_bytes": GIB},
    )


def behaviours(run=None, trials=1):
    written = stage_result(ranks=1, dataset=dataset_of(train_files=80))
    ceiling = {"training": training_of(ranks=1, reads=False, epochs=1, step=Step(load_s=0))}
    return {
        "generate": {key: written[key] for key in ("window", "io", "dataset", "core")},
        "ceiling": reported(**ceiling),
        "warmup": trained(),
        **{f"run-{trial}": run or trained() for trial in range(trials)},
    }


@pytest.fixture
def train(player):
    """Runs a whole job of training with a player, and gives what came of it."""

    def run(changes=None, *, played=None, trials=1, display=None):
        player.behave(played or behaviours(trials=trials))
        fitting = {
            "trials": trials,
            "cluster.ranks_per_host": 1,
            "benchmark.dataset.train.files": 80,
        }
        spec = training_spec({**player.changes, **fitting, **(changes or {})})
        return run_job(request_of(spec), display or Silent(), StopRequests())

    return run


TEXT = """\
training/quick on 1 rank, 1 host: complete, verdict WHATIF
run, mean of 2 trials
accelerator utilisation (AU) 92.31 %, 90 % asked for: reached
AU without reads 95.85 %, as DLIO computes it 93.23 %, of whole epochs 88.81 %, of the worst rank \
and epoch 92.31 %
read 0.888 GiB/s (nominal 0.888 GiB/s), 71.0 samples/s (as DLIO computes it 73.8)
time of ranks: computing 88.8 %, waiting for batches 7.6 %, for other ranks 1.8 %, computing too \
long 0.9 %, the engine itself 0.9 %
wait for a batch, ms: p50 2.000, p95 9.000, p99 9.000, max 9.000
reading a batch, ms: p50 10.000, p95 20.000, p99 20.000, max 20.000
epoch steps length, s AU, % DLIO's AU, % worst rank, % GiB/s samples/s from storage, %
1 10 1.13 92.31 93.23 92.31 0.888 71.0 100.0
2 10 1.13 92.31 93.23 92.31 0.888 71.0 100.0
batches of 8, 100 ms each, 2 readers and 2 batches ahead on each rank; files were dropped from the \
page caches, 0.0 % stayed
dataset: 80 npz files, 1.00 GiB, written at 1.00 GiB/s
read
operations/s 512.000
latency mean, ms 1.507
latency p50, ms 1.000
latency p95, ms 2.000
latency p99, ms 2.000
latency p99 of the worst rank, ms 2.000
latency max, ms 8.999
client CPU 0.375 s per GiB
working set 1.00 GiB, 12.5 % of the memory of the hosts (8.00 GiB)
window 2.00 s, drain 0.25 s, peak memory of a rank 100 MiB
warning TRN-01 benchmark.dataset.train.files: the dataset has 80 files, Rules 3.1.2 ask for 12,800 \
(steps: 500 x 1 accelerator x batch 8 / 1 samples a file = 4,000 files; memory: 5 x 8.00 GiB / \
3,355,443 bytes a file = 12,800 files; at least 12,800 files, 40.0 GiB)
"""


def test_a_report_of_training(train):
    archive = train(trials=2).archive
    assert squeezed(text_of(archive)) == squeezed(TEXT)
    assert headline(read_published(archive).result) == "AU 92.3 %, 0.89 GiB/s, 71 samples/s"


def test_an_archive_of_training_follows_from_its_evidence(train, edit, reseal):
    assert_follows_from_evidence(train().archive, "au_nominal_pct", edit, reseal)


def test_what_went_wrong_is_said(train):
    slow = trained(step=Step(load_s=0.05))
    slow["training"]["eviction"] = None
    for epoch in slow["training"]["epochs"]:
        epoch["counted_read_bytes"] = {}
    played = behaviours(slow)
    del played["ceiling"], played["generate"]
    text = text_of(train(played=played).archive)
    lines = text.splitlines()
    assert lines[2].endswith(" %, 90 % asked for: missed")
    assert lines[3].startswith("AU without reads not measured, ")
    assert "from storage" not in text
    assert "files stayed in the page caches" in text
    assert "dataset:" not in text
    assert "warning TRN-02 03-run-0: accelerator utilisation" in text


def test_evaluations_checkpoints_and_what_is_left_over_are_told(train):
    done = {"after_epoch": 2, "steps": 5, "wall_s": 2.0, "read_bytes": GIB}
    saved = {"after_epoch": 2, "written_bytes": GIB, "wall_s": 0.5}
    run = trained(evaluations=[done], checkpoints=[saved], dropped_samples=1)
    evaluation = {"computation_s": 0, "batch": 2, "after_epoch": 2, "every_epochs": 2}
    played = behaviours(run)
    played["generate"]["dataset"] |= {"written_files": 0, "checked": "headers"}
    lines = text_of(train({"benchmark.evaluation": evaluation}, played=played).archive).splitlines()
    assert "evaluation 2.00 s, 0.500 GiB/s, 5.0 samples/s" in lines
    assert "checkpoints 2.000 GiB/s, the longest 0.50 s" in lines
    assert (
        "dataset: 80 npz files, 1.00 GiB, headers checked; 1 sample left over in each epoch"
        in lines
    )


def test_of_many_epochs_the_first_and_the_last_are_shown(train):
    run = trained(epochs=30)
    played = behaviours(run)
    lines = text_of(train({"benchmark.train.epochs": 30}, played=played).archive).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("epoch "))
    numbers = [line.split()[0] for line in lines[start + 1 : start + 22]]
    assert numbers == [*map(str, range(1, 11)), "...", *map(str, range(21, 31))]


def test_stages_tell_how_they_did(train):
    display = Silent()
    train(display=display)
    ended = [line for line in display.lines if ": complete in " in line]
    assert [line.partition(" s, ")[2] for line in ended] == [
        "80 files, 1.00 GiB, 320 of them written at 1.00 GiB/s",
        "AU 95.8 %, without reads, 73 samples/s",
        "AU 92.3 %, 0.89 GiB/s, 71 samples/s",
        "AU 92.3 %, 0.89 GiB/s, 71 samples/s",
        "",
    ]


def test_a_dataset_that_was_there_is_told():
    metrics = {"dataset_files": 8, "dataset_gib": 1.0, "dataset_written_files": 0}
    assert stage_line(metrics) == "8 files, 1.00 GiB, all of them were there"
    assert stage_line({"read_gib_s": 1.0}) is None


def test_a_line_of_csv_for_each_metric(train):
    text = csv_report([read_published(train().archive)])
    metrics = {line.split(",")[6] for line in text.splitlines()[1:]}
    assert {
        "au_nominal_pct",
        "au_engine_ceiling_pct",
        "train_gib_s",
        "batch_wait_p99_ms",
    } <= metrics


CLOSED = {
    "division.name": "closed",
    "division.any_workload": False,
    "edition.workloads": ["training/quick"],
    # Both directories of these tests are on one file system.
    "preflight.skip": ["CAP-03"],
}
ENOUGH = {"benchmark.dataset.train.files": 12_800}


def test_closed_refuses_a_dataset_that_cannot_be_enough_before_anything_is_written(train, player):
    with pytest.raises(ComplianceError, match=r"TRN-01 .* Rules 3.1.2 ask for 4,000"):
        train(CLOSED)
    declared = {"benchmark.dataset.train.files": 4000, "benchmark.host_memory_gib": 1000}
    with pytest.raises(ComplianceError, match=r"TRN-01 .* memory: 5 x 1,000.00 GiB"):
        train(CLOSED | declared)
    assert not player.results_dir.exists()


def test_closed_is_invalid_where_the_hosts_have_more_memory(train):
    display = Silent()
    changes = CLOSED | {"benchmark.dataset.train.files": 4000}
    played = behaviours()
    played["generate"]["dataset"]["train_files"] = 4000
    verdict = train(changes, played=played, display=display).verdict
    assert (verdict.name, verdict.exit_code) == ("INVALID", 7)
    assert [line for line in display.lines if line.startswith("error TRN-01")]
    assert "TRN-01" in [finding.rule for finding in verdict.findings]


def test_closed_with_all_that_is_asked_for(train):
    run = trained()
    played = behaviours(run)
    played["generate"]["dataset"] |= {"train_files": 12_800, "bytes": 160 * GIB}
    report = train(CLOSED | ENOUGH, played=played)
    assert [f for f in report.verdict.findings if f.severity == "error"] == []
    assert (report.verdict.name, report.verdict.exit_code) == ("CLOSED", 0)


def test_closed_with_too_little_utilisation_breaks_a_rule(train):
    played = behaviours(trained(step=Step(load_s=0.05)))
    played["generate"]["dataset"] |= {"train_files": 12_800, "bytes": 160 * GIB}
    verdict = train(CLOSED | ENOUGH, played=played).verdict
    assert (verdict.name, verdict.exit_code) == ("INVALID", 7)


def test_an_epoch_too_few_cannot_be_used(train):
    run = trained()
    run["training"]["epochs"] = [epoch_of(1, ranks=1)]
    verdict = train(played=behaviours(run)).verdict
    assert (verdict.name, verdict.exit_code) == ("INVALID", 5)


# ---------------------------------------------------------------- summary.json


def test_summary_json_of_every_trial(train, capsys):
    archive = train(trials=2).archive
    assert report([str(archive.root), "--dlio"], as_json=False) == 0
    documents = json.loads(capsys.readouterr().out)
    assert list(documents) == [f"{archive.run_id}/{name}" for name in ("03-run-0", "04-run-1")]
    assert documents[f"{archive.run_id}/03-run-0"]["num_files_train"] == 80


def test_other_archives_have_no_summary_json(sealed):
    with pytest.raises(ArchiveError, match="no archive holds a run of training"):
        report([str(sealed.root), "--dlio"], as_json=False)

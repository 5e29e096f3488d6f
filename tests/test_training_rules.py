"""Where each rule of training fires and where it does not."""

from __future__ import annotations

import pytest
from training_results import GIB, Step, dataset_of, epoch_of, training_of, training_spec

from mlps.engine.plan import make_plan
from mlps.engine.stage_rules import judge_stage_result
from mlps.engine.training_rules import (
    judge_client_memory,
    judge_dataset_size,
    judge_known_size,
    judge_training,
    judge_utilisation,
)

COMPLETE = {"status": "complete", "reason": None, "message": None, "elapsed_s": 1.0}
CLOSED = {"division.name": "closed"}
RUN = "03-run-0"

# Of 4 ranks with batches of 8 and a sample a file, and with 1 GiB / 320 a file.
STEPS_FILES = 16_000


def found(findings):
    return [(finding.rule, finding.severity, finding.key) for finding in findings]


class Job:
    """A job of one trial whose stages reported what fits its configuration."""

    def __init__(self, make_result, changes=None):
        self.spec = training_spec({"trials": 1, **(changes or {})})
        self.plan = make_plan(self.spec, python="/python")
        sections = {
            "generate": {"dataset": dataset_of()},
            "ceiling": {
                "training": training_of(reads=False, epochs=1, step=Step(load_s=0, more_s=0))
            },
            "run": {"training": training_of()},
        }
        self.results = {
            launch.name: make_result(ranks=4, **sections[launch.stage])
            for launch in self.plan.launches
            if launch.stage in sections
        }
        self.outcomes = {launch.name: dict(COMPLETE) for launch in self.plan.launches}

    @property
    def run(self):
        return self.results[RUN]["training"]

    def train(self, **training):
        self.run.update(training_of(**training))

    def _all(self):
        return self.spec, self.plan, self.outcomes, self.results

    def utilisation(self):
        return judge_utilisation(*self._all())

    def training(self):
        return judge_training(*self._all())


@pytest.fixture
def make_job(make_result):
    return lambda changes=None: Job(make_result, changes)


@pytest.fixture
def job(make_job):
    return make_job()


def test_a_good_job_has_no_findings(job):
    assert job.utilisation() == []
    assert job.training() == []


def test_a_job_of_another_family_has_none(make_spec, plan_of, make_result):
    spec, plan = make_spec(), plan_of()
    names = [launch.name for launch in plan.launches]
    outcomes = {name: COMPLETE for name in names}
    results = {name: make_result(training=training_of(), dataset=dataset_of()) for name in names}
    assert judge_dataset_size(spec, GIB) == []
    assert judge_utilisation(spec, plan, outcomes, results) == []
    assert judge_training(spec, plan, outcomes, results) == []


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_stage_that_did_not_end_well_is_not_judged(job, status):
    job.train(step=Step(load_s=1), epochs=1)
    job.outcomes[RUN]["status"] = status
    assert job.utilisation() == []
    assert job.training() == []


# ---------------------------------------------------------------- TRN-01: size


@pytest.mark.parametrize(
    ("changes", "severity"), [({}, "warning"), (CLOSED, "error")], ids=["whatif", "closed"]
)
def test_trn_01_fires_for_a_dataset_too_small_for_the_steps(changes, severity):
    (finding,) = judge_dataset_size(training_spec(changes), 0)
    assert found([finding]) == [("TRN-01", severity, "benchmark.dataset.train.files")]
    assert finding.text == (
        "the dataset has 320 files, Rules 3.1.2 ask for 16,000 (steps: 500 x 4 accelerators x "
        "batch 8 / 1 samples a file = 16,000 files; memory: 5 x 0.00 GiB / 3,355,443 bytes a file "
        "= 0 files; at least 16,000 files, 50.0 GiB)"
    )
    assert finding.hint == f"benchmark.dataset.train.files={STEPS_FILES}"


@pytest.mark.parametrize(
    ("memory_gib", "declared_gib", "files"),
    [(10, None, 16_000), (11, None, 17_600), (10, 11, 17_600), (11, 10, 17_600)],
)
def test_trn_01_goes_by_the_larger_of_measured_and_declared_memory(memory_gib, declared_gib, files):
    changes = {"benchmark.host_memory_gib": declared_gib}
    enough = training_spec(changes | {"benchmark.dataset.train.files": files})
    less = training_spec(changes | {"benchmark.dataset.train.files": files - 1})
    assert judge_dataset_size(enough, memory_gib * GIB) == []
    (finding,) = judge_dataset_size(less, memory_gib * GIB)
    assert finding.hint == f"benchmark.dataset.train.files={files}"


def test_trn_01_is_silent_for_a_dataset_just_large_enough():
    enough = training_spec(CLOSED | {"benchmark.dataset.train.files": STEPS_FILES})
    assert judge_dataset_size(enough, 10 * GIB) == []


def test_trn_01_fires_where_nothing_is_known_of_the_memory():
    spec = training_spec(CLOSED | {"benchmark.dataset.train.files": STEPS_FILES})
    (finding,) = judge_dataset_size(spec, None)
    assert found([finding]) == [("TRN-01", "error", "benchmark.host_memory_gib")]
    assert judge_known_size(spec, None) == []


def test_trn_01_judges_steps_and_declared_memory_before_hosts_were_asked():
    few = {"benchmark.dataset.train.files": STEPS_FILES - 1}
    (finding,) = judge_known_size(training_spec(CLOSED | few), None)
    assert "memory" not in finding.text
    declared = {"benchmark.dataset.train.files": STEPS_FILES, "benchmark.host_memory_gib": 11}
    (finding,) = judge_known_size(training_spec(declared), None)
    assert "memory: 5 x 11.00 GiB" in finding.text


def test_trn_01_judges_every_option():
    options = [
        {"name": "small", "set": {"reader": {"batch": 1}}},
        {"name": "large", "set": {"reader": {"batch": 2}}},
    ]
    changes = {"benchmark.options": options, "benchmark.dataset.train.files": 2000}
    (finding,) = judge_dataset_size(training_spec(changes), 0)
    assert finding.text.startswith("the dataset of option large has 2,000 files, Rules 3.1.2 ask")


# ---------------------------------------------------------------- TRN-02, TRN-03: utilisation


@pytest.mark.parametrize(
    ("changes", "severity"), [({}, "warning"), (CLOSED, "error")], ids=["whatif", "closed"]
)
def test_trn_02_fires_and_names_the_storage(make_job, changes, severity):
    job = make_job(changes)
    job.train(step=Step(load_s=0.05))
    (finding,) = job.utilisation()
    assert found([finding]) == [("TRN-02", severity, RUN)]
    assert finding.text == (
        "accelerator utilisation 64.17 % is below the 90 % that are asked for; without reads it "
        "was 95.84 %: the storage is the limit, ranks waited for batches 33.1 % of the time"
    )


def test_trn_02_names_the_engine_where_it_cannot_reach_the_threshold_without_reads(job):
    slow = Step(load_s=0, more_s=0, meeting_s=0.02)
    job.results["01-ceiling"]["training"] = training_of(reads=False, step=slow)
    job.train(step=Step(load_s=0.05, meeting_s=0.02))
    (finding,) = job.utilisation()
    assert finding.text.endswith(
        "without reads it was 80.42 %: engine, network or hosts are the limit, the storage was "
        "not judged"
    )


def test_trn_02_names_the_engine_where_reads_cost_next_to_nothing(make_job):
    job = make_job({"benchmark.au_least_pct": 95})
    job.train(step=Step(load_s=0.001, more_s=0))
    finding = job.utilisation()[0]
    assert "asked for; without reads it was 95.84 %: engine, network or hosts" in finding.text


def test_trn_02_says_that_there_is_no_ceiling(job):
    del job.results["01-ceiling"]
    job.train(step=Step(load_s=0.05))
    (finding,) = job.utilisation()
    assert finding.text.endswith(
        "the stage ceiling was not run: nothing tells slow storage from a slow engine"
    )
    assert finding.hint.startswith("benchmark.ceiling.when=success")


def test_trn_02_never_rounds_up_to_the_threshold(make_job):
    job = make_job({"benchmark.au_least_pct": 90})
    for epoch in job.run["epochs"]:
        epoch |= {"au_nominal_sum_pct": 4 * 89.9999, "au_dlio_sum_pct": 4 * 89.9999}
    (finding,) = job.utilisation()
    assert finding.text.startswith("accelerator utilisation 89.99 % is below the 90 %")


@pytest.mark.parametrize(
    ("nominal_pct", "dlio_pct", "rules"),
    [
        (89.9, 90.1, ["TRN-02", "TRN-03"]),
        (90.1, 89.9, ["TRN-03"]),
        (89.9, 89.9, ["TRN-02"]),
        (90.0, 90.0, []),
    ],
)
def test_trn_03_fires_where_the_two_utilisations_disagree(job, nominal_pct, dlio_pct, rules):
    for epoch in job.run["epochs"]:
        epoch |= {"au_nominal_sum_pct": 4 * nominal_pct, "au_dlio_sum_pct": 4 * dlio_pct}
    assert [finding.rule for finding in job.utilisation()] == rules
    if "TRN-03" in rules:
        finding = job.utilisation()[-1]
        assert finding.severity == "warning"
        assert f"{nominal_pct:.3f} %" in finding.text
        assert f"{dlio_pct:.3f} %" in finding.text


# ---------------------------------------------------------------- TRN-04, TRN-05: memory


@pytest.mark.parametrize(("cache", "severity"), [("drop", "warning"), ("keep", "info")])
def test_trn_04_fires_and_names_the_epochs(make_job, cache, severity):
    job = make_job({"benchmark.reader.cache": cache})
    job.run["epochs"][1]["counted_read_bytes"] = {"device": GIB // 8, "network": GIB}
    (finding,) = job.training()
    assert found([finding]) == [("TRN-04", severity, RUN)]
    assert finding.text == (
        "memory served epochs: of what they read the block devices moved less than 90 % "
        "(epoch 2 12.5 %)"
    )


def test_trn_04_goes_by_the_mount_of_nfs(job):
    job.results[RUN]["mount"] = [{"host": "a", "type": "nfs4"}]
    job.run["epochs"][0]["counted_read_bytes"] = {"device": 0, "mount": GIB}
    job.run["epochs"][1]["counted_read_bytes"] = {"device": GIB, "mount": 0}
    (finding,) = job.training()
    assert finding.text.endswith("the mounts moved less than 90 % (epoch 2 0.0 %)")


@pytest.mark.parametrize(
    ("read_bytes", "counted"),
    [(GIB, {}), (GIB, {"mount": 0}), (256 * 2**20 - 1, {"device": 0}), (GIB, {"device": GIB})],
    ids=["nobody counts", "the mount of a disk", "too little", "all from storage"],
)
def test_trn_04_is_silent(job, read_bytes, counted):
    for epoch in job.run["epochs"]:
        epoch |= {"read_bytes": read_bytes, "counted_read_bytes": counted}
    assert "TRN-04" not in [finding.rule for finding in job.training()]


@pytest.mark.parametrize(("resident_pct", "fires"), [(1.5, True), (1.0, False), (None, False)])
def test_trn_05_fires_where_dropped_files_stayed_in_memory(job, resident_pct, fires):
    job.run["eviction"]["resident_pct"] = resident_pct
    findings = job.training()
    assert found(findings) == ([("TRN-05", "warning", RUN)] if fires else [])
    if fires:
        assert "1.5 % of 32 files that were looked at were still in the page cache" in str(findings)


def test_trn_05_is_silent_where_nothing_was_dropped(job):
    job.run["eviction"] = None
    assert job.training() == []


# ---------------------------------------------------------------- TRN-06: whole epochs


def test_trn_06_fires_for_a_missing_epoch(job):
    del job.run["epochs"][1]
    (finding,) = job.training()
    assert found([finding]) == [("TRN-06", "error", RUN)]
    assert finding.text == "epochs 1 to 2 were to be made, 1 were"


def test_trn_06_fires_where_there_was_no_epoch(job):
    job.results[RUN]["training"] = None
    (finding,) = job.training()
    assert finding.text == "epochs 1 to 2 were to be made, none were"


def test_trn_06_fires_for_missing_steps(job):
    job.run["epochs"][1] = epoch_of(2, steps=9)
    (finding,) = job.training()
    assert found([finding]) == [("TRN-06", "error", RUN)]
    assert finding.text == "epoch 2 has 9 of 10 steps"


# ---------------------------------------------------------------- TRN-07, TRN-08: the dataset


def test_trn_07_says_who_made_the_dataset(job):
    job.results["00-generate"]["dataset"]["made_by"] = "other"
    (finding,) = job.training()
    assert found([finding]) == [("TRN-07", "info", "00-generate")]
    assert finding.text == (
        "the files in /data/training were not made by mlps: only their sizes were checked"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"train_files": 310}, "the job asks for 320 files, 00-generate left 310"),
        ({"eval_files": 2}, "the job asks for 0 files for evaluation, 00-generate left 2"),
        ({"samples_per_file": 2}, "the job asks for 1 samples a file, 00-generate left 2"),
    ],
)
def test_trn_08_fires_for_another_dataset(job, change, text):
    job.results["00-generate"]["dataset"] |= change
    (finding,) = job.training()
    assert (*found([finding]), finding.text) == (("TRN-08", "error", RUN), text)


@pytest.mark.parametrize(("part", "fires"), [(0.5, True), (1.2, True), (0.95, False)])
def test_trn_08_fires_for_other_bytes(job, part, fires):
    read_bytes = round(part * GIB)
    counted = {"device": read_bytes}
    job.run["epochs"][1] |= {"read_bytes": read_bytes, "counted_read_bytes": counted}
    findings = job.training()
    assert found(findings) == ([("TRN-08", "warning", RUN)] if fires else [])
    if fires:
        assert findings[0].text == (
            "the files of an epoch hold 1.00 GiB by what 00-generate left, but other bytes were "
            f"read: epoch 2 {part:.2f} GiB"
        )


@pytest.mark.parametrize("change", [{"format": "parquet"}, {"train_files": 640}])
def test_trn_08_knows_how_much_of_a_dataset_an_epoch_reads(make_job, change):
    job = make_job({"benchmark.dataset.train.files": change.get("train_files", 320)})
    job.results["00-generate"]["dataset"] |= change
    for epoch in job.run["epochs"]:
        epoch |= {"read_bytes": GIB // 2, "counted_read_bytes": {}}
    assert job.training() == []


def test_trn_08_is_silent_where_nobody_looked_at_the_dataset(job):
    del job.results["00-generate"]
    job.run["epochs"][1]["read_bytes"] = GIB // 2
    job.run["epochs"][1]["counted_read_bytes"] = {}
    assert job.training() == []


# ---------------------------------------------------------------- rules of all stages


NOTHING_COMPARED = {"operations": 0, "blocks": 0, "bytes": 0, "mismatches": 0}


def of_stage(result, memory_bytes=None):
    findings = judge_stage_result("r", True, result, memory_bytes, memory_times=3)
    return [(finding.rule, finding.severity) for finding in findings]


@pytest.fixture
def trained(make_result):
    """A result of training, which compares nothing."""

    def make(**changes):
        result = make_result(ranks=4, training=training_of(), verify=NOTHING_COMPARED, **changes)
        result["core"]["direct"] = False
        return result

    return make


def test_training_compares_no_read_and_that_is_no_finding(trained):
    assert of_stage(trained()) == []
    assert of_stage(trained() | {"training": None}) == [("RES-02", "warning")]
    assert of_stage(trained() | {"verify": NOTHING_COMPARED | {"mismatches": 1}}) == [
        ("RES-02", "error")
    ]


def test_training_that_moved_nothing_or_took_too_long_is_found(trained):
    assert of_stage(trained(io={})) == [("RES-01", "error")]
    result = trained()
    result["io"]["read"]["latency"]["max"] = 10**10
    assert of_stage(result) == [("RES-04", "error")]


def test_a_slower_core_is_found_in_training_too(trained):
    result = trained()
    result["core"]["refused"] = [{"core": "c", "reason": "there is no compiler"}]
    assert of_stage(result) == [("RES-12", "warning")]


@pytest.mark.parametrize(
    ("eviction", "severity"),
    [
        ({"resident_pct": 0.0}, "info"),
        ({"resident_pct": 3.0}, "warning"),
        ({"resident_pct": None}, "warning"),
        (None, "warning"),
    ],
    ids=["dropped", "stayed", "not seen", "kept"],
)
def test_a_small_dataset_is_a_note_where_its_files_were_dropped(trained, eviction, severity):
    result = trained(details={"working_set_bytes": GIB})
    known = {"files": 320, "sampled_files": 32}
    result["training"]["eviction"] = None if eviction is None else known | eviction
    assert of_stage(result, GIB) == [("RES-11", severity)]
    assert of_stage(result, GIB // 3) == []


def test_pauses_for_evaluations_and_checkpoints_are_no_drift(trained):
    result = trained(
        timeline={"bin_s": 1, "read_bytes": [*range(20)], "write_bytes": [0] * 20},
    )
    result["window"] |= {"length_s": 20.0}
    assert of_stage(result) == [("RES-06", "warning")]
    saved = {"after_epoch": 1, "written_bytes": GIB, "wall_s": 0.5}
    assert of_stage(result | {"training": training_of(checkpoints=[saved])}) == []
    done = {"after_epoch": 1, "steps": 5, "wall_s": 2.0, "read_bytes": GIB}
    assert of_stage(result | {"training": training_of(evaluations=[done])}) == []


@pytest.mark.parametrize(
    ("ranks", "memory_bytes", "rules"),
    [
        (4, 2_000_000_000, []),
        (5, 2_000_000_000, [("TRN-09", "warning", "cluster.ranks_per_host")]),
        (5, None, []),
    ],
    ids=["enough", "less", "unknown"],
)
def test_trn_09_is_about_the_memory_of_a_client(ranks, memory_bytes, rules):
    assert found(judge_client_memory(training_spec({}), ranks, memory_bytes)) == rules

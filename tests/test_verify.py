"""The verdict, and the check of an archive from its own files: where each EVD rule fires."""

from __future__ import annotations

import json

import pytest

from mlps.engine import archive as files
from mlps.engine.archive import Archive
from mlps.engine.errors import ArchiveError
from mlps.engine.evidence import read_evidence, read_job
from mlps.engine.verify import verify_archive

RUN = "stages/01-run-0/result.json"


def found(archive):
    """Exit code of a verification, and its findings as rule and key."""
    checked = verify_archive(archive.root)
    return checked.exit_code, [(finding.rule, finding.key) for finding in checked.findings]


# ---------------------------------------------------------------- an archive that is right


def test_a_sealed_archive_is_valid(sealed):
    checked = verify_archive(sealed.root)
    assert (checked.exit_code, checked.verdict, checked.findings) == (0, "WHATIF", ())
    assert checked.as_document() == {
        "path": str(sealed.root),
        "run_id": sealed.run_id,
        "valid": True,
        "verdict": "WHATIF",
        "exit_code": 0,
        "findings": [],
        "judged": [finding.as_document() for finding in checked.judged],
    }
    assert [finding.rule for finding in checked.judged] == ["CAP-03"]


def test_verification_changes_nothing(sealed):
    before = {path: path.stat().st_mtime_ns for path in sealed.root.rglob("*")}
    verify_archive(sealed.root)
    assert {path: path.stat().st_mtime_ns for path in sealed.root.rglob("*")} == before


def test_the_evidence_of_an_archive(sealed):
    evidence = read_evidence(sealed)
    names = [launch.name for launch in evidence.plan.launches]
    assert names == ["00-prepare", "01-run-0", "02-run-1", "03-cleanup"]
    assert set(evidence.outcomes) == set(evidence.results) == set(names)
    assert [finding.rule for finding in evidence.preflight] == ["CAP-03"]
    assert evidence.spec == read_job(sealed)


# ---------------------------------------------------------------- EVD-01


def test_evd_01_fires_for_an_archive_without_a_seal(sealed):
    sealed.path(files.MANIFEST).unlink()
    checked = verify_archive(sealed.root)
    assert (checked.exit_code, checked.verdict) == (6, "none")
    assert [str(finding) for finding in checked.findings] == [
        "error EVD-01 MANIFEST.sha256: it has no seal: its job is still running, or was killed\n"
        f"  hint: mlps resume {sealed.root}"
    ]


@pytest.mark.parametrize(
    "name", [files.JOB, files.PLAN, files.VERDICT, RUN, "stages/01-run-0/stdout.log"]
)
def test_evd_01_fires_for_a_changed_file(sealed, name):
    with sealed.path(name).open("ab") as file:
        file.write(b" ")
    checked = verify_archive(sealed.root)
    assert checked.exit_code == 6
    assert [str(finding) for finding in checked.findings] == [
        f"error EVD-01 {name}: is not what was sealed"
    ]


def test_evd_01_fires_for_a_missing_and_an_added_file(sealed):
    sealed.path(files.PLAN).unlink()
    sealed.path("extra").write_bytes(b"")
    assert found(sealed) == (6, [("EVD-01", files.PLAN), ("EVD-01", "extra")])


def test_what_is_no_archive_cannot_be_verified(tmp_path):
    with pytest.raises(ArchiveError, match="is no archive: it holds no job"):
        verify_archive(tmp_path)


# ---------------------------------------------------------------- EVD-02 to EVD-04: a new seal


def forge(archive, name):
    """Changes a file that follows from others, in one place."""
    text = archive.path(name).read_text()
    changed = {
        files.PLAN: ('"ranks": 1', '"ranks": 8'),
        files.JOB_YAML: ("seed: 42", "seed: 43"),
        files.SYSTEM: ("undescribed", "splendid"),
        files.OVERRIDES: ("seed=42", "seed=43"),
        "stages/01-run-0/argv.json": ("--stage", "--stages"),
        files.RESULT: ('"read_gib_s": {\n', '"read_gib_s": {\n '),
        files.VERDICT: ('"verdict": "WHATIF"', '"verdict": "CLOSED"'),
    }[name]
    assert changed[0] in text
    archive.path(name).write_text(text.replace(*changed, 1))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (files.PLAN, "EVD-02"),
        (files.JOB_YAML, "EVD-02"),
        (files.SYSTEM, "EVD-02"),
        (files.OVERRIDES, "EVD-02"),
        ("stages/01-run-0/argv.json", "EVD-02"),
        (files.RESULT, "EVD-03"),
        (files.VERDICT, "EVD-04"),
    ],
)
def test_a_derived_file_that_was_changed_and_sealed_again(sealed, reseal, name, rule):
    forge(sealed, name)
    reseal(sealed)
    code, findings = found(sealed)
    assert code == 7
    assert (rule, name) in findings
    # The verdict is bound to every other file, so it cannot stay as it was.
    assert set(findings) <= {(rule, name), ("EVD-04", files.VERDICT)}


def test_a_finding_shows_the_line_that_differs(sealed, reseal):
    forge(sealed, files.OVERRIDES)
    reseal(sealed)
    text = str(verify_archive(sealed.root).findings[0])
    assert text == (
        "error EVD-02 overrides.txt: is not what follows from the evidence: "
        "line 1 is 'seed=43', expected 'seed=42'"
    )


@pytest.fixture
def full(play, player, make_full_result):
    """An archive with aggregates, and numbers that follow from several stages."""
    named = ("event", "stage", "option", "trial")
    given = {key: value for key, value in make_full_result().items() if key not in named}
    roofline = {
        "tool": "fio", "read_bytes": 2**32, "write_bytes": 0, "elapsed_s": 8.0, "cpu_s": 0.1,
    }  # fmt: skip
    behaviours = {"run-0": given, "prepare": {"roofline": roofline}}
    archive = play(player, behaviours=behaviours).archive
    assert found(archive) == (0, [])
    return archive


@pytest.mark.parametrize(
    "better",
    [
        lambda result: result["aggregates"][0].update(aggregated_read_bandwidth_gbps=99.0),
        lambda result: result["aggregates"].clear(),
        lambda result: result["metrics"][0]["notes"]["deviations"].pop(),
        lambda result: result["metrics"][0]["values"]["of_roofline_pct"].update(mean=99.0),
    ],
    ids=["aggregate", "no aggregate", "fewer deviations", "roofline"],
)
def test_aggregates_and_notes_are_recomputed(full, edit, reseal, better):
    edit(full, files.RESULT, better)
    reseal(full)
    assert ("EVD-03", files.RESULT) in found(full)[1]


def test_another_roofline_changes_the_numbers_of_the_measured_stage(full, edit, reseal):
    edit(full, "stages/00-prepare/result.json", lambda e: e["roofline"].update(elapsed_s=1.0))
    reseal(full)
    assert ("EVD-03", files.RESULT) in found(full)[1]


def test_better_numbers_of_a_stage_are_found(sealed, edit, reseal):
    edit(sealed, RUN, lambda result: result["window"].update(length_s=1.0))
    reseal(sealed)
    # The verdict is the same; that it is bound to other files follows from the first finding.
    assert found(sealed) == (7, [("EVD-03", files.RESULT)])


def test_a_better_outcome_is_found(sealed, edit, reseal, play, player):
    report = play(player, behaviours={"run-0": {"status": "failed"}})
    archive = report.archive
    edit(
        archive,
        "stages/01-run-0/outcome.json",
        lambda outcome: outcome.update(status="complete", reason=None, message=None),
    )
    reseal(archive)
    assert found(archive)[1] == [
        ("EVD-06", "01-run-0"), ("EVD-03", files.RESULT), ("EVD-04", files.VERDICT),
    ]  # fmt: skip


def test_a_changed_job_is_found(sealed, edit, reseal):
    edit(sealed, files.JOB, lambda job: job["benchmark"].update(users=99))
    reseal(sealed)
    code, findings = found(sealed)
    assert code == 7
    assert {("EVD-02", files.PLAN), ("EVD-02", files.JOB_YAML)} <= set(findings)


def test_another_provenance_is_found(sealed, edit, reseal):
    edit(sealed, files.PROVENANCE, lambda document: document["overrides"].append("seed=1"))
    reseal(sealed)
    assert ("EVD-02", files.OVERRIDES) in found(sealed)[1]


def test_a_number_that_only_exists_in_the_result_is_found(sealed, edit, reseal):
    def better(document):
        document["metrics"][0]["values"]["read_gib_s"]["mean"] *= 2

    edit(sealed, files.RESULT, better)
    reseal(sealed)
    assert ("EVD-03", files.RESULT) in found(sealed)[1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param(files.JOB, b"{", id="job is no json"),
        pytest.param(files.JOB, b"[]", id="job is a list"),
        pytest.param(files.JOB, b"{}", id="job is empty"),
        pytest.param(files.PROVENANCE, b"[]", id="provenance is a list"),
        pytest.param(files.PROVENANCE, b'{"values": {"a": {}}}', id="provenance lacks"),
        pytest.param(files.ENVIRONMENT, b"{}", id="environment lacks"),
        pytest.param("stages/01-run-0/outcome.json", b"{}", id="outcome lacks"),
        pytest.param("stages/01-run-0/outcome.json", b"[]", id="outcome is a list"),
        pytest.param(RUN, b"{}", id="result lacks"),
        pytest.param(RUN, b"null", id="result is null"),
        pytest.param(files.VERDICT, b"[]", id="verdict is a list"),
        pytest.param(files.VERDICT, b"{}", id="verdict lacks"),
    ],
)
def test_a_broken_document_under_a_good_seal_is_a_finding_not_a_traceback(
    sealed, reseal, name, content
):
    sealed.path(name).write_bytes(content)
    reseal(sealed)
    checked = verify_archive(sealed.root)
    assert checked.exit_code in (6, 7)
    assert checked.findings


def test_a_stage_that_is_missing_altogether_is_a_finding(sealed, reseal):
    for path in sealed.path("stages/02-run-1").iterdir():
        path.unlink()
    reseal(sealed)
    checked = verify_archive(sealed.root)
    assert checked.exit_code in (6, 7)
    assert "outcome.json cannot be read: No such file" in checked.findings[0].text


@pytest.mark.parametrize(
    "change",
    [
        lambda result: result.update(timeline={"bin_s": 0, "read_bytes": [], "write_bytes": []}),
        lambda result: result.update(sizes={"read": [{"below_bytes": 2, "bytes": 0}]}),
        lambda result: result["window"].update(length_s=10**400),
        lambda result: result.update(details={"trace": "text"}),
    ],
    ids=["no bins", "half a class", "endless", "text"],
)
def test_a_stage_result_that_no_engine_writes_is_a_finding(sealed, edit, reseal, change):
    edit(sealed, RUN, change)
    reseal(sealed)
    assert verify_archive(sealed.root).exit_code == 7


# ---------------------------------------------------------------- reading a job


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(
            lambda path: path.write_text(json.dumps(json.loads(path.read_text()), indent=1)),
            "is not in canonical form: it is not the file that was written",
            id="other form",
        ),
        pytest.param(
            lambda path: path.write_text("[]"), "holds no job", id="no mapping"
        ),
        pytest.param(
            lambda path: path.write_text(path.read_text().replace('"seed":42', '"seed":-1')),
            "is no job of this version of mlps: seed: expected an integer >= 0 and <= 4294967295, "
            "got -1",
            id="schema",
        ),
        pytest.param(
            lambda path: path.write_text(path.read_text().replace("localhost", "n[2-1]")),
            "cluster.hosts: 'n[2-1]': the range '2-1' runs backwards",
            id="between keys",
        ),
    ],
)  # fmt: skip
def test_a_job_that_cannot_be_read(sealed, change, text):
    change(sealed.path(files.JOB))
    with pytest.raises(ArchiveError) as caught:
        read_job(sealed)
    assert text in caught.value.message
    assert str(sealed.path(files.JOB)) in caught.value.message


# ---------------------------------------------------------------- verdicts of whole jobs


def verdict_of(report):
    verdict = report.verdict
    assert verify_archive(report.archive.root).verdict == verdict.name
    errors = [finding.rule for finding in verdict.findings if finding.severity == "error"]
    return verdict.name, verdict.status, verdict.exit_code, errors


@pytest.mark.parametrize(
    ("behaviours", "expected"),
    [
        pytest.param({}, ("WHATIF", "complete", 0, []), id="good"),
        pytest.param({"run-0": "die"}, ("INVALID", "failed", 4, ["RUN-01"]), id="a rank died"),
        pytest.param(
            {"prepare": {"status": "failed"}},
            ("INVALID", "failed", 4, ["RUN-01", "RUN-01"]),
            id="the first stage failed",
        ),
        pytest.param({"run-0": {"io": {}}}, ("INVALID", "complete", 5, ["RES-01"]), id="no bytes"),
        pytest.param(
            {"run-0": {"verify": {"operations": 9, "blocks": 9, "bytes": 9, "mismatches": 1}}},
            ("INVALID", "complete", 5, ["RES-02"]),
            id="corrupt",
        ),
        pytest.param(
            {"prepare": {"verify": {"operations": 9, "blocks": 9, "bytes": 9, "mismatches": 1}}},
            ("INVALID", "complete", 5, ["RES-02"]),
            id="corrupt in a stage that is not measured",
        ),
        pytest.param(
            {"run-0": {"details": {"overloaded": True}}},
            ("INVALID", "complete", 5, ["RES-09"]),
            id="overloaded",
        ),
        pytest.param(
            {"run-0": {"status": "stopped"}},
            ("INVALID", "interrupted", 130, ["RUN-02"]),
            id="stopped",
        ),
    ],
)
def test_verdicts(play, player, behaviours, expected):
    assert verdict_of(play(player, behaviours=behaviours)) == expected


def test_a_clean_up_runs_after_a_failure(play, player):
    play(player, behaviours={"prepare": "die"})
    assert player.stages() == ["prepare", "cleanup"]


def test_a_failed_job_is_not_valid(play, player):
    archive = play(player, behaviours={"run-0": "die"}).archive
    checked = verify_archive(archive.root)
    assert (checked.verdict, checked.exit_code, checked.findings) == ("INVALID", 7, ())


@pytest.mark.parametrize("division", ["closed", "open"])
def test_the_verdict_is_that_of_the_division(play, player, tmp_path, division, monkeypatch):
    # One file system holds both directories here; what a job of these divisions may not have.
    monkeypatch.setattr("mlps.engine.directories.judge_separation", lambda *_: [])
    changes = {
        "division.name": division,
        "division.any_workload": False,
        "edition.workloads": ["kvcache/quick"],
    }
    assert verdict_of(play(player, changes)) == (division.upper(), "complete", 0, [])


def test_the_verdict_holds_the_core_configuration(play, player):
    for workload, known in (("turns", False), ("v3", True)):
        archive = play(player, {"benchmark.workload": workload}).archive
        core = json.loads(archive.path(files.VERDICT).read_bytes())["core_config"]
        assert (core is not None) == known
    assert core["algorithm"] == "mlps-core-1"
    assert core["class"]["model"] == "quick"


def test_evidence_is_bound_to_every_file_but_the_page_that_shows_it(sealed):
    evidence = json.loads(sealed.path(files.VERDICT).read_bytes())["evidence"]
    present = set(files.file_names(sealed))
    assert set(evidence) == present - {files.VERDICT, files.PAGE}


def test_an_archive_may_be_moved_but_keeps_its_name(sealed, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    moved = sealed.root.rename(tmp_path / "elsewhere" / sealed.run_id)
    assert verify_archive(moved).exit_code == 0
    renamed = moved.rename(tmp_path / "another-name")
    assert ("EVD-03", files.RESULT) in found(Archive(root=renamed))[1]

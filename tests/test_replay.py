"""The same job once more, and the rest of one."""

from __future__ import annotations

import json
import os

import psutil
import pytest

from mlps.engine import archive as files
from mlps.engine.environment import host_name
from mlps.engine.errors import ArchiveError
from mlps.engine.evidence import read_evidence
from mlps.engine.replay import finished_launches, rerun_request, resume_request
from mlps.engine.run import run_job
from mlps.engine.signals import StopRequests
from mlps.engine.verify import verify_archive


@pytest.fixture
def again(display):
    """Runs a request."""
    return lambda request: run_job(request, display, StopRequests())


def environment(archive):
    return json.loads(archive.path(files.ENVIRONMENT).read_bytes())


KEEPS = [
    {"name": "prepare", "each": "option", "undone_by": "cleanup"},
    {"name": "run", "each": "trial", "measured": True},
    {"name": "cleanup", "each": "option", "when": "success"},
]


def test_rerun_is_the_same_job(sealed, again):
    request = rerun_request(sealed.root)
    assert request.links == {"rerun_of": sealed.run_id}
    assert (request.finished, request.data_id) == ({}, None)
    assert request.spec.sha256 == read_evidence(sealed).spec.sha256
    assert request.overrides == ("seed=42",)


def test_rerun_of_a_failed_job_starts_anew(play, player, again):
    failed = play(player, behaviours={"run-0": "die"}).archive
    player.behave()
    player.stages()
    done = again(rerun_request(failed.root))
    assert player.stages() == ["prepare", "run-0", "cleanup"]
    assert done.verdict.name == "WHATIF"
    assert environment(done.archive)["links"] == {"rerun_of": failed.run_id}
    assert environment(done.archive)["data_id"] == done.archive.run_id
    assert verify_archive(done.archive.root).exit_code == 0


@pytest.mark.parametrize("request_of", [rerun_request, resume_request])
def test_what_was_changed_after_the_seal_is_not_run_again(sealed, edit, request_of):
    edit(sealed, files.JOB, lambda job: job.update(seed=7))
    with pytest.raises(ArchiveError) as caught:
        request_of(sealed.root)
    assert str(caught.value) == (
        f"{sealed.root}: job.json is not what was sealed; what was changed is not run again\n"
        f"  hint: mlps verify {sealed.root}"
    )


def test_a_finished_job_has_no_rest(sealed):
    with pytest.raises(ArchiveError) as caught:
        resume_request(sealed.root)
    assert str(caught.value) == (
        f"{sealed.root}: every stage is finished, there is nothing to resume\n"
        f"  hint: mlps rerun {sealed.root}"
    )


def test_resume_takes_over_what_is_finished_and_uses_the_kept_data(play, player, again):
    changes = {"benchmark.stages": KEEPS, "trials": 3}
    failed = play(player, changes, behaviours={"run-1": "die"}).archive
    assert player.calls()[-1] == f"run-1 {failed.run_id}"
    player.behave()
    request = resume_request(failed.root)
    assert sorted(request.finished) == ["00-prepare", "01-run-0"]
    done = again(request)

    assert player.calls() == [f"{name} {failed.run_id}" for name in ("run-1", "run-2", "cleanup")]
    assert (done.verdict.name, done.verdict.exit_code) == ("WHATIF", 0)
    assert environment(done.archive)["links"] == {"resumed_from": failed.run_id}
    assert environment(done.archive)["data_id"] == failed.run_id
    for name in ("outcome.json", "result.json", "argv.json", "stdout.log"):
        path = f"stages/01-run-0/{name}"
        assert done.archive.path(path).read_bytes() == failed.path(path).read_bytes()
    assert verify_archive(done.archive.root).exit_code == 0


def test_resume_copies_no_file_that_a_link_leads_to(play, player, edit, again):
    changes = {"benchmark.stages": KEEPS, "trials": 3}
    failed = play(player, changes, behaviours={"run-1": "die"}).archive
    unsealed(failed, edit, host="elsewhere", pid=1, created_unix_s=1.0)
    (failed.path("stages/01-run-0") / "more").symlink_to("/etc/passwd")
    player.behave()
    with pytest.raises(ArchiveError, match="01-run-0/more is not copied: it is no plain file"):
        again(resume_request(failed.root))


def test_resume_makes_again_what_a_clean_up_removed(play, player, again):
    failed = play(player, {"trials": 2}, behaviours={"run-1": "die"}).archive
    player.behave()
    request = resume_request(failed.root)
    assert sorted(request.finished) == ["01-run-0"]
    assert request.data_id is None
    player.stages()
    done = again(request)
    assert player.stages() == ["prepare", "run-1", "cleanup"]
    assert done.verdict.exit_code == 0


def test_resume_runs_no_stage_of_a_finished_option(play, player, again):
    changes = {"benchmark.options": [{"name": name, "set": {}} for name in ("a", "b")]}
    failed = play(player, changes, behaviours={"run-b-0": "die"}).archive
    player.behave()
    player.stages()
    done = again(resume_request(failed.root))
    assert player.stages() == ["prepare-b", "run-b-0", "cleanup-b"]
    assert done.verdict.exit_code == 0


# Of a job that saves, makes cold and loads.
SAVES = [
    {"name": "save", "each": "trial", "measured": True, "undone_by": "cleanup"},
    {"name": "cool", "each": "trial", "undone_by": "cleanup"},
    {"name": "load", "each": "trial", "measured": True},
    {"name": "cleanup", "each": "job", "when": "always"},
]


def test_resume_makes_cold_again_what_is_saved_again(play, player, again):
    changes = {"benchmark.stages": SAVES}
    failed = play(player, changes, behaviours={"load-0": "die"}).archive
    player.behave()
    player.stages()
    assert again(resume_request(failed.root)).result["status"] == "complete"
    assert player.stages() == ["save-0", "cool-0", "load-0", "cleanup"]


def test_resume_saves_nothing_again_that_was_kept(play, player, again):
    kept = [SAVES[0] | {"kept_with": "users"}, *SAVES[1:]]
    failed = play(player, {"benchmark.stages": kept}, behaviours={"load-0": "die"}).archive
    player.behave()
    player.stages()
    request = resume_request(failed.root)
    assert sorted(request.finished) == ["00-save-0"]
    assert again(request).result["status"] == "complete"
    assert player.stages() == ["cool-0", "load-0", "cleanup"]


def test_a_job_that_only_saved_and_has_removed_it_is_finished(play, player):
    changes = {"benchmark.stages": [SAVES[0], SAVES[3]]}
    done = play(player, changes).archive
    with pytest.raises(ArchiveError, match="every stage is finished"):
        resume_request(done.root)


def test_a_stage_whose_argv_is_another_is_run_again(play, player):
    archive = play(player, {"benchmark.stages": KEEPS}, behaviours={"run-0": "die"}).archive
    evidence = read_evidence(archive)
    assert finished_launches(archive, evidence.plan) == {"00-prepare"}
    archive.stage("00-prepare", files.ARGV).write_text("[]")
    assert finished_launches(archive, evidence.plan) == frozenset()


def unsealed(archive, edit, **process):
    archive.path(files.MANIFEST).unlink()
    edit(archive, files.ENVIRONMENT, lambda document: document.update(process={**process}))


def test_a_running_job_is_not_resumed(play, player, edit):
    archive = play(player, behaviours={"run-0": "die"}).archive
    mine = {"pid": os.getpid(), "created_unix_s": psutil.Process().create_time()}
    unsealed(archive, edit, host=host_name(), **mine)
    with pytest.raises(ArchiveError, match=rf"its job is still running \(pid {os.getpid()}\)$"):
        resume_request(archive.root)


@pytest.mark.parametrize(
    "process",
    [
        pytest.param({"host": host_name(), "pid": os.getpid(), "created_unix_s": 1.0}, id="reused"),
        pytest.param({"host": host_name(), "pid": 2**22 + 1, "created_unix_s": 1.0}, id="gone"),
        pytest.param({"host": "elsewhere", "pid": os.getpid(), "created_unix_s": 1.0}, id="other"),
    ],
)
def test_a_killed_job_is_resumed(play, player, edit, again, process):
    archive = play(player, behaviours={"run-0": "die"}).archive
    unsealed(archive, edit, **process)
    player.behave()
    assert again(resume_request(archive.root)).verdict.exit_code == 0


@pytest.mark.parametrize("function", [rerun_request, resume_request])
def test_what_is_no_archive(function, tmp_path):
    with pytest.raises(ArchiveError, match="is no archive"):
        function(tmp_path)


@pytest.mark.parametrize("function", [rerun_request, resume_request])
@pytest.mark.parametrize("name", [files.PROVENANCE, files.ENVIRONMENT])
def test_a_broken_document_is_an_error_not_a_bug(play, player, reseal, function, name):
    archive = play(player, behaviours={"run-0": "die"}).archive
    archive.path(name).write_text("{}")
    reseal(archive)
    if function is rerun_request and name == files.ENVIRONMENT:
        assert function(archive.root).finished == {}  # needs nothing of it
        return
    with pytest.raises(ArchiveError, match="a document lacks what it must hold: "):
        function(archive.root)

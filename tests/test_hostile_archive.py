"""Archives made to harm who reads them: bounded time and memory, one finding each, no traceback."""

from __future__ import annotations

import gzip
import json
import os
import re
import tracemalloc

import pytest

from mlps.engine import archive as files
from mlps.engine import foreign_evidence
from mlps.engine.errors import ArchiveError
from mlps.engine.foreign_evidence import _outputs
from mlps.engine.replay import rerun_request, resume_request
from mlps.engine.signals import cpu_limit
from mlps.engine.verify import verify_archive

RUN = "stages/01-run-0/result.json"
OUTCOME = "stages/01-run-0/outcome.json"
DEEP = b"[" * 200_000 + b"]" * 200_000
MEMORY_BYTES = 200 * 2**20

LAUGHS = b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n"
TICK = {"kind": "tick", "host": "localhost", "n": 1, "cpu": [0, 0, 0, 0, 0]}


def overwrite(archive, name, data):
    """Another file in its place: links to it in other archives stay as they are."""
    path = archive.path(name)
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def sparse(archive, name, size_bytes=2**30):
    overwrite(archive, name, b"")
    os.truncate(archive.path(name), size_bytes)


def pack(archive, lines):
    overwrite(archive, files.SERIES_GZ, gzip.compress(b"\n".join(lines) + b"\n", 6, mtime=0))


def series_lines(archive):
    return gzip.decompress(archive.path(files.SERIES_GZ).read_bytes()).splitlines()


def equal_ticks(archive):
    head = [
        b'{"kind":"series","interval_s":10}',
        b'{"kind":"start","host":"localhost","interval_s":10,"start_unix_s":1,"columns":{}}',
    ]
    pack(archive, head + [json.dumps(TICK).encode()] * 2_000_000)


def bomb(archive):
    """128 MiB of zeros in 128 KiB."""
    overwrite(archive, files.SERIES_GZ, gzip.compress(b"\0" * 2**27, 6, mtime=0))


def many_lines(archive):
    pack(archive, [b'{"kind":"series","interval_s":10}'] * 1_000_000)


def fifo(archive, name):
    archive.path(name).unlink()
    os.mkfifo(archive.path(name))


def link(archive, name, target):
    archive.path(name).unlink()
    archive.path(name).symlink_to(target)


def stage_link(archive):
    target = archive.root.parent / "elsewhere"
    archive.path("stages/01-run-0").rename(target)
    archive.path("stages/01-run-0").symlink_to(target)


def replace_in(archive, name, old, new):
    text = archive.path(name).read_bytes()
    assert old in text
    overwrite(archive, name, text.replace(old, new, 1))


# (what is done, whether the manifest is made to fit, findings)
CASES = {
    "1 GiB of result": (lambda a: sparse(a, files.RESULT), False, [("EVD-01", files.RESULT)]),
    "1 GiB of stage": (lambda a: sparse(a, RUN), False, [("EVD-01", RUN)]),
    "1 TiB of log": (
        lambda a: sparse(a, "stages/01-run-0/stdout.log", 2**40),
        False,
        [("EVD-01", "stages/01-run-0/stdout.log")],
    ),
    "1 GiB of manifest": (
        lambda a: sparse(a, files.MANIFEST),
        False,
        [("EVD-01", files.MANIFEST)],
    ),
    "deep job": (lambda a: overwrite(a, files.JOB, DEEP), True, [("EVD-03", files.JOB)]),
    "deep stage": (lambda a: overwrite(a, RUN, DEEP), True, [("EVD-03", RUN)]),
    "deep outcome": (lambda a: overwrite(a, OUTCOME, DEEP), True, [("EVD-03", OUTCOME)]),
    "deep hosts": (
        lambda a: overwrite(a, files.HOSTS_START, DEEP),
        True,
        [("EVD-03", files.HOSTS_START)],
    ),
    "deep verdict": (
        lambda a: overwrite(a, files.VERDICT, DEEP),
        True,
        [("EVD-04", files.VERDICT)],
    ),
    "deep result": (lambda a: overwrite(a, files.RESULT, DEEP), True, [("EVD-03", files.RESULT)]),
    "laughs": (lambda a: overwrite(a, files.JOB_YAML, LAUGHS), True, [("EVD-02", files.JOB_YAML)]),
    "tags": (
        lambda a: overwrite(a, files.SYSTEM, b"!!python/object/apply:os.system [id]\n"),
        True,
        [("EVD-02", files.SYSTEM)],
    ),
    "link out": (
        lambda a: link(a, files.ENVIRONMENT, "/etc/passwd"),
        False,
        [("EVD-01", files.ENVIRONMENT)],
    ),
    "link to endless": (lambda a: link(a, RUN, "/dev/zero"), False, [("EVD-01", RUN)]),
    "link to itself": (lambda a: link(a, OUTCOME, "outcome.json"), False, [("EVD-01", OUTCOME)]),
    "dots in manifest": (
        lambda a: overwrite(
            a,
            files.MANIFEST,
            a.path(files.MANIFEST).read_bytes() + b"0" * 64 + b"  ../../etc/passwd\n",
        ),
        False,
        [("EVD-01", files.MANIFEST)],
    ),
    "bomb": (bomb, True, [("EVD-03", files.SERIES_GZ)]),
    "equal ticks": (equal_ticks, True, [("EVD-03", files.SERIES_GZ)]),
    "many lines": (many_lines, True, [("EVD-03", files.SERIES_GZ)]),
    "pipe": (lambda a: fifo(a, files.PROVENANCE), False, [("EVD-01", files.PROVENANCE)]),
    "pipe of a stage": (lambda a: fifo(a, OUTCOME), False, [("EVD-01", OUTCOME)]),
    "pipe as series": (lambda a: fifo(a, files.SERIES_GZ), False, [("EVD-01", files.SERIES_GZ)]),
    "no number": (
        lambda a: replace_in(a, RUN, b'"length_s": 2.0', b'"length_s": NaN'),
        True,
        [("EVD-03", RUN)],
    ),
    "endless number": (
        lambda a: replace_in(a, RUN, b'"length_s": 2.0', b'"length_s": 1e999'),
        True,
        [("EVD-06", RUN)],
    ),
    "many digits": (
        lambda a: replace_in(a, RUN, b'"length_s": 2.0', b'"length_s": ' + b"9" * 5000),
        True,
        [("EVD-03", RUN)],
    ),
    "big number": (
        lambda a: replace_in(a, RUN, b'"length_s": 2.0', b'"length_s": 1' + b"0" * 400),
        True,
        [("EVD-06", RUN)],
    ),
    "half a sign": (
        lambda a: replace_in(a, files.PROVENANCE, b'"seed=42"', b'"\\ud800"'),
        True,
        [("EVD-03", files.PROVENANCE)],
    ),
}  # fmt: skip


@pytest.fixture
def damaged(sealed, reseal):
    """An archive that a case has been done to."""

    def damage(case):
        harm, fits, expected = CASES[case]
        harm(sealed)
        if fits:
            reseal(sealed)
        return sealed, expected

    return damage


@pytest.mark.parametrize("case", CASES)
def test_each_harm_is_one_finding(damaged, case):
    archive, expected = damaged(case)
    checked = verify_archive(archive.root)
    assert [(finding.rule, finding.key) for finding in checked.findings] == expected
    assert checked.exit_code in (6, 7)


@pytest.mark.parametrize("case", ["1 GiB of result", "1 GiB of manifest", "bomb", "equal ticks"])
def test_memory_is_bounded(damaged, case):
    archive, _ = damaged(case)
    tracemalloc.start()
    try:
        verify_archive(archive.root)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MEMORY_BYTES


@pytest.mark.parametrize("case", CASES)
def test_other_commands_survive_it(damaged, mlps, case):
    archive, _ = damaged(case)
    for words in (["report"], ["report", "--csv"], ["report", "--json"], ["report", "--dlio"]):
        code, _, err = mlps(words[0], archive.root, *words[1:])
        assert code in (0, 6)
        assert bool(code) == err.startswith("error: ")
    assert mlps("history", archive.root.parent)[0] == 0
    for request_of in (rerun_request, resume_request):
        try:
            request_of(archive.root)
        except ArchiveError as error:
            assert str(archive.root) in error.message


# ---------------------------------------------------------------- names


def test_a_name_that_is_no_text_is_shown_with_escapes(sealed, mlps):
    path = os.fsencode(sealed.root) + b"/\xff<script>\x1b[2J\n"
    with open(path, "wb"):  # noqa: PTH123 - a name of bytes
        pass
    for flag in ((), ("--json",), ("--sarif",)):
        code, out, _ = mlps("verify", sealed.root, *flag)
        assert code == 6
        assert "\x1b" not in out
        assert out.encode()
        assert "xff<script>" in out or "dcff<script>" in out or "%FF%3Cscript%3E" in out


def test_texts_of_a_result_move_no_cursor(sealed, edit, reseal, mlps):
    edit(sealed, files.RESULT, lambda result: result.update(benchmark="\x1b[2J\x07<b>é"))
    reseal(sealed)
    for flag in ((), ("--csv",)):
        code, out, _ = mlps("report", sealed.root, *flag)
        assert (code, "\x1b" in out, "\\x1b[2J\\x07<b>é" in out) == (0, False, True)
    assert "\x1b" not in mlps("history", sealed.root.parent)[1]


def test_a_stage_that_leads_out_of_the_archive_is_not_followed(sealed, play, mlps):
    stage_link(sealed)
    checked = verify_archive(sealed.root)
    assert checked.exit_code == 6
    assert {finding.rule for finding in checked.findings} == {"EVD-01"}


@pytest.mark.parametrize("change", [
    lambda result: result.update(metrics={}),
    lambda result: result.update(metrics=[1]),
    lambda result: result["metrics"][0].update(values={"read_gib_s": "many"}),
    lambda result: result["metrics"][0].update(values={"read_gib_s": {"mean": 10**400}}),
    lambda result: result.update(failure=3),
])  # fmt: skip
def test_a_result_of_another_form_has_no_report(sealed, edit, reseal, mlps, change):
    edit(sealed, files.RESULT, change)
    reseal(sealed)
    code, _, err = mlps("report", sealed.root)
    assert (code, "Traceback" in err) == (6, False)
    assert re.search(rf"{sealed.root}.* (are of another form|is no result)", err)


def test_report_goes_on_after_an_archive_that_it_cannot_read(sealed, mlps):
    for name in ("a-broken", "z-broken"):
        broken = sealed.root.parent / name
        broken.mkdir()
        for file in (files.JOB, files.MANIFEST, files.RESULT, files.VERDICT):
            (broken / file).write_text("{}")
    code, out, err = mlps("report", sealed.root.parent)
    assert code == 6
    assert "kvcache/quick on 1 rank" in out
    assert re.findall(r"^error: .*/(.-broken)/", err, re.MULTILINE) == ["a-broken", "z-broken"]


# ---------------------------------------------------------------- foreign programs


def test_a_regular_expression_without_an_end_is_ended():
    with pytest.raises(TimeoutError), cpu_limit(0.1):
        re.search("(a+)+$", "a" * 60 + "b")
    with cpu_limit(10):
        assert re.search("a", "a")


class _Output:
    name = "01-run-0"


def test_outputs_are_read_from_the_archive_alone(sealed, monkeypatch):
    read = lambda *names: _outputs(sealed, _Output(), ["log"], {"log": names})  # noqa: E731
    place = sealed.path("stages/01-run-0/outputs")
    place.mkdir()
    (place / "log").write_bytes(b"12345")
    (place / "link").symlink_to("/etc/passwd")
    assert read("log", "log") == {"log": [b"12345"] * 2}
    for name in ("../result.json", "/etc/passwd", "link", "nothing"):
        with pytest.raises(ArchiveError):
            read(name)
    monkeypatch.setattr(foreign_evidence, "MAX_OUTPUTS_BYTES", 14)
    with pytest.raises(ArchiveError, match="holds more than"):
        read("log", "log", "log")

"""Files of descriptions: both forms, the line of each key, and what is none."""

from __future__ import annotations

import pytest
from systems import described, text_of

from mlps.engine.errors import ArchiveError
from mlps.engine.system_file import read_system
from mlps.engine.system_rules import judge_system


def test_a_file_as_a_submission_has_it(tmp_path):
    path = tmp_path / "filer.yaml"
    path.write_text(text_of("onprem").replace("cpu_qty: 1", "cpu_qty: one"))
    found = read_system(path)
    (finding,) = judge_system(found.description, where=found.where)
    assert str(finding) == (
        "error SYS-18 system_under_test.product_nodes.0.chassis.cpu_qty: expected an integer or "
        f'null >= 1, got "one" ({path}:27)'
    )


def test_an_option_of_the_group(tmp_path):
    path = tmp_path / "filer.yaml"
    inner = "".join(f"  {line}\n" for line in text_of("cloud").splitlines())
    path.write_text(f"# Summary\nname: mysystem\nfile: null\ndescription:\n{inner}")
    found = read_system(path)
    assert found.description == described("cloud")
    assert found.where["system_under_test.deployment"] == f"{path}:22"


def test_dates_and_numbers_as_keys_are_text(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("system_under_test: {availability: 2026-05-01, 7: x}\n")
    description = read_system(path).description
    assert description == {"system_under_test": {"availability": "2026-05-01", "7": "x"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("System: {}\n", "describes no system: it has no system_under_test"),
        ("- 1\n", "describes no system"),
        ("", "describes no system"),
        ("description: null\n", "describes no system"),
        ("a: [\n", "is no YAML: line 2"),
        ("system_under_test: &x {}\nb: *x\n", r"line 2: an alias \(\*x\) is not read"),
        ("system_under_test: !!python/name:os.system\n", "is no YAML: line 1"),
        ("a: " + "x" * (1 << 20), "has more than 1 MiB"),
    ],
    ids=["older", "list", "empty", "null", "open", "alias", "tag", "huge"],
)
def test_files_that_describe_no_system(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ArchiveError, match=message):
        read_system(path)

"""Backends are found by name, and imported only then."""

import subprocess
import sys

import pytest

from mlps.engines.errors import EngineError, JobError
from mlps.engines.vectordb.backends import GROUP, backend_names, backend_of

OTHERS = """
class Theirs:
    pass
def theirs():
    return Theirs()
def broken():
    raise RuntimeError("no licence")
"""


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """An installed distribution of somebody else's."""
    facts = tmp_path / "theirs-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        f"[{GROUP}]\ntheirs = theirs_of_a_test:theirs\nbroken = theirs_of_a_test:broken\n"
        "native_ivf = theirs_of_a_test:broken\ngone = not_there:at_all\n"
    )
    (tmp_path / "theirs_of_a_test.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(tmp_path)


def test_an_own_backend_says_its_name():
    assert backend_of("native_ivf").describe().name == "native_ivf"


def test_an_unknown_name_is_an_error_with_those_there_are():
    with pytest.raises(JobError, match=r"'native_ivff': did you mean native_ivf\? There are .*ivf"):
        backend_of("native_ivff")


def test_third_parties_are_found_by_entry_points(third_party):
    assert type(backend_of("theirs")).__name__ == "Theirs"
    assert {"theirs", "native_ivf"} <= set(backend_names())


def test_nobody_takes_the_name_of_an_own_backend(third_party):
    assert backend_of("native_ivf").describe().name == "native_ivf"


@pytest.mark.parametrize(
    ("name", "text"), [("broken", "RuntimeError: no licence"), ("gone", "No module named")]
)
def test_a_third_party_that_fails_is_an_error_by_name(third_party, name, text):
    with pytest.raises(EngineError, match=f"backend {name} of the entry points {GROUP}.*{text}"):
        backend_of(name)


def test_no_backend_is_imported_before_it_is_chosen():
    program = (
        "import sys; import mlps.engines.vectordb.backends as b; b.backend_names();"
        "print([n for n in sys.modules if n.startswith('mlps.engines.vectordb.native')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"

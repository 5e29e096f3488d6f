"""Packages of backends: imported on use, or the error says what to install."""

import subprocess
import sys

import pytest

from mlps.engines.errors import EngineError
from mlps.engines.vectordb.backends import OWN, backend_of
from mlps.engines.vectordb.optional import library, version_of


def test_a_package_that_is_not_there_names_the_extra():
    text = r"backend some needs not_there, which cannot be imported.*pip install 'mlps\[vectordb\]'"
    with pytest.raises(EngineError, match=text):
        library("not_there.at_all", "some")
    assert library("json", "some").loads("1") == 1


def test_a_version_is_told_without_the_package():
    assert version_of("numpy")[0].isdigit()
    assert version_of("not-there") == "not installed"


@pytest.mark.parametrize("name", OWN)
def test_a_backend_is_described_without_its_package(name):
    program = (
        "import sys; from mlps.engines.vectordb.backends import backend_of;"
        f"print(backend_of('{name}').describe().name);"
        "print({'zvec', 'faiss', 'psycopg', 'pymilvus', 'grpc'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"{name}\nset()\n"
    assert backend_of(name).describe().io_class in ("direct", "mmap", "server")

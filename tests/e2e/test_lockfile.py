"""`mlps lockfile` with the real uv, from an index that this file makes: no network is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

UV = Path(sys.executable).parent / "uv"

pytestmark = pytest.mark.skipif(not UV.exists(), reason="uv is not installed beside this Python")


def write_wheel(directory: Path, name: str, version: str, requires: list[str]) -> None:
    """A wheel without content, but with a name, a version and requirements."""
    escaped = name.replace("-", "_")
    info = f"{escaped}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {text}\n" for text in requires)
    with zipfile.ZipFile(directory / f"{escaped}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """Every installed package as it is, and once more as a later version."""
    directory = tmp_path_factory.mktemp("index")
    for package in distributions():
        name, requires = package.metadata["Name"], package.requires or []
        for version in (package.version, "99999"):
            write_wheel(directory, name, version, requires)
    return directory


@pytest.fixture
def env(index, tmp_path_factory) -> dict[str, str]:
    """Variables for a uv that sees this index and no other, and would tell of it if it were let."""
    return {"UV_CONFIG_FILE": str(uv_config(tmp_path_factory.mktemp("uv"), index))}


def uv_config(directory: Path, index: Path) -> Path:
    config = directory / "uv.toml"
    config.write_text(
        f'no-index = true\nfind-links = ["{index}"]\n'
        "[pip]\nemit-find-links = true\nemit-index-url = true\n"
    )
    return config


@pytest.fixture
def locked(place, env) -> Path:
    done = place.run("lockfile", "generate", **env)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return place.root / "requirements.lock"


def edit(path: Path, name: str, line: str) -> None:
    lines = path.read_text().splitlines()
    (index,) = [number for number, text in enumerate(lines) if text.startswith(f"{name}==")]
    lines[index] = line
    path.write_text("\n".join(lines) + "\n")


def test_what_is_generated_here_is_valid_here(place, env, locked):
    done = place.run("lockfile", "verify")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "requirements.lock: valid, " in done.stdout
    before = locked.read_bytes()
    assert place.run("lockfile", "generate", **env).returncode == 0
    assert locked.read_bytes() == before


def test_the_lock_file_tells_nothing_of_this_machine(place, env, index, locked):
    for words in ((), ("--hashes",)):
        assert place.run("lockfile", "generate", *words, **env).returncode == 0
        text = locked.read_text()
        assert not [word for word in (str(index), str(place.root), "http", "uv ") if word in text]
    assert text.count("--hash=sha256:") > text.count("==") / 2
    document = json.loads(place.run("lockfile", "verify", "--json").stdout)
    assert document["valid"]
    assert document["total"] == document["matched"] + document["skipped"]
    assert [result["name"] for result in document["results"] if result["status"] == "skipped"] == [
        "mpi4py"
    ]


def test_a_changed_version_is_found_and_no_job_runs_with_it(place, locked):
    edit(locked, "rich", "rich==1.0")
    edit(locked, "attrs", "nosuch-package==3")
    done = place.run("lockfile", "verify")
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["nosuch-package", "rich"]
    python = str(UV.with_name("python"))
    pins = "nosuch-package==3 rich==1.0"
    assert lines[-3].endswith(f"-m pip install {pins}")
    assert lines[-1] == f"  uv pip install --python {lines[-3].split()[0]} {pins}"
    assert Path(lines[-3].split()[0]).samefile(python)

    before = sorted(place.root.rglob("*"))
    done = place.run(*place.small("lockfile=requirements.lock"))
    assert (done.returncode, done.stdout) == (3, "")
    assert f"error PKG-03 lockfile: {locked}: nosuch-package 3 is missing; rich is " in done.stderr
    assert f"-m pip install {pins}\n" in done.stderr
    assert sorted(place.root.rglob("*")) == before


def test_the_commands_that_mend_can_be_pasted(place, locked, env, tmp_path):
    """In an environment of its own, which lacks what the lock file pins."""
    edit(locked, "rich", "rich==99999")
    subprocess.run(
        [UV, "venv", "--quiet", tmp_path / "venv"], check=True, env=place.env(**env), timeout=60
    )
    typed = place.run("lockfile", "verify").stdout.splitlines()[-1]
    words = typed.split()
    words[words.index("--python") + 1] = str(tmp_path / "venv/bin/python")
    assert words[0] == "uv"
    subprocess.run([UV, "--quiet", *words[1:]], check=True, env=place.env(**env), timeout=60)
    assert list((tmp_path / "venv").rglob("rich-99999.dist-info"))


def test_a_job_names_its_lock_file_in_the_archive(place, locked, load):
    done = place.run(*place.small("lockfile=requirements.lock"))
    assert done.returncode == 0, done.stderr
    digest = subprocess.run(["sha256sum", locked], capture_output=True, text=True, check=True)
    environment = load(place.archive() / "environment.json")
    assert environment["lockfile"] == {"path": str(locked), "sha256": digest.stdout.split()[0]}
    assert place.run("verify", "results").returncode == 0

    locked.unlink()
    done = place.run("rerun", str(place.archive()))
    assert (done.returncode, len(place.archives())) == (2, 1)
    assert f"error: lock file {locked} does not exist\n" in done.stderr


def test_a_lock_file_that_cannot_be_read_is_a_configuration_error(place):
    (place.root / "bad.lock").write_text("rich>=15\n")
    hint = "  hint: a lock file holds lines such as numpy==2.4.6; mlps lockfile generate\n"
    text = f"{place.root}/bad.lock, line 1: rich is not pinned: got >=15, expected ==VERSION\n"
    for command in ((), ("plan",), ("doctor",)):
        done = place.run(*command, *place.small("lockfile=bad.lock"))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: lockfile (command line: lockfile=bad.lock): {text}{hint}"
    assert not place.results_dir.exists()


def test_a_project_of_its_own_with_an_extra(place, env, index):
    write_wheel(index, "e2e-part", "1.5", [])
    project = place.root / "pyproject.toml"
    project.write_text(
        '[project]\nname = "mine"\nversion = "1"\ndependencies = []\n'
        '[project.optional-dependencies]\nmore = ["e2e-part"]\n'
    )
    words = ("lockfile", "generate", "--pyproject", "pyproject.toml", "-o", "mine.lock")
    for extra in (("--extra", "more"), ("--all",)):
        done = place.run(*words, *extra, **env)
        assert done.returncode == 0, done.stderr
        assert "\ne2e-part==1.5\n" in (place.root / "mine.lock").read_text()
    done = place.run(*words, "--extra", "none", **env)
    assert done.returncode == 2
    assert "uv could not pin the packages, nothing was written:\n" in done.stderr


def test_without_an_index_uv_says_why(place):
    config = uv_config(place.data_dir, index=place.data_dir)
    done = place.run("lockfile", "generate", UV_CONFIG_FILE=str(config))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: uv could not pin the packages, nothing was written:\n  ")
    closed = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    done = place.run("lockfile", "generate", **closed)
    assert done.returncode == 2
    assert "  hint: uv needs a package index: the network, or UV_DEFAULT_INDEX=" in done.stderr
    assert [path.name for path in place.root.iterdir() if path.suffix == ".lock"] == []


@pytest.mark.parametrize("word", ["generate", "verify"])
def test_help(place, word):
    done = place.run("lockfile", word, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: mlps lockfile {word} ")

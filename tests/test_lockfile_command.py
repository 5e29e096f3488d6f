"""`mlps lockfile`: what uv is asked, what is written, what is refused, what is said."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mlps.engine import lockfile_command
from mlps.engine.errors import ConfigError, PreflightError
from mlps.engine.lockfile_command import MADE_BY, lockfile, own_extras, own_requirements

# Plays uv: keeps what it was asked, and writes to its last argument what it finds in `answer`.
UV = """#!/bin/sh
cd {home}
printf '%s\\n' "$@" > argv
cat > stdin
for output; do :; done
cp "$output" preferred
[ -f failure ] && {{ cat failure >&2; exit 1; }}
cat answer > "$output"
"""


@pytest.fixture
def uv(tmp_path, monkeypatch):
    """A uv beside a Python of its own, and the directory where it keeps what it was asked."""
    home = tmp_path / "uv"
    home.mkdir()
    program = home / "uv"
    program.write_text(UV.format(home=home))
    program.chmod(0o755)
    (home / "answer").write_text("rich==15.0.0\nx==1 ; os_name == 'nt'\nx==2 ; os_name != 'nt'\n")
    monkeypatch.setattr(sys, "executable", str(home / "python"))
    return home


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs a command line after `mlps lockfile`: exit code, standard output, standard error."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)

    def call(*words, as_json=False, environ=None):
        out, notes = io.StringIO(), io.StringIO()
        environ = {"PATH": "/usr/bin:/bin"} if environ is None else environ
        code = lockfile(words, as_json=as_json, environ=environ, out=out, notes=notes)
        return code, out.getvalue(), notes.getvalue()

    return call


def refusal(call, *words, **more):
    with pytest.raises((ConfigError, PreflightError)) as caught:
        call(*words, **more)
    return caught.value.exit_code, str(caught.value)


# ---------------------------------------------------------------- generate


def test_a_lock_file_is_written(call, uv):
    assert call("generate", "--python-version", "3.11") == (
        0,
        "",
        "requirements.lock: 2 packages\n",
    )
    assert Path("requirements.lock").read_text() == (
        "# Made by: mlps lockfile generate --python-version 3.11\n"
        "# The packages of mlps 0.1.0, for Python 3.11 or later on every platform.\n"
        + (uv / "answer").read_text()
    )
    assert [path.name for path in Path().iterdir()] == ["requirements.lock"]


def test_uv_is_asked_for_what_mlps_needs(call, uv):
    call("generate")
    argv = (uv / "argv").read_text().splitlines()
    assert argv[:3] == ["pip", "compile", "--universal"]
    assert "--no-emit-index-url" in argv
    assert "--generate-hashes" not in argv
    version = "{}.{}".format(*sys.version_info)
    assert argv[argv.index("--python") :][:4] == [
        "--python", sys.executable, "--python-version", version,
    ]  # fmt: skip
    assert argv[argv.index("-") :][:2] == ["-", "--output-file"]
    asked = [Requirement(line).name for line in (uv / "stdin").read_text().splitlines()]
    assert {"hydra-core", "mpi4py", "numpy"} <= set(asked)


def test_what_runs_here_is_preferred(call, uv, monkeypatch):
    monkeypatch.setattr(lockfile_command, "installed_versions", lambda: {"a": "1", "b": "2+cpu"})
    call("generate")
    assert (uv / "preferred").read_text() == "a==1\nb==2+cpu\n"


def test_a_project_and_its_extras(call, uv):
    project = Path("project")
    project.mkdir()
    (project / "pyproject.toml").write_text("")
    for word in ("project", "project/pyproject.toml"):
        call("generate", "--pyproject", word, "--extra", "b", "--extra", "a", "--hashes", "-o", "x")
        argv = (uv / "argv").read_text().splitlines()
        assert argv[argv.index("--generate-hashes") + 1 :][:5] == [
            "--extra", "b", "--extra", "a", "project/pyproject.toml",
        ]  # fmt: skip
        head = f"{MADE_BY} --extra a --extra b --hashes --python-version "
        assert Path("x").read_text().startswith(head)
    assert (uv / "stdin").read_text() == ""
    call("generate", "--pyproject", "project", "--all")
    assert "--all-extras" in (uv / "argv").read_text().splitlines()


def test_uv_of_the_path_is_found_after_that_beside_python(call, uv, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "uv").write_text("#!/bin/sh\nfor output; do :; done\necho other==1 > $output\n")
    (other / "uv").chmod(0o755)
    environ = {"PATH": f"{other}:/usr/bin:/bin"}
    call("generate", environ=environ)
    assert "rich==15.0.0" in Path("requirements.lock").read_text()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    call("generate", environ=environ)
    assert "other==1" in Path("requirements.lock").read_text()


def test_without_uv(call, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert refusal(call, "generate", environ={"PATH": "/none"}) == (
        3,
        "uv was found neither in /nowhere nor on PATH; it finds the versions to pin\n"
        "  hint: /nowhere/python -m pip install uv",
    )


def test_only_its_own_file_is_replaced(call, uv):
    path = Path("requirements.lock")
    call("generate")
    call("generate")
    path.write_text("precious==1\n")
    assert refusal(call, "generate") == (
        2,
        "requirements.lock was not made by mlps lockfile generate, and is left as it is\n"
        "  hint: -o PATH writes another file, --force replaces this one",
    )
    assert path.read_text() == "precious==1\n"
    call("generate", "--force")
    assert path.read_text().startswith(MADE_BY)


def test_a_failure_of_uv_leaves_everything_as_it_was(call, uv):
    call("generate")
    before = Path("requirements.lock").read_bytes()
    (uv / "failure").write_text("".join(f"line {number}\n\n" for number in range(9)))
    code, text = refusal(call, "generate")
    lines = "".join(f"\n  line {number}" for number in range(3, 9))
    assert (code, text) == (2, f"uv could not pin the packages, nothing was written:{lines}")
    assert Path("requirements.lock").read_bytes() == before
    assert len(list(Path().iterdir())) == 1
    (uv / "failure").write_text("")
    assert refusal(call, "generate")[1].endswith("nothing was written:\n  (it said nothing)")


def test_nothing_to_pin_and_no_place_to_pin_it(call, uv, monkeypatch):
    (uv / "answer").write_text("")
    assert refusal(call, "generate") == (2, "mlps has no package to pin")

    def refuse(prefix):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lockfile_command.tempfile, "TemporaryDirectory", refuse)
    assert refusal(call, "generate") == (
        3,
        "no temporary file can be written: No space left on device\n  hint: TMPDIR=DIRECTORY",
    )
    assert not list(Path().iterdir())


@pytest.mark.parametrize("said", ["error sending request for url (x)", "dns error: no such name"])
def test_without_a_network_the_hint_says_what_is_needed(call, uv, said):
    (uv / "failure").write_text(said)
    assert refusal(call, "generate")[1].endswith(
        "\n  hint: uv needs a package index: the network, or UV_DEFAULT_INDEX=ADDRESS of a mirror"
    )


def test_a_uv_that_hangs_and_one_that_cannot_be_started(call, uv, monkeypatch):
    (uv / "uv").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(lockfile_command, "UV_LIMIT_S", 0.2)
    assert refusal(call, "generate") == (2, "uv did not end within 0.2 s; nothing was written")
    (uv / "uv").write_text("#!/no/such/shell\n")
    code, text = refusal(call, "generate")
    assert (code, text) == (3, f"{uv}/uv cannot be started: No such file or directory")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "mlps lockfile: the following arguments are required: generate|verify\n"
         "  hint: mlps lockfile --help"),
        ("generate --deep", "mlps lockfile: unrecognized arguments: --deep\n"
         "  hint: mlps lockfile --help"),
        ("generate --all --extra a", "mlps lockfile generate: argument --extra: not allowed with "
         "argument --all\n  hint: mlps lockfile generate --help"),
        ("generate --python-version 3", "--python-version 3: expected two numbers\n"
         "  hint: --python-version 3.11"),
        ("generate --extra big", "--extra big: mlps has no such extra; there are: slurm, training, "
         "vectordb"),
        ("generate --pyproject nowhere", "--pyproject nowhere: no such file, or not named "
         "pyproject.toml\n  hint: --pyproject DIRECTORY/pyproject.toml"),
        ("generate -o nowhere/x", "nowhere/x cannot be written: no such directory\n"
         "  hint: -o PATH"),
        ("generate -o .", ". is not a file\n  hint: -o PATH"),
        ("verify", "lock file requirements.lock does not exist\n"
         "  hint: mlps lockfile generate makes one"),
        ("verify --skip a/b -l x", "lock file x does not exist\n"
         "  hint: mlps lockfile generate makes one"),
    ],
)  # fmt: skip
def test_what_is_refused(call, uv, words, text):
    assert refusal(call, *words.split()) == (2, text)
    assert not list(Path().iterdir())
    assert not (uv / "argv").exists()


def test_generate_prints_no_data(call, uv):
    assert refusal(call, "generate", as_json=True) == (
        2, "mlps lockfile generate: --json has no effect, it prints no data",
    )  # fmt: skip


def test_a_file_that_cannot_be_written(call, uv, monkeypatch):
    def refuse(path, data):
        raise lockfile_command.ArchiveError(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(lockfile_command, "write_whole", refuse)
    text = "requirements.lock cannot be written: No space left on device\n  hint: -o PATH"
    assert refusal(call, "generate") == (2, text)


# ---------------------------------------------------------------- own requirements


@pytest.mark.parametrize(
    ("text", "without", "with_extra"),
    [
        ("a>=1", True, True),
        ("a; os_name == 'nt'", False, False),
        ('a; extra == "gpu"', False, True),
        ("a; extra == 'GPU'", False, True),
        ('a; extra == "other"', False, False),
        ('a; (os_name == "posix") and extra == "gpu"', False, True),
        ('a; extra == "gpu" and os_name == "nt"', False, False),
        ('a; extra == "gpu" or extra == "other"', False, True),
    ],
)
def test_extras_become_what_holds_or_not(text, without, with_extra):
    def holds(extras):
        requirement = Requirement(own_requirements([text], extras).strip())
        return requirement.marker is None or requirement.marker.evaluate()

    assert (holds([]), holds(["gpu"])) == (without, with_extra)
    assert "extra" not in own_requirements([text], [])


def test_extras_of_mlps(monkeypatch):
    class Metadata:
        def get_all(self, name):
            return {"Provides-Extra": ["vector_db", "gpu"]}[name]

    monkeypatch.setattr(lockfile_command, "metadata", lambda name: Metadata())
    assert own_extras([], every=True) == ["gpu", "vector-db"]
    assert own_extras(["Vector.DB", "gpu"], every=False) == ["gpu", "vector-db"]
    with pytest.raises(ConfigError, match="--extra gpus: mlps has no such extra; there are: gpu, "):
        own_extras(["gpus"], every=False)


# ---------------------------------------------------------------- verify


@pytest.fixture
def installed(monkeypatch):
    """What is installed, by a mapping that a test may change; and the lock file of it."""
    versions = {"a": "1", "b": "2", "mpi4py": "4", "mlps": "0.1.0"}
    monkeypatch.setattr(lockfile_command, "installed_versions", lambda: versions)
    monkeypatch.setattr(sys, "executable", "/py/python")
    return versions


def write_lock(text="a==1\nb==2\nmpi4py==3\n"):
    Path("requirements.lock").write_text(text)


def test_what_agrees(call, installed):
    write_lock()
    assert call("verify") == (
        0,
        "requirements.lock: valid, 2 of 3 match; 1 skipped\n"
        "  skipped mpi4py: it is built against the site's MPI\n",
        "",
    )
    write_lock("a==1\nb==2\n")
    assert call("verify")[:2] == (0, "requirements.lock: valid, 2 of 2 match\n")


def test_what_does_not_agree_comes_with_the_commands_that_mend_it(call, installed):
    installed |= {"b": "3", "z": "9"}
    write_lock("a==1\nb==2\nlonger-name==1\n")
    code, out, _ = call("verify")
    assert code == 3
    assert out == (
        "package      locked  installed  state\n"
        "b            2       3          mismatched\n"
        "longer-name  1                  missing\n"
        "\n"
        "requirements.lock: NOT VALID, 1 of 3 match; 1 mismatched, 1 missing, 1 extra\n"
        "mend it with pip:\n"
        "  /py/python -m pip install b==2 longer-name==1\n"
        "mend it with uv:\n"
        "  uv pip install --python /py/python b==2 longer-name==1\n"
    )


def test_switches_of_verify(call, installed):
    del installed["b"]
    write_lock()
    assert call("verify")[0] == 3
    assert call("verify", "--allow-missing")[0] == 0
    assert call("verify", "--skip", "B")[0] == 0
    installed |= {"b": "2", "z": "9"}
    assert call("verify")[0] == 0
    assert call("verify", "--strict", "--skip", "z")[0] == 0
    code, out, _ = call("verify", "--strict")
    assert code == 3
    assert "  /py/python -m pip uninstall --yes z\n" in out
    Path("requirements.lock").rename("other")
    assert call("verify", "-l", "other")[0] == 0


def test_a_skip_without_effect_is_told(call, installed):
    write_lock()
    assert call("verify", "--skip", "a", "--skip", "Nonesuch")[2] == (
        "note: --skip nonesuch has no effect: it is not locked and not installed\n"
    )
    assert refusal(call, "verify", "--skip", "a/b") == (
        2, "--skip a/b: not a package's name\n  hint: --skip PKG",
    )  # fmt: skip


@pytest.mark.parametrize("form", [{"as_json": True}, {}], ids=["cli", "own"])
def test_verify_as_json(call, installed, form):
    write_lock("a==2\n")
    code, out, _ = call("verify", *([] if form else ["--json"]), **form)
    document = json.loads(out)
    assert (code, document["valid"], document["total"], document["mismatched"]) == (3, False, 1, 1)
    assert [result["name"] for result in document["results"]] == ["a", "b"]


def test_a_lock_file_with_a_wrong_line(call, installed):
    write_lock("a==1\nb>=2\n")
    code, text = refusal(call, "verify")
    assert code == 2
    assert text.startswith(
        "requirements.lock, line 2: b is not pinned: got >=2, expected ==VERSION"
    )

"""The shape of the code: who may import whom, and what pure modules may not do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mlps.engine import errors
from mlps.engine.errors import ConfigError, MlpsError, Problem
from mlps.engine.options import packaged_conf

ROOT = packaged_conf().parent
PURE = (
    "aggregate", "canonical", "checkpoint_job", "checkpoint_metrics", "checkpoint_report",
    "checkpoint_rules", "cluster", "collect", "counting", "errors", "hints", "facts_report",
    "foreign", "foreign_metrics", "json_path", "quantities", "references",
    "host_documents", "host_rules", "hosts", "latency", "launch", "launcher", "lockfile",
    "monitor_rules", "mount_types", "plan", "roofline", "rules", "schema", "search", "series",
    "sizing", "spec", "stage_rules", "steady", "training_job", "training_metrics",
    "training_report", "training_rules", "units", "variants",
)  # fmt: skip
CLOCK_AND_PROCESSES = {"os", "subprocess", "time", "datetime", "shutil", "tempfile", "socket"}
HYDRA = {"hydra", "omegaconf"}

ENGINE = sorted((ROOT / "engine").rglob("*.py"))
ENGINES = sorted((ROOT / "engines").rglob("*.py"))
ALL = [*ENGINE, *ENGINES]
PROBE = sorted((ROOT / "engine" / "probe").glob("*.py"))


def module_id(path):
    return str(path.relative_to(ROOT))


def parse(path):
    return ast.parse(path.read_text(), str(path))


def imports(path, *, lazy=True):
    """(level, dotted name) of every import; without those inside functions unless `lazy`."""
    tree = parse(path)
    nodes = ast.walk(tree) if lazy else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def top_level(path):
    return {name.split(".")[0] for level, name in imports(path) if level == 0}


def calls(path):
    """Text of what is called, with the call itself."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_there_is_something_to_check():
    assert len(ENGINE) > 20
    assert len(ENGINES) > 5


@pytest.mark.parametrize("path", ALL, ids=module_id)
def test_engine_and_engines_never_import_each_other(path):
    assert not top_level(path) & {"mlps", "engine", "engines", "conf", "schemas", "tests"}
    depth = len(path.relative_to(ROOT).parts) - 1
    assert all(level <= depth for level, _ in imports(path)), "a relative import leaves its tree"


def test_only_compose_and_sweep_know_hydra():
    assert {path.name for path in ALL if top_level(path) & HYDRA} == {"compose.py", "sweep.py"}


@pytest.mark.parametrize("path", ENGINES, ids=module_id)
def test_engines_know_no_yaml_and_no_schema(path):
    assert not top_level(path) & {"yaml", "jsonschema", *HYDRA}


def test_only_some_modules_know_yaml_and_mpi():
    assert {path.name for path in ENGINE if "yaml" in top_level(path)} == {
        "archive.py", "compose.py", "options.py", "sweep.py",
    }  # fmt: skip
    assert not [path for path in ENGINE if top_level(path) & {"mpi4py", "numpy"}]


def starters(paths):
    """Modules that start processes. Others may name the errors and the handles of subprocess."""
    return {
        path.name
        for path in paths
        for name, _ in calls(path)
        if name in ("os.fork", "os.system", "os.popen", "os.posix_spawn")
        or name.startswith(("os.exec", "os.spawn"))
        or name in [f"subprocess.{word}" for word in ("run", "Popen", "call", "check_output")]
    }


def test_only_processes_starts_processes():
    assert starters(ENGINE) == {"processes.py"}


def test_only_some_engines_start_processes():
    # A program's version, fio, and programs that a benchmark or a site names.
    assert starters(ENGINES) == {"process.py", "roofline.py", "keeper.py"}


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_see_no_clock_no_disk_and_no_process(name):
    path = ROOT / "engine" / f"{name}.py"
    assert not top_level(path) & {*CLOCK_AND_PROCESSES, "psutil", "random", "secrets"}
    allowed = {
        "schema": {"read_text"},
        "canonical": {"open"},
        "lockfile": {"open", "is_file", "exists"},
    }.get(name, set())
    disk = {
        "open", "read_text", "read_bytes", "write_text", "write_bytes", "exists", "is_file",
        "is_dir", "mkdir", "unlink", "stat", "iterdir", "glob", "rglob", "absolute", "resolve",
    }  # fmt: skip
    used = {called.rpartition(".")[2] for called, _ in calls(path)}
    assert used & disk <= allowed


@pytest.mark.parametrize("path", PROBE, ids=module_id)
def test_the_probe_needs_the_standard_library_of_python_3_9_alone(path):
    ast.parse(path.read_text(), feature_version=(3, 9))
    siblings = {sibling.stem for sibling in PROBE} - {"__init__"}
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            assert (node.level, set(names) - siblings) == (1, set())
    assert top_level(path) <= sys.stdlib_module_names


def test_ruff_reads_the_probe_as_python_3_9():
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    words = [
        ruff,
        "check",
        "--isolated",
        "--target-version",
        "py39",
        "--select",
        "E9,FA102",
        *PROBE,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", ALL, ids=module_id)
def test_no_shell(path):
    for _, call in calls(path):
        assert not [word for word in call.keywords if word.arg == "shell"]


@pytest.mark.parametrize("path", ALL, ids=module_id)
def test_only_main_modules_end_the_process(path):
    if path.name == "__main__.py":
        return
    called = {name for name, _ in calls(path)}
    # A rank without its world cannot end in any other way, nor one that watches over it.
    # A fork must not return into what its parent was doing.
    hard = set() if path.name in ("world.py", "watch.py", "keeper.py") else {"os._exit"}
    assert not called & {"sys.exit", "exit", "quit", "SystemExit", *hard}


@pytest.mark.parametrize("path", ENGINE, ids=module_id)
def test_only_the_command_line_prints(path):
    if path.name not in ("cli.py", "commands.py"):
        assert "print" not in {name for name, _ in calls(path)}


@pytest.mark.parametrize("path", ALL, ids=module_id)
def test_every_module_says_what_it_is_for(path):
    tree = parse(path)
    assert ast.get_docstring(tree)
    if any(not isinstance(node, ast.Expr) for node in tree.body) and path.name[:2] != "__":
        assert (0, "__future__") in set(imports(path))


@pytest.mark.parametrize("path", ALL, ids=module_id)
def test_broad_handlers_say_why(path):
    lines = path.read_text().splitlines()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"
            if ast.unparse(node.type) in ("Exception", "BaseException"):
                assert "#" in lines[node.lineno - 1], f"line {node.lineno}: does not say why"


def test_help_and_wrong_words_need_no_hydra():
    def reached(name, seen):
        if name in seen or not (ROOT / "engine" / f"{name}.py").exists():
            return seen
        seen.add(name)
        path = ROOT / "engine" / f"{name}.py"
        for level, module in imports(path, lazy=False):
            if level == 1 and module:
                reached(module.split(".")[0], seen)
        return seen

    for name in reached("cli", set()) | reached("help", set()) | reached("options", set()):
        path = ROOT / "engine" / f"{name}.py"
        eager = {module.split(".")[0] for level, module in imports(path, lazy=False) if not level}
        assert not eager & {*HYDRA, "jsonschema", "psutil", "yaml"}, name


def test_packages_are_complete():
    text = (ROOT / "pyproject.toml").read_text()
    for tree in ("engine", "engines"):
        for path in (ROOT / tree).rglob("__init__.py"):
            assert f'"mlps.{".".join(path.parent.relative_to(ROOT).parts)}"' in text


# ---------------------------------------------------------------- errors

EXIT_CODES = {
    "ConfigError": 2,
    "PreflightError": 3,
    "StageError": 4,
    "ResultError": 5,
    "ArchiveError": 6,
    "ComplianceError": 7,
    "Interrupted": 130,
}


def test_each_exit_code_has_one_error():
    found = {kind.__name__: kind.exit_code for kind in MlpsError.__subclasses__()}
    assert found == EXIT_CODES
    assert MlpsError.exit_code == 1
    assert not [kind for kind in MlpsError.__subclasses__() if kind.__subclasses__()]


def test_the_tree_of_errors_is_drawn_with_its_codes():
    for name, code in EXIT_CODES.items():
        assert any(
            line.split()[1:3] == [name, str(code)] for line in errors.__doc__.splitlines() if line
        )


def test_the_engine_defines_no_other_error_for_users():
    defined = {
        node.name
        for path in ENGINE
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ClassDef)
        and any(
            ast.unparse(base).endswith(("Error", "Exception"))
            or ast.unparse(base) in ("BaseException", "KeyboardInterrupt", "SystemExit")
            for base in node.bases
        )
    }
    assert defined == {*EXIT_CODES, "MlpsError", "ProtocolError", "_Failure"}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MlpsError("wrong"), "wrong"),
        (MlpsError("wrong", hint="right"), "wrong\n  hint: right"),
        (ConfigError.of([Problem(key="a.b", text="t")]), "a.b: t"),
        (
            ConfigError.of([Problem(key="a", text="t", where="w", hint="h")]),
            "a (w): t\n  hint: h",
        ),
        (
            ConfigError.of([Problem(key="a", text="t", hint="h"), Problem(key="", text="u")]),
            "2 problems in the configuration, nothing was started:\n"
            "  1. a: t\n     hint: h\n  2. u",
        ),
    ],
    ids=["message", "hint", "problem", "problem with hint", "problems"],
)
def test_errors_in_words(error, text):
    assert str(error) == text


def test_a_config_error_keeps_its_problems():
    problems = [Problem(key="a", text="t"), Problem(key="b", text="u")]
    assert ConfigError.of(problems).problems == tuple(problems)


def test_the_root_is_the_tree():
    assert Path(errors.__file__).parent == ROOT / "engine"

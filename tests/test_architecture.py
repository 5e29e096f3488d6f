"""The shape of the code: who may import whom, and what pure modules may not do."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from mlps.engine import errors
from mlps.engine.errors import ConfigError, MlpsError, Problem
from mlps.engine.options import packaged_conf

ROOT = packaged_conf().parent
PURE = (
    "aggregate", "canonical", "contradictions", "sarif", "checkpoint_job", "checkpoint_metrics",
    "checkpoint_report",
    "checkpoint_rules", "cluster", "collect", "core_config", "counting", "errors", "hints",
    "facts_report",
    "foreign", "foreign_metrics", "json_path", "quantities", "references",
    "host_documents", "host_rules", "hosts", "latency", "launch", "launcher", "lockfile",
    "monitor_rules", "mount_types", "plan", "roofline", "rules", "schema", "search", "series",
    "sizing", "spec", "stage_rules", "standing", "steady", "training_job", "training_metrics",
    "training_report", "training_rules", "units", "variants",
    "tree/layout", "tree/rows", "tree/structure", "tree/table", "tree/upstream_checkpointing",
    "tree/upstream_common", "tree/upstream_kvcache", "tree/upstream_phases",
    "tree/upstream_training", "tree/upstream_vectordb",
)  # fmt: skip
CLOCK_AND_PROCESSES = {"os", "subprocess", "time", "datetime", "shutil", "tempfile", "socket"}
HYDRA = {"hydra", "omegaconf"}
BROAD = {"Exception", "BaseException"}

ENGINE = sorted((ROOT / "engine").rglob("*.py"))
ENGINES = sorted((ROOT / "engines").rglob("*.py"))
ALL = [*ENGINE, *ENGINES]
PROBE = sorted((ROOT / "engine" / "probe").glob("*.py"))


# Each rule is one test of all modules that gives the flaws of each: a module of its own for every
# case would be parsed as often.


def flaws(paths, find):
    """What a rule finds in modules, each with the module and, for a node, its line."""
    return [
        f"{path.relative_to(ROOT)}{f':{found.lineno}' if isinstance(found, ast.AST) else ''}: "
        f"{ast.unparse(found) if isinstance(found, ast.AST) else found}"
        for path in paths
        for found in find(path)
    ]


@cache
def parse(path):
    return ast.parse(path.read_text(), str(path))


@cache
def nodes(path):
    return tuple(ast.walk(parse(path)))


def imports(path, *, lazy=True):
    """(level, dotted name) of every import; without those inside functions unless `lazy`."""
    for node in nodes(path) if lazy else parse(path).body:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def top_level(path):
    return {name.split(".")[0] for level, name in imports(path) if level == 0}


@cache
def calls(path):
    """Text of what is called, with the call itself."""
    return tuple(
        (ast.unparse(node.func), node) for node in nodes(path) if isinstance(node, ast.Call)
    )


def test_there_is_something_to_check():
    assert len(ENGINE) > 20
    assert len(ENGINES) > 5


def test_engine_and_engines_never_import_each_other():
    def find(path):
        yield from top_level(path) & {"mlps", "engine", "engines", "conf", "schemas", "tests"}
        depth = len(path.relative_to(ROOT).parts) - 1
        if any(level > depth for level, _ in imports(path)):
            yield "a relative import leaves its tree"

    assert flaws(ALL, find) == []


def test_only_compose_and_sweep_know_hydra():
    assert {path.name for path in ALL if top_level(path) & HYDRA} == {"compose.py", "sweep.py"}


def test_engines_know_no_yaml_and_no_schema():
    assert flaws(ENGINES, lambda path: top_level(path) & {"yaml", "jsonschema", *HYDRA}) == []


def test_only_some_modules_know_yaml_and_mpi():
    assert {path.name for path in ENGINE if "yaml" in top_level(path)} == {
        "archive.py", "compose.py", "options.py", "plain_files.py", "sweep.py",
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


def test_pure_modules_see_no_clock_no_disk_and_no_process():
    disk = {
        "open", "read_text", "read_bytes", "write_text", "write_bytes", "exists", "is_file",
        "is_dir", "mkdir", "unlink", "stat", "iterdir", "glob", "rglob", "absolute", "resolve",
    }  # fmt: skip
    allowed = {
        "schema": {"read_text"},
        "canonical": {"open"},
        "lockfile": {"open", "is_file", "exists"},
    }

    def find(path):
        yield from top_level(path) & {*CLOCK_AND_PROCESSES, "psutil", "random", "secrets"}
        used = {called.rpartition(".")[2] for called, _ in calls(path)}
        yield from used & disk - allowed.get(path.stem, set())

    assert flaws([ROOT / "engine" / f"{name}.py" for name in PURE], find) == []


def test_the_probe_needs_the_standard_library_of_python_3_9_alone():
    siblings = {path.stem for path in PROBE} - {"__init__"}

    def find(path):
        ast.parse(path.read_text(), str(path), feature_version=(3, 9))
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and node.level:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                if node.level != 1 or set(names) - siblings:
                    yield node
        yield from top_level(path) - sys.stdlib_module_names

    assert flaws(PROBE, find) == []


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


def calls_of(paths, names):
    return flaws(paths, lambda path: (call for name, call in calls(path) if name in names))


def test_no_shell():
    def find(path):
        return (call for _, call in calls(path) for word in call.keywords if word.arg == "shell")

    assert flaws(ALL, find) == []


def test_only_main_modules_end_the_process():
    others = [path for path in ALL if path.name != "__main__.py"]
    assert calls_of(others, {"sys.exit", "exit", "quit", "SystemExit"}) == []
    # A rank without its world cannot end in any other way, nor one that watches over it.
    # A fork must not return into what its parent was doing.
    soft = [path for path in others if path.name not in ("world.py", "watch.py", "keeper.py")]
    assert calls_of(soft, {"os._exit"}) == []


def test_only_the_command_line_prints():
    others = [path for path in ENGINE if path.name not in ("cli.py", "commands.py")]
    assert calls_of(others, {"print"}) == []


def test_every_module_says_what_it_is_for():
    def find(path):
        tree = parse(path)
        if not ast.get_docstring(tree):
            yield "has no docstring"
        code = any(not isinstance(node, ast.Expr) for node in tree.body)
        if code and path.name[:2] != "__" and (0, "__future__") not in set(imports(path)):
            yield "does not import annotations from __future__"

    assert flaws(ALL, find) == []


def test_broad_handlers_say_why():
    def find(path):
        lines = path.read_text().splitlines()
        handlers = [node for node in nodes(path) if isinstance(node, ast.ExceptHandler)]
        yield from (f"line {each.lineno}: a bare except" for each in handlers if not each.type)
        broad = [each for each in handlers if each.type and ast.unparse(each.type) in BROAD]
        silent = [each for each in broad if "#" not in lines[each.lineno - 1]]
        yield from (f"line {each.lineno}: does not say why" for each in silent)

    assert flaws(ALL, find) == []


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
        for node in nodes(path)
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

"""The README and the pages of docs/ say what is true: commands, keys, links, tables, file names.

Each check takes the text of a page and gives its flaws, so that it can be seen to find some.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
from checkpoint_results import checkpoint_of, evicted, read
from checkpoint_results import written as written_checkpoints
from hydra.core.override_parser.types import Glob
from training_results import dataset_of, training_of
from vector_results import SECTIONS as SEARCHES
from vector_results import Job as SearchJob
from vector_results import open_point, section_of

from mlps.engine import archive as archive_files
from mlps.engine import errors, supervise, sweep
from mlps.engine.checkpoint_metrics import (
    checkpoint_metrics,
    checkpoint_notes,
    checkpoint_rows,
)
from mlps.engine.cli import HYDRA_FLAGS, HYDRA_MODIFIERS, JOB_COMMANDS, CommandLine, parse
from mlps.engine.collect import collect, load_metrics, memory_metrics, stage_metrics
from mlps.engine.compose import flatten, parse_overrides
from mlps.engine.edition_rules import EDITION_RULES
from mlps.engine.errors import ConfigError, MlpsError
from mlps.engine.help import COMMANDS
from mlps.engine.host_documents import HostFacts
from mlps.engine.hosts import expand_hosts
from mlps.engine.jobs import PreparedJob, prepare
from mlps.engine.lockfile import read_lockfile
from mlps.engine.lockfile_command import parse_arguments
from mlps.engine.options import find_options
from mlps.engine.package_command import wish_of
from mlps.engine.protocol import parse_event, parse_ranks, result_flaws
from mlps.engine.roofline import Around, Roofline, metrics_against
from mlps.engine.rule_table import RULES
from mlps.engine.schema import load_schema
from mlps.engine.series import Load
from mlps.engine.training_metrics import (
    dataset_metrics,
    epoch_rows,
    evaluation_metrics,
    training_metrics,
)
from mlps.engine.vector_job import vector_jobs
from mlps.engine.vector_metrics import (
    capacity_rows,
    job_metrics,
    point_row,
    sweep_rows,
    vector_notes,
)
from mlps.engines.vectordb.backends import OWN, backend_of

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

COMPLETE = {"status": "complete", "reason": None, "message": None, "elapsed_s": 1.0}

GROUPS = ("benchmark", "cluster", "launcher", "division", "edition", "system")

# What `cluster=slurm` finds where a page has it: two hosts.
ALLOCATION = {
    "SLURM_JOB_ID": "1",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_TASKS_PER_NODE": "2(x2)",
}


def schema_tables():
    """docs/schema_tables.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("schema_tables", ROOT / "docs/schema_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request) -> str:
    return request.param.read_text(encoding="utf-8")


# ---------------------------------------------------------------- reading a page


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(first line after the fence, content) of fenced blocks; ("", content) of indented ones."""
    fence = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
    yield from ((match[1], match[2]) for match in fence.finditer(text))
    for match in re.finditer(r"(?:^ {4}.*\n)+", fence.sub("", text), re.M):
        yield "", inspect.cleandoc(match[0])


def commands(text: str) -> list[str]:
    """Lines of blocks that begin with `mlps`, without the remark after them."""
    lines = [line for _, block in blocks(text) for line in block.splitlines()]
    lines += re.findall(r"\$\((mlps [^)]*)\)", "\n".join(lines))
    return [re.split(r"\s{2,}|\s#\s", line)[0] for line in lines if line.startswith("mlps ")]


def spans(text: str) -> list[str]:
    """What stands in backticks outside of blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [match[1] for match in re.finditer(r"`([^`\n]+)`", prose)]


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """(header, rows) of every table; a cell is its text."""
    for match in re.finditer(r"(?:^\|.*\|\n)+", text, re.M):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in match[0].splitlines()]
        header, _, *rows = [[cell.strip() for cell in line] for line in lines]
        yield header, rows


def first_cells(text: str, head: str) -> list[str]:
    """What stands in backticks in the first column of tables with this header."""
    return [
        name
        for header, rows in tables(text)
        if header[0] == head
        for row in rows
        for name in spans(row[0])
    ]


def write_own_options(text: str, directory: Path) -> None:
    """Put the files of a page, options and lock files, where it says that they are."""
    for head, block in blocks(text):
        kind, _, place = head.partition(" ")
        if kind in ("yaml", "text") and place:
            path = directory / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block, encoding="utf-8")


@pytest.fixture(scope="module")
def own_directory(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("own")
    for path in PAGES:
        write_own_options(path.read_text(encoding="utf-8"), directory)
    return directory


@pytest.fixture
def own_options(own_directory, monkeypatch) -> Path:
    """The current directory, with the own options of all pages."""
    monkeypatch.chdir(own_directory)
    monkeypatch.delenv("MLPS_CONF_PATH", raising=False)
    for name, value in ALLOCATION.items():
        monkeypatch.setenv(name, value)
    return own_directory


@cache
def prepared(*words: str) -> PreparedJob:
    """A job in the directory of own options; the pages say many of them more than once."""
    return prepare(words)


# ---------------------------------------------------------------- commands


def command_flaws(command: str, own: Path) -> list[str]:
    """Why a command line cannot be typed as it stands."""
    try:
        line = parse(shlex.split(command)[1:])
        if line.command in ("run", *JOB_COMMANDS):
            prepared(*_with_a_benchmark(line))
        elif line.command == "sweep":
            for combination in combinations(line.words, own):
                prepared(*combination)
        elif line.command == "hydra":
            return hydra_flaws(line.words)
        elif line.command == "lockfile":
            lockfile_flaws(line.words, own)
        elif line.command == "package":
            wish_of(line.words)
        elif line.command not in ("help", "version"):
            return path_flaws(line)
    except MlpsError as error:
        return [f"{command}: {error}"]
    return []


def _with_a_benchmark(line: CommandLine) -> Sequence[str]:
    """The overrides of a command; two commands need none that chooses a benchmark."""
    named = any(word.startswith("benchmark=") for word in line.words)
    if line.command in ("doctor", "facts") and not named:
        return ("benchmark=kvcache/quick", *line.words)
    return line.words


def combinations(words: Sequence[str], own: Path) -> Iterator[list[str]]:
    """The overrides of each job of a sweep. Raises ConfigError where there is one job only."""
    choices: list[list[str]] = []
    for item in parse_overrides(words, multirun=True):
        if not item.is_sweep_override():
            choices.append([item.input_line])
            continue
        if isinstance(item.value(), Glob):
            names = [option.name for option in find_options(item.key_or_group, (own / "conf",))]
            values = item.value().filter(names)
        else:
            values = list(item.sweep_string_iterator())
        choices.append([f"{item.get_key_element()}={value}" for value in values])
    jobs = [list(job) for job in itertools.product(*choices)]
    if len(jobs) < 2:
        raise ConfigError("a sweep of one job")
    yield from jobs


def hydra_flaws(words: Sequence[str]) -> list[str]:
    """Flaws of a view of the configuration: its flags, its overrides."""
    flags = [word for word in words if word.startswith("-")]
    flaws = [f"{flag}: no flag" for flag in flags if flag not in HYDRA_FLAGS + HYDRA_MODIFIERS]
    if "-sc" in words:
        value = words[words.index("-sc") + 1]
        return flaws + ([] if value.startswith(("install=", "query=")) else [f"-sc {value}"])
    prepared(*(word for word in words if "=" in word))
    return flaws


def lockfile_flaws(words: Sequence[str], own: Path) -> None:
    """Raises ConfigError where the words are wrong, or a lock file is none."""
    options = parse_arguments(words)
    if options.word == "verify" and (own / options.lockfile).exists():
        read_lockfile(own / options.lockfile)


def path_flaws(line: CommandLine) -> list[str]:
    """Flaws of a command on archives, measured by what the help says of it."""
    help_line = next(
        (text for text in COMMANDS.splitlines() if text.split()[:1] == [line.command]), ""
    )
    flaws = [
        f"{line.command} {word}: not in the help"
        for word in line.words
        if word.startswith("-") and not re.search(rf"{word}\b", help_line)
    ]
    paths = [word for word in line.words if not word.startswith("-")]
    if line.command == "system":
        return flaws  # tests/test_system_command.py types what the page does
    least, most = {
        "verify": (1, 99),
        "report": (1, 99),
        "compare": (2, 2),
        "history": (0, 1),
        "rules": (0, 1),
    }.get(line.command, (1, 1))
    return flaws + ([] if least <= len(paths) <= most else [f"{line.command}: {len(paths)} paths"])


def test_every_command_can_be_typed(page, own_options):
    assert [flaw for line in commands(page) for flaw in command_flaws(line, own_options)] == []


def test_the_pages_show_every_command(own_options):
    lines = [line for path in PAGES for line in commands(path.read_text(encoding="utf-8"))]
    shown = {parse(shlex.split(line)[1:]).command for line in lines}
    known = {
        line.split()[0] for line in COMMANDS.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    }
    assert known | {"run", "sweep", "hydra"} <= shown


@pytest.mark.parametrize(
    "command",
    [
        "mlps benchmark=kvcache/slow",
        "mlps benchmark=kvcache/quick benchmark.usres=4",
        "mlps plan benchmark=kvcache/quick benchmark.users=2,4",
        "mlps plan cluster=8node",
        "mlps plan benchmark=kvcache/quick cluster=nowhere",
        "mlps doctor benchmark=kvcache/quick --deep",
        "mlps -m benchmark=kvcache/quick benchmark.users=2,x",
        "mlps -m benchmark=kvcache/quick 'cluster=glob(*)' cluster.ranks=17",
        "mlps -m benchmark=kvcache/quick",
        "mlps --cfg job benchmark=kvcache/quick benchmark.usres=4",
        "mlps --cfg job --frozen benchmark=kvcache/quick",
        "mlps -sc bash",
        "mlps verify",
        "mlps verify results --csv",
        "mlps resume one two",
        "mlps package results",
        "mlps lockfile",
        "mlps lockfile generate --deep",
        "mlps plan benchmark=kvcache/quick lockfile=nowhere.lock",
    ],
)
def test_a_wrong_command_is_found(command, own_options):
    assert command_flaws(command, own_options) != []


def test_commands_are_found_in_all_kinds_of_blocks():
    text = (
        "    mlps plan a=1       a remark\n\n"
        '```bash\nmlps verify results # another\neval "$(mlps -sc install=bash)"\n```\n'
        "mlps in prose\n"
    )
    expected = ["mlps verify results", "mlps plan a=1", "mlps -sc install=bash"]
    assert sorted(commands(text)) == sorted(expected)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_in_prose_are_known(path):
    for span in spans(path.read_text(encoding="utf-8")):
        if span.startswith("mlps "):
            parse(shlex.split(span)[1:])


# ---------------------------------------------------------------- words that "you type"


def typed_flaws(text: str) -> list[str]:
    """Rows of tables of overrides that do not come out as they say."""
    return [
        f"{row[0]}: {flaw}"
        for header, rows in tables(text)
        if header[0] == "you type"
        for row in rows
        if (flaw := _typed_flaw(header[1], *row)) is not None
    ]


def _typed_flaw(head: str, typed: str, becomes: str) -> str | None:
    (word,) = shlex.split(spans(typed)[0])
    try:
        job = prepared("benchmark=kvcache/quick", word)
    except ConfigError as error:
        return None if becomes.startswith("refused") else str(error)
    if becomes.startswith("refused"):
        return "is not refused"
    if head == "the hosts":
        hosts = ["this machine" if host == "localhost" else host for host in job.spec.cluster.names]
        return None if _named_hosts(becomes) == hosts else f"gives {hosts}"
    value = flatten(job.spec.document)[word.partition("=")[0]]
    return None if json.loads(spans(becomes)[0]) == value else f"gives {value!r}"


def _named_hosts(text: str) -> list[str]:
    """Hosts of `node1 to node8; also ...` or `alpha, beta`."""
    hosts = []
    for part in text.partition(";")[0].split(", "):
        first, _, last = part.partition(" to ")
        if not last:
            hosts.append(first)
            continue
        digits = len(re.search(r"\d+$", first)[0])
        found = expand_hosts([f"{first[:-digits]}[{first[-digits:]}-{last[-digits:]}]"])
        hosts += [host.name for host in found]
    return hosts


def test_what_is_typed_becomes_what_is_said(page, own_options):
    assert typed_flaws(page) == []


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("the job gets", "| `benchmark.users=4` | `8` |"),
        ("the job gets", "| `benchmark.users=4` | refused: no reason |"),
        ("the job gets", "| `benchmark.users=x` | `4` |"),
        ("the job gets", "| `system.description=7up` | `7` |"),
        ("the hosts", "| `'cluster.hosts=[\"n[1-3]\"]'` | n1 to n4 |"),
        ("the hosts", "| `'cluster.hosts=[a,b]'` | a |"),
    ],
)
def test_a_wrong_row_is_found(head, row, own_options):
    assert len(typed_flaws(f"| you type | {head} |\n|---|---|\n{row}\n")) == 1


# ---------------------------------------------------------------- keys


def known_keys() -> dict[str, bool]:
    """Dotted keys of a job, with those of its parts; true where names below are a user's own."""
    job = load_schema("job")
    keys: dict[str, bool] = {}
    for group in GROUPS:
        _add_keys(keys, group, job["$defs"][group])
    for path in (files("mlps.schemas") / "benchmark").iterdir():
        schema = load_schema(f"benchmark/{path.name.removesuffix('.json')}")
        _add_keys(keys, "benchmark", schema, schema.get("$defs", {}))
    return keys


def _add_keys(keys: dict[str, bool], prefix: str, schema: object, definitions=None) -> None:
    if not isinstance(schema, dict):
        return
    named = schema.get("$ref", "").removeprefix("#/$defs/")
    schema = {**(definitions or {}).get(named, {}), **schema}
    keys[prefix] = keys.get(prefix, False) or isinstance(schema.get("additionalProperties"), dict)
    for name, part in schema.get("properties", {}).items():
        _add_keys(keys, f"{prefix}.{name}", part, definitions)
        keys.setdefault(f"{prefix}.{name}", False)


def key_flaws(text: str) -> list[str]:
    """Dotted keys in backticks that no schema has, but for those that a page shows as refused."""
    keys = known_keys()
    text = "".join(line for line in text.splitlines(keepends=True) if "| refused" not in line)
    found = [
        match[0]
        for span in spans(text)
        if not re.search(r"\.(yaml|json|py|md)$", span)
        for match in re.finditer(rf"(?<![\w./])(?:{'|'.join(GROUPS)})(?:\.[A-Za-z_]\w*)+", span)
    ]
    return [key for key in found if key not in keys and not keys.get(key.rpartition(".")[0], False)]


def test_every_key_exists(page):
    assert key_flaws(page) == []


@pytest.mark.parametrize("span", ["benchmark.usrs", "cluster.hosts.name=4", "'x=${cluster.host}'"])
def test_an_unknown_key_is_found(span):
    assert len(key_flaws(f"set `{span}`\n")) == 1


@pytest.mark.parametrize("span", ["benchmark.io.direct=no", "launcher.env.ANY", "job.system.yaml"])
def test_known_keys_and_file_names_are_no_flaws(span):
    assert key_flaws(f"set `{span}`\n") == []


# ---------------------------------------------------------------- links


def link_flaws(text: str, path: Path) -> list[str]:
    """Relative links that lead nowhere; `path` is that of the page."""
    flaws = []
    for match in re.finditer(r"\]\(([^)\s]+)\)", text):
        place, _, heading = match[1].partition("#")
        if "://" in match[1]:
            continue
        target = path.parent / place if place else path
        if not target.exists():
            flaws.append(f"{match[1]}: no such file")
        elif heading and heading not in headings(target.read_text(encoding="utf-8")):
            flaws.append(f"{match[1]}: no such heading")
    return flaws


def headings(text: str) -> list[str]:
    """Anchors of a page, made as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_resolves(path):
    assert link_flaws(path.read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize("link", ["nowhere.md", "running.md#nothing", "#nothing"])
def test_a_dead_link_is_found(link):
    assert len(link_flaws(f"see [it]({link})", ROOT / "docs/archive.md")) == 1


# ---------------------------------------------------------------- tables that follow from the code


def exit_codes() -> dict[int, str]:
    """Code -> name of its error; 0 and 1 have none."""
    subclasses = {kind.exit_code: kind.__name__ for kind in MlpsError.__subclasses__()}
    assert len(subclasses) == len(MlpsError.__subclasses__())
    return {0: "", errors.MlpsError.exit_code: "", **subclasses}


def exit_code_flaws(text: str) -> list[str]:
    """Tables and sentences about exit codes that are not what errors.py says."""
    expected = exit_codes()
    flaws = [
        f"table of exit codes: {found}"
        for header, rows in tables(text)
        if header[0] == "exit code"
        and (found := {int(row[0]): row[1].strip("`") for row in rows}) != expected
    ]
    for match in re.finditer(r"Exit codes: ([^.]*)\.", text):
        said = sorted(int(code) for code in re.findall(r"(?:^|,\s+)(\d+) ", match[1]))
        flaws += [] if said == sorted(expected) else [f"sentence: {said}"]
    return flaws


def test_exit_codes_are_those_of_the_errors(page):
    assert exit_code_flaws(page) == []


def test_exit_codes_are_told():
    assert "Exit codes: " in (ROOT / "README.md").read_text(encoding="utf-8")
    assert first_cells((ROOT / "docs/running.md").read_text(encoding="utf-8"), "exit code") == []
    assert "| exit code |" in (ROOT / "docs/running.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "| exit code | error | meaning |\n|---|---|---|\n| 0 | | valid |\n",
        "Exit codes: 0 valid, 2 configuration, 1 a bug.",
    ],
    ids=["table", "sentence"],
)
def test_a_wrong_list_of_exit_codes_is_found(text):
    assert len(exit_code_flaws(text)) == 1


def test_tables_are_what_the_schemas_render(page):
    assert schema_tables().rendered(page) == page, "run scripts/schema_tables"


def test_pages_have_the_rendered_tables():
    kinds = {
        (path.name, place["words"].strip() or place["kind"])
        for path in PAGES
        for place in schema_tables().PLACE.finditer(path.read_text(encoding="utf-8"))
    }
    assert {(name, words.split()[0]) for name, words in kinds} >= {
        ("kvcache.md", "schema=benchmark/kvcache"),
        ("kvcache.md", "schema=job/$defs/benchmark"),
        ("training.md", "schema=benchmark/training"),
        ("training.md", "models"),
        ("checkpointing.md", "schema=benchmark/checkpointing"),
        ("checkpointing.md", "checkpoints"),
        ("vectordb.md", "schema=benchmark/vectordb"),
        ("rules.md", "schema=job/$defs/edition"),
        ("clusters.md", "schema=job/$defs/cluster"),
        ("clusters.md", "schema=job/$defs/launcher"),
        ("rules.md", "rules"),
    }


def test_a_stale_table_is_found():
    before = (ROOT / "docs/clusters.md").read_text(encoding="utf-8")
    stale = before.replace("| `cluster.python` |", "| `cluster.pythons` |")
    assert before != stale
    assert schema_tables().rendered(stale) == before


def test_the_rules_are_all_there():
    text = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
    assert first_cells(text, "rule") == list(RULES)


def test_rules_that_are_named_exist(page):
    assert set(re.findall(r"\b[A-Z]{3}-\d\d\b", page)) <= {*RULES, *EDITION_RULES}


def test_metrics_are_those_that_are_published(make_full_result, search):
    text = (ROOT / "docs/kvcache.md").read_text(encoding="utf-8")
    result = make_full_result()
    own = result.pop("measures")
    published = stage_metrics(result) | stage_metrics(result | {"search": search})
    published |= memory_metrics(result, 2**30)
    busy = Load(covered_s=1.0, cpu_busy_pct=1.0, io_pressure_pct=1.0, memory_pressure_pct=1.0)
    published |= load_metrics(["a"], {"a": busy})
    roof = Roofline(tool="fio", read_gib_s=1.0, write_gib_s=1.0, cpu_s_per_gib=0.1)
    published |= metrics_against(Around(before=roof, after=roof), published)
    assert sorted(first_cells(text, "metric")) == sorted(published)
    assert set(stage_metrics(result | {"measures": own})) - set(published) == {
        "generated_tokens_per_s",
        "prefix_hit_pct",
    }


def test_metrics_of_training_are_those_that_are_published(archive_page, make_result):
    done = {"after_epoch": 1, "steps": 5, "wall_s": 2.0, "read_bytes": 1}
    saved = {"after_epoch": 1, "written_bytes": 1, "wall_s": 0.5}
    training = training_of(ranks=2, evaluations=[done], checkpoints=[saved])
    result = make_result(training=training, dataset=dataset_of())
    published = training_metrics(result) | dataset_metrics(result) | evaluation_metrics(result, 1)
    told = first_cells(archive_page, "metric of training")
    assert sorted(told) == sorted([*published, "au_engine_ceiling_pct"])
    assert first_cells(archive_page, "value of an epoch") == list(epoch_rows(result)[0])


def test_metrics_of_checkpointing_are_those_that_are_published(archive_page, make_result):
    stalled = written_checkpoints(checkpoint_of(1, stall_s=0.5), planned=1)
    published = [checkpoint_metrics(make_result(checkpointing=stalled))]
    published += [checkpoint_metrics(make_result(checkpointing=each())) for each in (read, evicted)]
    told = first_cells(archive_page, "metric of checkpointing")
    assert sorted(told) == sorted({name for metrics in published for name in metrics})
    (saved,), loaded = (
        checkpoint_rows(make_result(checkpointing=each)) for each in (stalled, read())
    )
    assert sorted(first_cells(archive_page, "value of a checkpoint")) == sorted(
        {*saved, *loaded[0]}
    )


def test_metrics_of_the_page_of_checkpointing_are_in_the_archive(archive_page):
    page = (ROOT / "docs/checkpointing.md").read_text(encoding="utf-8")
    told = first_cells(page, "metric")
    assert len(told) > 5
    assert set(told) <= set(first_cells(archive_page, "metric of checkpointing"))


def test_the_page_of_checkpointing_tells_all_its_rules():
    page = (ROOT / "docs/checkpointing.md").read_text(encoding="utf-8")
    (rows,) = [rows for header, rows in tables(page) if header[0] == "what must hold"]
    assert sorted({row[1] for row in rows}) == [rule for rule in RULES if rule.startswith("CKP-")]


# ---------------------------------------------------------------- vector search

# A job with all of its stages.
SEARCH_STAGES = [
    {"name": name, "each": "trial" if name == "run" else "job", "measured": name == "run"}
    for name in SEARCHES
]


@pytest.fixture
def searched(make_result) -> SearchJob:
    """A job of vector search whose stages have left all that they may."""
    return SearchJob(make_result, {"trials": 1, "benchmark.stages": SEARCH_STAGES})


def test_metrics_of_vector_search_are_those_that_are_published(archive_page, make_result, searched):
    (job,) = vector_jobs(searched.spec)
    results = [*searched.results.values()]
    results.append(make_result(vectordb=section_of("run", open_point())))
    published = {name for result in results for name in job_metrics(job, result)}
    told = first_cells(archive_page, "metric of vector search")
    assert sorted(told) == sorted(published)


def test_values_of_a_point_are_told(archive_page, searched):
    (job,) = vector_jobs(searched.spec)
    results = {result["vectordb"]["does"]: result for result in searched.results.values()}
    rows = [point_row(results["run"], results["run"]["vectordb"]["points"][0])]
    rows += capacity_rows(job, results["capacity"]) + sweep_rows(results["sweep"])
    metrics = set(first_cells(archive_page, "metric of vector search"))
    own = {name for row in rows for name in row} - metrics - {"met", "front"}
    assert sorted(first_cells(archive_page, "value of a point")) == sorted(own)


def test_metrics_of_the_page_of_vector_search_are_in_the_archive(archive_page):
    page = (ROOT / "docs/vectordb.md").read_text(encoding="utf-8")
    told = first_cells(page, "metric")
    assert len(told) > 8
    short = {"p50", "p95", "p999", "max"}
    assert set(told) - short <= set(first_cells(archive_page, "metric of vector search"))


def test_the_page_of_vector_search_tells_all_its_rules():
    page = (ROOT / "docs/vectordb.md").read_text(encoding="utf-8")
    (rows,) = [rows for header, rows in tables(page) if header[0] == "what must hold"]
    assert sorted({row[1] for row in rows}) == [rule for rule in RULES if rule.startswith("VDB-")]


def test_the_page_of_vector_search_names_every_benchmark():
    page = (ROOT / "docs/vectordb.md").read_text(encoding="utf-8")
    names = [option.name for option in find_options("benchmark", ())]
    assert sorted(first_cells(page, "benchmark")) == [
        name for name in names if name.partition("/")[0] == "vectordb"
    ]


def test_the_page_of_vector_search_tells_all_backends_with_their_keys():
    page = (ROOT / "docs/vectordb.md").read_text(encoding="utf-8")
    (rows,) = [rows for header, rows in tables(page) if header[0] == "backend"]
    told = {spans(row[0])[0]: sorted(spans(row[3])) for row in rows}
    described = {name: backend_of(name).describe() for name in OWN}
    assert told == {
        name: sorted([*each.build_keys, *each.search_keys]) for name, each in described.items()
    }


NO_HOSTS = HostFacts(facts={}, clock_offset_s={}, without_facts={})


def test_keys_of_aggregates_and_notes(archive_page, plan_of, make_full_result, search, searched):
    result = make_full_result(search=search)
    plan = plan_of({"cluster.ranks_per_host": 1})
    run = plan.launches[1].name
    outcomes = {launch.name: COMPLETE for launch in plan.launches}
    results = {
        run: result,
        plan.launches[0].name: make_full_result(
            window=None,
            roofline={
                "tool": "fio", "read_bytes": 1, "write_bytes": 0, "elapsed_s": 1, "cpu_s": 1,
            },
        ),
    }  # fmt: skip
    result |= {"training": training_of(ranks=1)}
    results[plan.launches[0].name] |= {"dataset": dataset_of()}
    document = collect(
        plan, run_id="r", version="1", benchmark="b", family="kvcache", outcomes=outcomes,
        results=results, hosts=NO_HOSTS, series=None, evidence={},
    )  # fmt: skip
    (aggregate,), (summary,) = document["aggregates"], document["metrics"]
    notes = {*summary["notes"], *checkpoint_notes_of(plan, make_full_result)}
    (job,) = vector_jobs(searched.spec)
    runs = searched.plan.measured[("run", None)]
    notes |= {*vector_notes(*searched.ended[1:], job=job, launches=runs)}
    assert first_cells(archive_page, "key of an aggregate") == list(aggregate)
    assert first_cells(archive_page, "key of a summary") == list(summary)
    assert sorted(first_cells(archive_page, "key of `notes`")) == sorted(notes)


def checkpoint_notes_of(plan, make_full_result) -> set[str]:
    """Keys of notes of checkpointing that ended well, and of such that failed."""
    run = plan.launches[1].name
    results = {run: make_full_result(checkpointing=written_checkpoints())}
    found: set[str] = set()
    for ended in (COMPLETE, COMPLETE | {"status": "failed", "reason": "engine"}):
        outcomes = {launch.name: ended for launch in plan.launches}
        found |= set(
            checkpoint_notes(plan, outcomes, results, job=None, launches=[plan.launches[1]])
        )
    return found


# ---------------------------------------------------------------- the archive


@pytest.fixture
def archive_page() -> str:
    return (ROOT / "docs/archive.md").read_text(encoding="utf-8")


def file_names(text: str) -> set[str]:
    """Names of files in backticks, without their directories and globs."""
    found = {name for span in spans(text) for name in re.findall(r"[\w.-]+\.[a-z0-9]+$", span)}
    return {
        name for name in found if re.search(r"\.(json|jsonl|gz|html|yaml|txt|log|sha256)$", name)
    }


def archive_constants() -> set[str]:
    """File names that engine/archive.py knows."""
    return {
        value
        for name, value in vars(archive_files).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }


@pytest.fixture
def written(player, sealed, monkeypatch, tmp_path) -> set[str]:
    """Names of all files of a real archive and of a real sweep."""
    monkeypatch.chdir(tmp_path)
    directory, _ = sweep.run_sweep([*player.overrides, "seed=1"], (), io.StringIO())
    return {path.name for root in (sealed.root, directory) for path in root.rglob("*.*")}


def test_every_file_of_the_page_is_written(archive_page, written):
    # The samples are compressed at the end.
    assert file_names(archive_page) - written == {archive_files.SERIES}


def test_every_file_of_an_archive_is_on_the_page(archive_page, sealed):
    there = {path.name for path in sealed.root.rglob("*") if path.is_file()}
    assert (there | archive_constants()) - file_names(archive_page) == set()


def test_file_names_are_found():
    assert file_names("`a.json` and `stages/<name>/b.log`, no `c.py`") == {"a.json", "b.log"}


@pytest.mark.parametrize("name", ["result.json", "verdict.json", "stages/01-run-0/outcome.json"])
def test_keys_of_documents(archive_page, sealed, name):
    document = archive_files.read_document(sealed.path(name))
    assert first_cells(archive_page, f"key of `{Path(name).name}`") == list(document)


def test_keys_of_a_metric(archive_page, sealed):
    document = archive_files.read_document(sealed.path("result.json"))
    values = document["metrics"][0]["values"]["window_s"]
    assert sorted(first_cells(archive_page, "key of a metric")) == sorted(values)


def test_keys_of_another_document_are_found(sealed):
    document = archive_files.read_document(sealed.path("verdict.json"))
    text = "| key of `verdict.json` | meaning |\n|---|---|\n| `verdict` | x |\n"
    assert first_cells(text, "key of `verdict.json`") != list(document)


def test_reasons_of_a_failure_are_those_of_the_engine(archive_page):
    forms = (
        r'_Failure\(\s*"(\w+)"',
        r'reason="(\w+)"',
        r'_End\("(?:failed|stopped)", "(\w+)"',
    )
    source = inspect.getsource(supervise)
    said = {name for form in forms for name in re.findall(form, source)}
    assert sorted(first_cells(archive_page, "reason")) == sorted(said)


# ---------------------------------------------------------------- events


@pytest.fixture
def engines_page() -> str:
    return (ROOT / "docs/engines.md").read_text(encoding="utf-8")


def test_events_of_the_page_are_events(engines_page):
    lines = [line for _, block in blocks(engines_page) for line in block.splitlines()]
    events = [parse_event(line.encode()) for line in lines if line.startswith('{"event":"')]
    assert [event["event"] for event in events] == [
        "ranks",
        "progress",
        "needs",
    ]
    assert parse_ranks(events[0]).hosts == ("node1", "node2")
    told = first_cells(engines_page, "key of a progress event")
    assert sorted(["event", *told]) == sorted(events[1])


def test_the_result_of_the_page_can_be_used(engines_page, plan_of):
    (block,) = [block for head, block in blocks(engines_page) if head == "json"]
    result = json.loads(block)
    plan = plan_of({"cluster.hosts": ["node1", "node2"], "cluster.ranks_per_host": 1})
    (launch,) = [launch for launch in plan.launches if launch.stage == "cleanup"]
    sha256 = "3f589eb96a2d752502213d567489cdc3646fd0e540662ec1a37f14fdbb10d6bc"
    ranks = [["node1", 411], ["node2", 97]]
    table = parse_ranks({"ranks": ranks, "job_sha256": {sha256: "0-1"}})
    assert result_flaws(result, launch, sha256, table) == []


def test_keys_of_a_result_are_those_of_its_schema(engines_page):
    schema = load_schema("stage_result")
    required = set(schema["required"])
    assert set(first_cells(engines_page, "key of a result event")) == required
    optional = set(first_cells(engines_page, "optional key of a result event"))
    assert optional == set(schema["properties"]) - required


@pytest.mark.parametrize("name", ["window", "core"])
def test_parts_of_a_result_are_those_of_its_schema(engines_page, name):
    part = load_schema("stage_result")["properties"][name]
    (row,) = [row for _, rows in tables(engines_page) for row in rows if row[0] == f"`{name}`"]
    assert set(part["required"]) <= set(spans(row[1])) <= set(part["properties"])


# ---------------------------------------------------------------- paths and scripts


def path_span_flaws(text: str) -> list[str]:
    """Paths of this repository in backticks that are not there."""
    form = r"(?:engine|engines|schemas|scripts|tests|docs|benchmarks)/[\w./*-]*"
    return [
        span
        for span in spans(text)
        if re.fullmatch(form, span) and not any(ROOT.glob(span.rstrip("/")))
    ]


def test_paths_of_the_repository_exist(page):
    assert path_span_flaws(page) == []


def test_a_path_that_is_not_there_is_found():
    assert path_span_flaws("see `engine/planner.py` and `tests/`") == ["engine/planner.py"]


def test_lock_files_are_made_as_the_page_says():
    text = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
    lines = [line for _, block in blocks(text) for line in block.splitlines()]
    for name in ("requirements.lock", "requirements-dev.lock"):
        head = (ROOT / name).read_text(encoding="utf-8").splitlines()[1].lstrip("# ")
        assert head in lines


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\((docs/[^)#]+)", text)
    assert sorted(linked) == [f"docs/{path.name}" for path in PAGES[1:]]

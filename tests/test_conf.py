"""The packaged configuration: free of YAML's traps, known to the schemas, composable in every
combination; and each key of the job has an effect."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import yaml
from official_jobs import official_spec

from mlps.engine.checkpoint_job import checkpoint_limits
from mlps.engine.checkpoint_rules import judge_form
from mlps.engine.compose import compose
from mlps.engine.jobs import prepare
from mlps.engine.options import GROUPS, find_options, packaged_conf
from mlps.engine.plan import make_plan
from mlps.engine.rank_environment import rank_environment
from mlps.engine.rules import judge_job
from mlps.engine.schema import check, load_schema
from mlps.engine.spec import SWEEP_KEYS, build
from mlps.engine.system_source import judge_described
from mlps.engine.training_job import training_jobs
from mlps.engine.training_rules import judge_client_memory
from mlps.engine.vector_job import vector_table

CONF = packaged_conf()
FILES = sorted(CONF.rglob("*.yaml"))
OPTIONS = {group: find_options(group, ()) for group in GROUPS}


def file_id(path):
    return str(path.relative_to(CONF))


# ---------------------------------------------------------------- traps of YAML 1.1

TRAPS = {
    "a word that YAML 1.1 takes for a truth value": re.compile(r"yes|no|on|off|y|n", re.I),
    "an integer with a leading zero": re.compile(r"[-+]?0[0-9_]+"),
    "digits with a colon": re.compile(r"[-+]?[0-9][0-9_]*(:[0-9]+)+(\.[0-9]*)?"),
    "a number with an underscore": re.compile(r"[0-9]+(_[0-9]+)+"),
    "a date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*"),
}


def traps(text):
    """Plain scalars, keys too, that YAML 1.1 or another reader takes for something else."""
    return [
        f"line {token.start_mark.line + 1}: {token.value}: {name}"
        for token in yaml.scan(text)
        if isinstance(token, yaml.ScalarToken) and token.plain
        for name, pattern in TRAPS.items()
        if pattern.fullmatch(token.value)
    ]


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_no_traps(path):
    assert traps(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "a: yes", "a: No", "- on", "{a: OFF}", "on: 1", "a: 010", "a: [1, 007]", "a: 12:30",
        "a: 1:30:00", "a: 1_000", "a: 2026-01-01",
    ],
)  # fmt: skip
def test_the_lint_finds(text):
    assert len(traps(text)) == 1


@pytest.mark.parametrize(
    "text",
    ["a: 'yes'", 'a: "010"', "a: none", "a: 0", "a: 0.5", "a: 10", "a: '12:30'", "# no: 010"],
)
def test_the_lint_is_silent(text):
    assert traps(text) == []


def test_every_file_is_one_that_hydra_reads():
    found = [path for path in CONF.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.suffix for path in found} == {".yaml", ".py"}
    assert (CONF / "__init__.py").is_file()


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_no_key_twice_and_self_is_last(path):
    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            names = [self.construct_object(key) for key, _ in node.value]
            assert len(set(names)) == len(names), names
            return super().construct_mapping(node, deep)

    document = yaml.load(path.read_text(), Strict)
    assert document.get("defaults", ["_self_"])[-1] == "_self_"


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_the_first_line_is_a_summary(path):
    first = path.read_text().splitlines()[0]
    assert re.fullmatch(r"# \S.{5,97}\S", first)


@pytest.mark.parametrize("path", [path for path in FILES if path.parent != CONF], ids=file_id)
def test_an_option_is_named_like_its_file(path):
    group, name = path.relative_to(CONF).with_suffix("").as_posix().split("/", 1)
    declared = yaml.safe_load(path.read_text())["name"]
    assert group in GROUPS
    assert declared in (name, name.replace("_", "."))


# ---------------------------------------------------------------- combinations

# How many ranks a launcher can start; one that is based on another can start many.
LAUNCHERS = {
    option.name: yaml.safe_load(option.path.read_text()).get("ranks", "many")
    for option in OPTIONS["launcher"]
}

# An allocation of two hosts, as the schedulers tell of it.
ALLOCATION = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_TASKS_PER_NODE": "8(x2)"}


def matrix():
    """All meetings of a cluster and a launcher, and of each benchmark with at least one of them.

    Every benchmark with every one of them would be ten times as many, and finds no more: neither
    group has a word of the other in its files, and all benchmarks read a cluster's in one place.
    """
    clusters = [option.name for option in OPTIONS["cluster"]]
    meetings = [
        (cluster, launcher)
        for cluster, launcher in itertools.product(clusters, LAUNCHERS)
        if LAUNCHERS[launcher] == "many" or cluster == "local"
    ]
    benchmarks = [option.name for option in OPTIONS["benchmark"]]
    for number in range(max(len(benchmarks), len(meetings))):
        values = (benchmarks[number % len(benchmarks)], *meetings[number % len(meetings)])
        yield pytest.param(*values, id=" ".join(values))


MATRIX = [*matrix()]


# What a benchmark cannot know: a value that its user must give.
REQUIRED = {
    "kvcache/trace": ["benchmark.trace.path=/data/trace.jsonl"],
    "external/kv_cache_py": ["benchmark.settings.script=/opt/kv-cache.py"],
    "external/vdbbench": ["benchmark.settings.flags.collection-name=mine"],
    "vectordb": ["benchmark.database.backend=native_ivf"],
}


@pytest.mark.parametrize("benchmark", [option.name for option in OPTIONS["benchmark"]])
def test_a_benchmark_runs_without_a_word_unless_only_its_user_knows_it(benchmark):
    composed = compose([f"benchmark={benchmark}"], conf_dirs=(), cwd=Path("/"))
    missing = [word.partition("=")[0] for word in REQUIRED.get(benchmark, [])]
    assert [problem.key for problem in composed.problems] == missing


@pytest.fixture
def in_allocations(monkeypatch, tmp_path):
    """The environment of a shell that stands in an allocation of every scheduler."""
    nodefile = tmp_path / "nodes"
    nodefile.write_text("node1\n" * 8 + "node2\n" * 8)
    for name, value in (ALLOCATION | {"PBS_NODEFILE": str(nodefile)}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("in_allocations")
@pytest.mark.parametrize(("benchmark", "cluster", "launcher"), MATRIX)
def test_every_combination_composes_validates_and_plans(benchmark, cluster, launcher):
    words = [f"benchmark={benchmark}", f"cluster={cluster}", f"launcher={launcher}"]
    words += ["cluster.ranks_per_host=1"] if LAUNCHERS[launcher] == "one" else []
    words += REQUIRED.get(benchmark, [])
    job = prepare([*words, "division=whatif"])
    assert job.composition.problems == ()
    assert job.spec.benchmark == benchmark
    assert [launch for launch in job.plan.launches if launch.measured]
    assert judge_job(job.spec, job.composition.origins) == []
    for launch in job.plan.launches:
        assert not re.search(r"\{[a-z_]+\}", " ".join(launch.argv))


@pytest.mark.parametrize("group", ["division", "edition", "system"])
def test_every_other_option_composes(group):
    for option in OPTIONS[group]:
        job = prepare(["benchmark=kvcache/quick", f"{group}={option.name}"])
        assert job.spec.document[group]["name"]


# ---------------------------------------------------------------- keys and schemas


def known_keys(schema, prefix=""):
    """Dotted keys of a schema of the job, as far as it declares them, with their schemas."""
    definitions = load_schema("job")["$defs"]
    for name, value in schema.get("properties", {}).items():
        if value is True:
            continue
        reference = value.get("$ref", "").rpartition("/")[2]
        value = {**definitions.get(reference, {}), **value}
        inner = value["items"] if isinstance(value.get("items"), dict) else value
        inner = {**definitions.get(inner.get("$ref", "").rpartition("/")[2], {}), **inner}
        yield f"{prefix}{name}", value
        yield from known_keys(inner, f"{prefix}{name}.")


JOB_KEYS = dict(known_keys(load_schema("job")))

# What needs no sentence: the name says it.
OBVIOUS = re.compile(
    r"(.*\.)?name|benchmark|cluster|launcher|division|edition|system|system\.description|"
    r"model\.(layers|kv_heads|head_dim|qk_rope_head_dim|dtype)|benchmark\.stages\.time_limit_s"
)


FAMILY_SCHEMAS = sorted(
    f"benchmark/{path.stem}" for path in (CONF.parent / "schemas" / "benchmark").glob("*.json")
)


@pytest.mark.parametrize("name", ["job", *FAMILY_SCHEMAS])
def test_every_key_of_a_schema_is_described(name):
    bare = [
        key
        for key, value in known_keys(load_schema(name))
        if "description" not in value and not OBVIOUS.fullmatch(key)
    ]
    assert bare == []


def test_every_key_of_every_file_is_known(official):
    for path in FILES:
        document = yaml.safe_load(path.read_text())
        group, _, option = path.relative_to(CONF).with_suffix("").as_posix().partition("/")
        values = document if option == "" else {group: document}
        for name in ("defaults", "hydra", *SWEEP_KEYS):
            document.pop(name, None)
        merged = official | values
        unknown = [item for item in check(merged, {}) if "unknown key" in item.text]
        assert unknown == [], path


def test_objects_of_the_schemas_are_closed():
    for path in (CONF.parent / "schemas").rglob("*.json"):
        text = yaml.safe_load(path.read_text())
        for key, value in known_keys(text):
            if value.get("type") == "object" and key not in ("benchmark", "details"):
                inner = value.get("additionalProperties")
                assert inner is False or isinstance(inner, dict) or key.endswith(".set"), key


# ---------------------------------------------------------------- each key has an effect


def launches(spec):
    return [
        (launch.name, launch.argv, launch.ranks, launch.when, launch.measured, launch.undone_by)
        for launch in make_plan(spec, python="python3").launches
    ]


def limits(spec):
    return [
        (launch.time_limit_s, launch.start_limit_s, launch.silence_limit_s)
        for launch in make_plan(spec, python="python3").launches
    ]


def argv(spec):
    return make_plan(spec, python="python3", present=["HOME"]).launches[0].argv


def findings(spec):
    return [str(finding) for finding in judge_job(spec, {})]


def environment(spec):
    env = rank_environment(spec, "run", {"HOME": "/h", "OTHER": "o", "PATH": "/bin"})
    return {name: value for name, value in env.items() if name != "MLPS_JOB"}


def plan(spec):
    return make_plan(spec, python="python")


def delays(spec):
    return [launch.delay_before_s for launch in plan(spec).launches]


def least(spec):
    """Files of the least dataset of an official workload, by the edition of a job."""
    job = official_spec("training/unet3d_b200", {"edition": spec.document["edition"]})
    return training_jobs(job)[0].least_size(2**45).files


def client_memory(spec):
    """What is said of hosts with a TiB of memory for two accelerators, by the edition of a job."""
    job = official_spec("training/unet3d_b200", {"edition": spec.document["edition"]})
    return [str(finding) for finding in judge_client_memory(job, 2, 2**40)]


def checkpoint_findings(spec):
    """What is said of the form of an official workload, by the edition of a job."""
    changes = {"edition": spec.document["edition"], "cluster.ranks_per_host": 8}
    job = official_spec("checkpointing/llama3_8b", changes)
    return [str(finding) for finding in judge_form(job)]


def scales(spec):
    return vector_table(spec).scales


TABLE = {
    "status": "published",
    "source": "rules",
    "scales": [{"vectors": 5, "dimension": 7}],
    "recall_least": 0.5,
    "queries_least": 3,
    "runs": 4,
    "runtime_s_least": 2,
    "closed_backends": ["faiss"],
    "closed_indexes": ["FLAT"],
}
CLOSED = {"division.name": "closed", "division.any_workload": False}
OPEN = CLOSED | {"division.name": "open"}
FAR = {"cluster.hosts": ["node1", "node2"]}
MANY = {"cluster.hosts": ["node[0001-0900]"]}
# A launcher that has an argument for every setting.
NAMES = ("run_as_root", "oversubscribe", "interface", "binding", "pmi")
SETTING_PARTS = {
    **{key: [] for key in ("local", "hosts", "hostfile", "forward")},
    **{name: [f"--{name}={{{name}}}"] for name in NAMES},
}
PARTS = {
    "launcher.parts": SETTING_PARTS,
    "launcher.argv": [*(f"{{{name}}}" for name in NAMES), "{command}"],
}
FORM = {"warmup_runs": 1, "runs": 5, "memory_of_accelerator_bytes": 0}
TWO = [{"name": "a", "set": {}}, {"name": "b", "set": {}}]
STAGE = {"name": "run", "each": "trial"}

# key -> (what else is set, the changed value, where the effect shows)
EFFECTS = {
    "benchmark.name": ({}, "kvcache/other", lambda spec: spec.benchmark),
    "benchmark.family": ({}, "nosuch", lambda spec: [str(p) for p in check(spec.document, {})]),
    "benchmark.engine": ({}, "other_engine", argv),
    "benchmark.ranks_per_host": None,
    "benchmark.trials": None,
    "benchmark.cleanup": None,
    "benchmark.stages": ({}, [STAGE], launches),
    "benchmark.stages.name": ({}, [{**STAGE, "name": "other"}], launches),
    "benchmark.stages.each": ({"trials": 2}, [{**STAGE, "each": "job"}], launches),
    "benchmark.stages.measured": ({}, [{**STAGE, "measured": True}], launches),
    "benchmark.stages.when": ({}, [{**STAGE, "when": "always"}], launches),
    "benchmark.stages.if_any": (
        {"benchmark.trace": 0}, [{**STAGE, "if_any": "trace"}], launches
    ),
    "benchmark.stages.kept_with": (
        {"benchmark.stages": [{**STAGE, "undone_by": "run"}]},
        [{**STAGE, "undone_by": "run", "kept_with": "users"}],
        launches,
    ),
    "benchmark.stages.undone_by": ({}, [{**STAGE, "undone_by": "run"}], launches),
    "benchmark.stages.time_limit_s": ({}, [{**STAGE, "time_limit_s": 7}], limits),
    "benchmark.options": ({}, [{"name": "a", "set": {}}], launches),
    "benchmark.options.name": ({}, [{"name": "b", "set": {}}], launches),
    "benchmark.options.set": ({}, [{"name": "a", "set": {"users": 2}}], lambda s: s.env_value),
    "benchmark.option_delay_s": ({"benchmark.options": TWO}, 9, delays),
    "benchmark.time_limit_s": ({}, 11, limits),
    "benchmark.silence_limit_s": ({}, 11, limits),
    "benchmark.start_limit_s": ({}, 11, limits),
    "cluster.name": ({}, "other", lambda spec: spec.cluster.name),
    "cluster.hosts": ({}, ["node1", "node2"], argv),
    "cluster.hostfile": None,
    "cluster.allocation": None,
    "cluster.slots_per_host": ({"cluster.ranks_per_host": "slots"}, 3, argv),
    "cluster.ranks_per_host": ({}, 5, argv),
    "cluster.ranks": ({}, 6, argv),
    "cluster.python": ({}, "/x/python", argv),
    "launcher.name": ({}, "other", lambda spec: spec.launcher.name),
    "launcher.program": ({}, "other", argv),
    "launcher.beside": ({}, "x", lambda spec: spec.launcher.beside),
    "launcher.mpi": ({}, "openmpi", lambda spec: spec.launcher.mpi),
    "launcher.ranks": None,
    "launcher.reach": ({}, "none", lambda spec: spec.launcher.reach),
    "launcher.ssh": (FAR, "/x/ssh", argv),
    "launcher.run_as_root": (PARTS, True, argv),
    "launcher.oversubscribe": (PARTS, True, argv),
    "launcher.interface": (PARTS, "ib0", argv),
    "launcher.binding": (PARTS, "core", argv),
    "launcher.pmi": (PARTS, "pmi2", argv),
    "launcher.extra_args": ({}, ["-v"], argv),
    "launcher.forward_env": ({}, ["OTHER"], environment),
    "launcher.scheduler_env": ({}, ["OTH*"], environment),
    "launcher.needs_env": ({}, ["X"], lambda spec: spec.launcher.needs_env),
    "launcher.env": ({}, {"A": "b"}, environment),
    "launcher.argv": ({}, ["{command}"], argv),
    "launcher.parts": ({}, SETTING_PARTS | {"local": ["--here"]}, argv),
    "launcher.parts.local": ({}, ["--here"], argv),
    "launcher.parts.hosts": (FAR, ["--on", "{hosts}"], argv),
    "launcher.parts.hostfile": (MANY, ["--file", "{hostfile}"], argv),
    "launcher.parts.forward": ({"launcher.argv": ["{forward}"]}, ["-x", "{name}"], argv),
    "launcher.parts.run_as_root": (PARTS | {"launcher.run_as_root": True}, ["-r"], argv),
    "launcher.parts.oversubscribe": (PARTS | {"launcher.oversubscribe": True}, ["-o"], argv),
    "launcher.parts.interface": (PARTS | {"launcher.interface": "ib0"}, ["-x"], argv),
    "launcher.parts.binding": (PARTS | {"launcher.binding": "core"}, ["-x"], argv),
    "launcher.parts.pmi": (PARTS | {"launcher.pmi": "pmi2"}, ["-x"], argv),
    "launcher.host_format": (FAR, "{host}x{ranks}", argv),
    "launcher.hostfile_format": (MANY, "{host}x{ranks}", lambda spec: plan(spec).hostfile),
    "launcher.ipv6": None,
    "launcher.died_patterns": ({}, ["x"], lambda spec: spec.launcher.died_patterns),
    "launcher.install": ({}, {"pip": "x"}, lambda spec: spec.launcher.install),
    "preflight.skip": ({}, ["CAP-01"], lambda spec: spec.preflight),
    "preflight.ssh_limit_s": ({}, 9, lambda spec: spec.preflight),
    "preflight.launch_limit_s": ({}, 9, lambda spec: spec.preflight),
    "monitor.interval_s": ({}, 1, lambda spec: spec.monitor),
    "monitor.via": ({}, "launcher", lambda spec: spec.monitor),
    "monitor.python": ({}, "python3", lambda spec: spec.monitor),
    "division.name": ({"stages": ["run"]}, "open", findings),
    "division.may_change": None,
    "division.may_change_in": None,
    "division.any_workload": ({}, False, findings),
    "edition.name": (CLOSED, "v9", findings),
    "edition.workloads": (CLOSED, ["kvcache/quick"], findings),
    "edition.workloads_open": (OPEN, ["kvcache/quick"], findings),
    # Of stages that have run; tests/test_run.py has its effect.
    "edition.memory_times": None,
    "edition.training": ({}, FORM | {"steps_per_epoch": 4, "memory_times": 2}, least),
    "edition.training.steps_per_epoch": ({}, 40_000_000, least),
    "edition.training.memory_times": ({}, 50, least),
    # Of trees of other tools; tests/test_tree_rules.py has their effect.
    "edition.training.warmup_runs": None,
    "edition.training.runs": None,
    "edition.training.memory_of_accelerator_bytes": ({}, 2**40, client_memory),
    "edition.checkpointing": (
        {},
        {"checkpoints": 4, "ranks_per_host_over": 9, "gap_s_most": 1, "accelerator_memory_gb": {}},
        checkpoint_findings,
    ),
    "edition.checkpointing.accelerator_memory_gb": None,
    "edition.checkpointing.checkpoints": ({}, 4, checkpoint_findings),
    "edition.checkpointing.ranks_per_host_over": ({}, 9, checkpoint_findings),
    "edition.checkpointing.gap_s_most": ({}, 1, checkpoint_limits),
    "edition.vectordb": ({}, TABLE, vector_table),
    **{f"edition.vectordb.{name}": ({}, TABLE[name], vector_table) for name in TABLE},
    "edition.vectordb.scales.vectors": ({}, TABLE["scales"], scales),
    "edition.vectordb.scales.dimension": ({}, TABLE["scales"], scales),
    "system.name": ({}, "other", lambda spec: spec.document["system"]),
    # Read when the job is composed; tests/test_system_source.py has its effect.
    "system.file": None,
    "system.description": (
        CLOSED, {"system_under_test": {}}, lambda spec: [*judge_described(spec)]
    ),
    "data_dir": ({}, "/other", lambda spec: spec.data_dir),
    "results_dir": ({}, "/other", lambda spec: spec.results_dir),
    "seed": ({}, 7, lambda spec: spec.env_value),
    "trials": ({}, 3, launches),
    "stages": ({}, ["run"], launches),
    "lockfile": ({}, "/my.lock", lambda spec: spec.lockfile),
}  # fmt: skip

# The key of a list's items is changed by changing the list.
SETS = re.compile(r"(benchmark\.(?:stages|options)|edition\.vectordb\.scales)\..*")


def test_every_key_of_a_job_is_in_the_table_of_effects():
    assert set(EFFECTS) == set(JOB_KEYS) - set(GROUPS) - {"preflight", "monitor"}


@pytest.mark.parametrize("key", [key for key, effect in EFFECTS.items() if effect])
def test_each_key_has_an_effect(make_document, key):
    around, value, shown = EFFECTS[key]
    match = SETS.fullmatch(key)
    target = match[1] if match else key
    if match:
        bare = {"benchmark.stages": [STAGE], "benchmark.options": [{"name": "a", "set": {}}]}
        bare["edition.vectordb.scales"] = [{"vectors": 1, "dimension": 1}]
        around = {target: bare[target]} | around
    before = build(make_document(around), {})
    after = build(make_document({**around, target: value}), {})
    assert shown(before) != shown(after)
    assert before.sha256 != after.sha256


def test_keys_whose_effect_is_on_another_key():
    words = ["benchmark.ranks_per_host=7", "benchmark.trials=8", "benchmark.cleanup=never"]
    found = compose(["benchmark=kvcache/quick", *words], conf_dirs=(), cwd=Path("/")).values
    assert prepare(["benchmark=kvcache/quick", *words]).spec.cluster.ranks == 7
    assert found["trials"] == 8
    assert found["benchmark"]["stages"][-1]["when"] == "never"
    for when in ("success", "never"):
        words = [f"benchmark.roofline.when={when}"]
        found = compose(["benchmark=kvcache/quick", *words], conf_dirs=(), cwd=Path("/")).values
        stages = {stage["name"]: stage.get("when") for stage in found["benchmark"]["stages"]}
        assert stages["roofline_before"] == stages["roofline_after"] == when


def test_may_change_decides_what_counts(make_spec):
    job = prepare(["benchmark=kvcache/quick", "seed=7"])
    cases = (("seed", ["JOB-01"]), ("s*", ["JOB-01"]), ("x", ["JOB-01", "JOB-02"]))
    for pattern, rules in cases:
        spec = make_spec({**CLOSED, "seed": 7, "division.may_change": [pattern]})
        origins = {"seed": job.composition.origins["seed"]}
        assert [finding.rule for finding in judge_job(spec, origins)] == rules


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("kvcache", ["JOB-01"]),
        ("kvcache/quick", ["JOB-01"]),
        ("training", ["JOB-01", "JOB-02"]),
        ("kvcache/other", ["JOB-01", "JOB-02"]),
    ],
)
def test_may_change_in_counts_for_a_family_or_a_workload(make_spec, name, rules):
    origins = {"seed": prepare(["benchmark=kvcache/quick", "seed=7"]).composition.origins["seed"]}
    lists = {"division.may_change": [], "division.may_change_in": {name: ["seed"]}}
    spec = make_spec({**CLOSED, "seed": 7, **lists})
    assert [finding.rule for finding in judge_job(spec, origins)] == rules

"""From overrides to plain data, and where each value comes from."""

from __future__ import annotations

import pytest

from mlps.engine.compose import compose, flatten, parse_overrides, sweep_form
from mlps.engine.errors import ConfigError
from mlps.engine.jobs import prepare
from mlps.engine.options import find_options

QUICK = "benchmark=kvcache/quick"


def refused(function, *arguments, **keywords):
    with pytest.raises(ConfigError) as caught:
        function(*arguments, **keywords)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.fixture
def mine(tmp_path):
    """A user's directory with some options of his own."""
    for name, text in {
        "cluster/mylab.yaml": "# Mine\nname: mylab\nhosts: [lab1]\nslots_per_host: 4\n"
        "ranks_per_host: 2\nranks: null\npython: null\n",
        "cluster/local.yaml": "name: shadow\n",
        "benchmark/broken.yaml": "a: [1\n",
        "system/unset.yaml": "name: ???\ndescription: ???\n",
        "system/lost.yaml": "name: ${nowhere}\ndescription: null\n",
        "system/latin.yaml": "name: x\ndescription: \xe9\n",
    }.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
    return tmp_path / "mine"


# ---------------------------------------------------------------- values and origins


def test_values_are_plain_and_resolved(tmp_path):
    values = compose([QUICK], conf_dirs=(), cwd=tmp_path).values
    assert values["benchmark"]["name"] == "kvcache/quick"
    assert values["trials"] == values["benchmark"]["trials"] == 1
    assert "hydra" not in values
    assert {type(value) for value in flatten(values).values()} <= {
        str, int, float, bool, list, dict, type(None),
    }  # fmt: skip


def test_interpolations_follow_overrides(tmp_path):
    values = compose(
        [QUICK, "benchmark.trials=5", "benchmark.cleanup=never"],
        conf_dirs=(),
        cwd=tmp_path,
    ).values
    assert values["trials"] == 5
    assert values["benchmark"]["stages"][-1] == {
        "name": "cleanup",
        "each": "option",
        "when": "never",
    }


def test_every_value_has_an_origin(mine, tmp_path):
    result = compose(
        [QUICK, "cluster=mylab", "benchmark.users=8", "++benchmark.queue_depth=2"],
        conf_dirs=[mine],
        cwd=tmp_path,
    )
    assert set(result.origins) == set(flatten(result.values))
    shown = {
        key: (origin.kind, origin.where, origin.default) for key, origin in result.origins.items()
    }
    assert shown["seed"] == ("packaged", "conf/config.yaml", None)
    assert shown["benchmark.trials"] == ("packaged", "conf/benchmark/kvcache/quick.yaml", None)
    assert shown["cluster.hosts"] == ("user", f"{mine}/cluster/mylab.yaml", None)
    assert shown["benchmark.users"] == ("override", "command line: benchmark.users=8", 4)
    assert shown["benchmark.queue_depth"] == (
        "override",
        "command line: benchmark.queue_depth=2",
        4,
    )


def test_an_override_of_a_mapping_is_the_origin_of_all_below(tmp_path):
    result = compose([QUICK, "benchmark.io={direct:false}"], conf_dirs=(), cwd=tmp_path)
    origin = result.origins["benchmark.io.direct"]
    assert (origin.kind, origin.default) == ("override", True)


def test_the_chosen_files_are_named_with_their_digest(mine, tmp_path):
    choices = compose([QUICK, "cluster=mylab"], conf_dirs=[mine], cwd=tmp_path).choices
    assert list(choices) == ["benchmark", "cluster", "launcher", "division", "edition", "system"]
    assert (choices["benchmark"]["option"], choices["benchmark"]["packaged"]) == (
        "kvcache/quick",
        True,
    )
    assert (choices["cluster"]["option"], choices["cluster"]["packaged"]) == ("mylab", False)
    assert all(len(choice["sha256"]) == 64 for choice in choices.values())


def test_paths_become_absolute_here(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    values = compose(
        [QUICK, "data_dir=a/b", "results_dir='~/r'"], conf_dirs=(), cwd=tmp_path
    ).values
    assert values["data_dir"] == str(tmp_path / "a/b")
    assert values["results_dir"] == "/home/me/r"


def test_overrides_are_kept_as_typed(tmp_path):
    words = (QUICK, "benchmark.users=8", "cluster.hosts=[a,b]", 'system.name="a, b=c"')
    assert compose(words, conf_dirs=(), cwd=tmp_path).overrides == words


def test_values_of_the_command_line(tmp_path):
    typed = {
        "yes": "yes",
        "'a b'": "a b",
        '"a=b,c"': "a=b,c",
        "null": None,
        "010": "010",
        "true": True,
        "1e3": 1000.0,
        "$HOME": "$HOME",
    }
    names = [f"v{number}" for number in range(len(typed))]
    words = [f"launcher.env.{name}={text}" for name, text in zip(names, typed, strict=True)]
    variables = compose([QUICK, *words], conf_dirs=(), cwd=tmp_path).values["launcher"]["env"]
    found = [variables[name] for name in names]
    assert found == list(typed.values())
    assert [type(value) for value in found] == [type(value) for value in typed.values()]


def test_a_packaged_option_is_never_shadowed(mine, tmp_path):
    result = compose([QUICK, "cluster=local"], conf_dirs=[mine], cwd=tmp_path)
    assert result.values["cluster"]["name"] == "local"
    assert result.choices["cluster"]["packaged"] is True
    assert result.notes == (
        f"{mine}/cluster/local.yaml has no effect: mlps has a packaged option of that name, which "
        "a user's file cannot replace; rename it",
    )


def test_compositions_do_not_leak_into_each_other(mine, tmp_path):
    compose([QUICK, "cluster=mylab"], conf_dirs=[mine], cwd=tmp_path)
    text = refused(compose, [QUICK, "cluster=mylab"], conf_dirs=(), cwd=tmp_path)
    assert text.startswith("cluster=mylab: no such option; there are: ")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param(
            [], "no benchmark chosen; there are: {benchmarks}\n"
            "  hint: mlps benchmark=kvcache/quick cluster=local", id="nothing chosen",
        ),
        pytest.param(
            ["benchmark=kvcache/quik"],
            "benchmark=kvcache/quik: no such option; there are: {benchmarks}\n"
            "  hint: benchmark=kvcache/quick",
            id="nearly an option",
        ),
        pytest.param(
            ["benchmark=zzz"],
            "benchmark=zzz: no such option; there are: {benchmarks}\n"
            "  hint: mlps --help lists them with what they are for",
            id="no option",
        ),
        pytest.param(
            [QUICK, "benchmark.users=[1"],
            "override 'benchmark.users=[1' cannot be read: no viable alternative at input '[1'\n"
            "  hint: the form is key=value; quote a value with special characters: 'key=\"a,b\"'",
            id="grammar",
        ),
        pytest.param(
            [QUICK, "data_dir=~/x"],
            "override 'data_dir=~/x' cannot be read: LexerNoViableAltException: data_dir=~/x\n"
            "  hint: the form is key=value; quote a value with special characters: 'key=\"a,b\"'",
            id="special character",
        ),
        pytest.param(
            [QUICK, "seed=1", "seed=2"],
            "seed (command line): set twice: seed=1 and seed=2\n  hint: keep one",
            id="twice",
        ),
        pytest.param(
            [QUICK, "cluster=2node", "cluster=4node"],
            "cluster (command line): set twice: cluster=2node and cluster=4node\n  hint: keep one",
            id="option twice",
        ),
        pytest.param(
            [QUICK, "seed=1,2"],
            "seed (command line): seed=1,2 has several values, but this is not a sweep\n"
            "  hint: mlps -m seed=1,2 runs one job per value; a list is written seed=[a,b]",
            id="sweep",
        ),
    ],
)  # fmt: skip
def test_refused(tmp_path, words, text):
    benchmarks = ", ".join(option.name for option in find_options("benchmark", ()))
    expected = text.replace("{benchmarks}", benchmarks)
    assert refused(compose, words, conf_dirs=(), cwd=tmp_path) == expected


@pytest.mark.parametrize("word", ["benchmark=1", "system=null", "launcher=true", "cluster=2.5"])
def test_an_option_that_is_no_name(tmp_path, word):
    group = word.partition("=")[0]
    words = [word] if group == "benchmark" else [QUICK, word]
    assert refused(compose, words, conf_dirs=(), cwd=tmp_path) == (
        f"{group} (command line: {word}): expected the name of an option, got a number, a truth "
        "value or null\n  hint: mlps --help lists them with what they are for"
    )


@pytest.mark.parametrize("word", ["system=null,a", "launcher=range(1,3)", "benchmark=1,2"])
def test_a_sweep_over_what_is_no_name(word):
    with pytest.raises(ConfigError, match="expected the name of an option"):
        parse_overrides([word], multirun=True)


@pytest.mark.parametrize("word", ["system='1'", "benchmark=a,b", "+system=a", "~system"])
def test_names_of_options_are_left_to_hydra(word):
    assert len(parse_overrides([word], multirun=True)) == 1


def test_a_file_that_is_not_yaml_is_named_with_its_line(mine, tmp_path):
    text = refused(compose, ["benchmark=broken"], conf_dirs=[mine], cwd=tmp_path)
    assert text.startswith(f"{mine}/benchmark/broken.yaml, line 2, column 1: ")


def test_a_file_that_is_not_text_is_an_error_not_a_bug(mine, tmp_path):
    text = refused(compose, [QUICK, "system=latin"], conf_dirs=[mine], cwd=tmp_path)
    assert text.startswith("a configuration file is not UTF-8: ")


def test_missing_values_are_all_reported(mine, tmp_path):
    problems = compose([QUICK, "system=unset"], conf_dirs=[mine], cwd=tmp_path).problems
    assert [str(problem) for problem in problems] == [
        f"system.name ({mine}/system/unset.yaml): a value is required\n"
        "     hint: system.name=VALUE",
        f"system.description ({mine}/system/unset.yaml): a value is required\n"
        "     hint: system.description=VALUE",
    ]


def test_an_interpolation_to_nowhere_is_a_problem(mine, tmp_path):
    (problem,) = compose([QUICK, "system=lost"], conf_dirs=[mine], cwd=tmp_path).problems
    assert problem.key == "system.name"
    assert "Interpolation key 'nowhere' not found" in problem.text


def test_a_job_reports_problems_of_all_kinds_together(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = refused(prepare, [QUICK, "system=unset", "seed=x", "benchmark.user=4"], [mine])
    assert text.splitlines()[0] == "4 problems in the configuration, nothing was started:"
    assert "seed (command line: seed=x): expected an integer >= 0" in text
    assert "benchmark.user (command line: benchmark.user=4): unknown key" in text
    assert text.count("system.name") == 2  # the problem and its hint, not once more as a type


# ---------------------------------------------------------------- parts


def test_flatten():
    assert flatten({"a": {"b": {"c": 1}, "d": []}, "e": {}, "f": None}) == {
        "a.b.c": 1, "a.d": [], "e": {}, "f": None,
    }  # fmt: skip


def test_a_sweep_may_have_several_values():
    parsed = parse_overrides(["seed=1,2"], multirun=True)
    assert [item.is_sweep_override() for item in parsed] == [True]


def test_keys_are_forced_so_that_the_schema_judges_them_and_groups_are_not():
    assert sweep_form([QUICK, "seed=1,2", "++trials=2", "~system", "hydra.job.num=1"]) == [
        QUICK, "++seed=1,2", "++trials=2", "~system", "hydra.job.num=1",
    ]  # fmt: skip


def test_a_size_can_be_a_product_of_other_values(tmp_path):
    product = 'seed="${mlps.mul:${benchmark.users},${benchmark.trials},3}"'
    words = ["benchmark=kvcache/quick", "benchmark.users=5", product]
    assert compose(words, conf_dirs=(), cwd=tmp_path).values["seed"] == 15

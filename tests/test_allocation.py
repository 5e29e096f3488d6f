"""Hosts from hostfiles and from the allocations of schedulers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engine.allocation import allocated_hosts, parse_hostfile, split_nodelist
from mlps.engine.errors import ConfigError
from mlps.engine.jobs import prepare

QUICK = "benchmark=kvcache/quick"


# ---------------------------------------------------------------- hostfiles


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        pytest.param("node1\nnode2\n", ["node[1-2]"], id="names"),
        pytest.param("node1:4\nnode2:4\nnode3:2", ["node[1-2]:4", "node3:2"], id="slots"),
        pytest.param("node1 slots=4\nnode2 slots=4 max_slots=8\n", ["node[1-2]:4"], id="open mpi"),
        pytest.param("# all\n\nnode1 # the first\n", ["node1"], id="comments"),
        pytest.param("node[1-3]:2\n", ["node[1-3]:2"], id="a range"),
        pytest.param("b\nb\na\n", ["b:2", "a"], id="a line for each slot"),
        pytest.param("[2001:db8::1]:2\n2001:db8::2\n", ["[2001:db8::1]:2", "2001:db8::2"], id="v6"),
        pytest.param("a slots=2\na slots=3\n", ["a:5"], id="slots add up"),
    ],
)
def test_hostfile(text, hosts):
    assert parse_hostfile(text, "hosts") == hosts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb slot=4\n", "hosts, line 2: 'slot=4' is not understood; the form is: node1 slots=4"),
        ("a slots=0\n", "hosts, line 1: 'slots=0' is not understood; the form is: node1 slots=4"),
        ("a:x\n", "hosts, line 1: 'a:x': ':x' is no number of slots; the form is node1:4"),
        ("n[2-1]\n", "hosts, line 1: 'n[2-1]': the range '2-1' runs backwards"),
        ("# nobody\n", "hosts names no host"),
        ("", "hosts names no host"),
    ],
)
def test_hostfile_refused(text, message):
    with pytest.raises(ValueError) as caught:
        parse_hostfile(text, "hosts")
    assert str(caught.value) == message


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_any_text_is_hosts_or_an_error_that_names_the_file(text):
    try:
        assert parse_hostfile(text, "the-file")
    except ValueError as error:
        assert str(error).startswith("the-file")


# ---------------------------------------------------------------- schedulers


@pytest.mark.parametrize(
    ("nodes", "tasks", "hosts"),
    [
        ("node[1-2]", "2(x2)", ["node[1-2]:2"]),
        ("node[1-3],login7", "2(x3),1", ["node[1-3]:2", "login7:1"]),
        ("a1,b[01-02,04]", "1,2,3(x2)", ["a1:1", "b01:2", "b02:3", "b04:3"]),
        ("node1", None, ["node1"]),
    ],
)
def test_slurm(nodes, tasks, hosts):
    environ = {"SLURM_JOB_NODELIST": nodes}
    environ |= {} if tasks is None else {"SLURM_TASKS_PER_NODE": tasks}
    assert allocated_hosts("slurm", environ) == hosts


def test_within_a_step_of_slurm_the_slots_are_the_cpus():
    environ = {
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_TASKS_PER_NODE": "1(x2)",
        "SLURM_JOB_CPUS_PER_NODE": "8(x2)",
    }
    assert allocated_hosts("slurm", environ) == ["node[1-2]:1"]
    assert allocated_hosts("slurm", environ | {"SLURM_STEP_ID": "0"}) == ["node[1-2]:8"]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "1"}, "speaks of 1 hosts"),
        ({"SLURM_JOB_NODELIST": "n1", "SLURM_TASKS_PER_NODE": "2(3)"}, "not understood at '2(3)'"),
        ({"SLURM_JOB_NODELIST": "n[1"}, "is no host"),
    ],
)
def test_slurm_refused(environ, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        allocated_hosts("slurm", environ)


def test_lists_of_slurm_are_split_outside_of_brackets():
    assert split_nodelist("a[1,3-4],b,c[01-02]d") == ["a[1,3-4]", "b", "c[01-02]d"]


def test_pbs(tmp_path):
    (tmp_path / "nodes").write_text("x1\nx1\nx2\nx2\n")
    assert allocated_hosts("pbs", {"PBS_NODEFILE": str(tmp_path / "nodes")}) == ["x[1-2]:2"]


@pytest.mark.parametrize(
    ("scheduler", "text", "hint"),
    [
        ("slurm", "SLURM_JOB_NODELIST is not set", "salloc "),
        ("pbs", "PBS_NODEFILE is not", "qsub "),
    ],
)
def test_outside_of_an_allocation(scheduler, text, hint, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_NODELIST", raising=False)
    monkeypatch.delenv("PBS_NODEFILE", raising=False)
    with pytest.raises(ConfigError) as caught:
        prepare([QUICK, f"cluster={scheduler}"])
    (problem,) = caught.value.problems
    assert problem.key == "cluster.allocation"
    assert text in problem.text
    assert hint in problem.hint


# ---------------------------------------------------------------- in a job


def test_a_job_lists_the_hosts_that_were_found(tmp_path, monkeypatch):
    (tmp_path / "hosts").write_text("node1:4\nnode2:4\n")
    monkeypatch.chdir(tmp_path)
    job = prepare([QUICK, "cluster.hostfile=hosts"])
    assert job.spec.document["cluster"]["hosts"] == ["node[1-2]:4"]
    assert job.spec.document["cluster"]["hostfile"] == str(tmp_path / "hosts")
    origin = job.composition.origins["cluster.hosts"]
    assert (origin.kind, origin.where) == ("found", f"hostfile {tmp_path / 'hosts'}")
    assert job.spec.cluster.names == ("node1", "node2")


def test_a_job_in_an_allocation(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[7-8]")
    monkeypatch.setenv("SLURM_TASKS_PER_NODE", "3(x2)")
    job = prepare([QUICK, "cluster=slurm", "cluster.ranks_per_host=slots", "launcher=srun"])
    assert job.spec.cluster.ranks == 6
    assert "--nodelist=node7,node8" in job.plan.launches[0].argv


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["cluster.hosts=[a]", "cluster.hostfile=hosts"], "cluster.hosts lists some as well"),
        (["cluster=slurm", "cluster.hosts=[a]"], "cluster.hosts lists some as well"),
        (["cluster=slurm", "cluster.hostfile=hosts"], "not from both"),
        (["cluster.hostfile=nowhere"], "nowhere cannot be read: No such file or directory"),
    ],
)
def test_hosts_come_from_one_place(words, text, tmp_path, monkeypatch):
    (tmp_path / "hosts").write_text("a\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=text):
        prepare([QUICK, *words])


def test_a_list_of_ones_own_cluster_gives_way_to_a_hostfile_that_is_typed(tmp_path, monkeypatch):
    (tmp_path / "conf/cluster").mkdir(parents=True)
    lab = "name: lab\nhosts: [a, b]\nslots_per_host: 2\n"
    lab += "ranks_per_host: 1\nranks: null\npython: null\n"
    (tmp_path / "conf/cluster/lab.yaml").write_text(lab)
    (tmp_path / "conf/cluster/both.yaml").write_text(f"{lab}hostfile: hosts\n")
    (tmp_path / "hosts").write_text("c\n")
    monkeypatch.chdir(tmp_path)
    job = prepare([QUICK, "cluster=lab", "cluster.hostfile=hosts"])
    assert job.spec.cluster.names == ("c",)
    with pytest.raises(ConfigError, match="leave one of the two out"):
        prepare([QUICK, "cluster=both"])

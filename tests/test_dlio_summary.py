"""What every summary.json of DLIO holds."""

from __future__ import annotations

import pytest
from facts_of_hosts import facts_of

from mlps.engine.dlio_summary import Data, checkpoint_metric, summary_of
from mlps.engine.host_documents import HostFacts

GIB = 2**30
NO_HOSTS = HostFacts(facts={}, clock_offset_s={}, without_facts={})


def hosts_of(**memory_gib):
    facts = {
        name: facts_of(name, memory__total_bytes=size * GIB) for name, size in memory_gib.items()
    }
    return HostFacts(facts=facts, clock_offset_s=dict.fromkeys(facts, 0.0), without_facts={})


def test_a_run_of_several_stages_goes_from_the_first_to_the_last(make_result):
    first, last = make_result(), make_result()
    last["window"] |= {"start_unix_s": 1.8e9 + 60, "elapsed_s": 5.0}
    document = summary_of([first, last], {"x": 1}, NO_HOSTS, data=Data(), epochs=3)
    assert document["start"] == "2027-01-15T08:00:00.000000"
    assert document["end"] == "2027-01-15T08:01:05.000000"
    assert (document["metric"], document["epochs"]) == ({"x": 1}, 3)
    assert (document["num_accelerators"], document["num_hosts"]) == (2, 1)


@pytest.mark.parametrize(("size_gib", "caching"), [(1.0, [0, 1]), (0.5, [1, 1]), (2.0, [0, 0])])
def test_a_host_with_more_memory_than_data_may_cache(make_result, size_gib, caching):
    data = Data(files=(4, 2), samples_per_file=3, size_per_host_gib=size_gib)
    hosts = hosts_of(a=1, b=2)
    document = summary_of([make_result()], {}, hosts, data=data, epochs=0)
    assert document["potential_caching"] == caching
    assert document["host_memory_GB"] == [1, 2]
    assert (document["num_files_train"], document["num_files_eval"]) == (4, 2)
    assert (document["num_samples_per_file"], document["data_size_per_host_GB"]) == (3, size_gib)


def test_hosts_that_told_nothing_are_missing(make_result):
    document = summary_of([make_result()], {}, NO_HOSTS, data=Data(), epochs=0)
    assert (document["host_cpu_count"], document["host_processor_name"]) == ([], "")


def test_metrics_of_checkpoints_are_means_and_deviations_of_a_population():
    assert checkpoint_metric("load", [(2 * GIB, 1.0), (2 * GIB, 2.0)]) == {
        "load_checkpoint_io_mean_GB_per_second": 1.5,
        "load_checkpoint_io_stdev_GB_per_second": 0.5,
        "load_checkpoint_duration_mean_seconds": 1.5,
        "load_checkpoint_duration_stdev_seconds": 0.5,
        "checkpoint_size_GB": 2.0,
    }
    assert checkpoint_metric("save", []) == {}

"""The least size of a training dataset, against figures of the rules and by their formula."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.edition import size_rule
from mlps.engine.sizing import Demand, dataset_size, epoch_of, memory_of
from mlps.engines.training_native.sharding import Deal

GIB = 2**30

UNET3D = {"batch": 7, "samples_per_file": 1, "record_bytes": 146_600_628}
RETINANET_B200 = {"batch": 24, "samples_per_file": 1, "record_bytes": 322_957}
RETINANET_MI355 = {"batch": 32, "samples_per_file": 1, "record_bytes": 322_957}
FLUX = {"batch": 48, "samples_per_file": 288, "record_bytes": 2_164_832}
DLRM = {"batch": 16_384, "samples_per_file": 4_718_592, "record_bytes": 761}
RESNET50 = {"batch": 400, "samples_per_file": 1251, "record_bytes": Fraction("114660.07")}


def size(model, accelerators, memory_gib):
    given = {**model, "record_bytes": Fraction(model["record_bytes"])}
    demand = {"accelerators": accelerators, "memory_bytes": memory_gib * GIB, **given}
    return dataset_size(Demand(rule=size_rule(), **demand))


@pytest.mark.parametrize(
    ("model", "accelerators", "memory_gib", "memory_files", "steps_files"),
    [
        (UNET3D, 8, 2 * 512, 37_501, 28_000),
        (UNET3D, 64, 4 * 256, 37_501, 224_000),
        (RETINANET_B200, 8, 1024, 17_022_570, 96_000),
        (RETINANET_MI355, 16, 2 * 64, 2_127_822, 256_000),
        (FLUX, 8, 512, 4_409, 667),
        (DLRM, 8, 512, 766, 14),
        (RESNET50, 8, 0, 0, 1_279),
    ],
)
def test_known_figures(model, accelerators, memory_gib, memory_files, steps_files):
    found = size(model, accelerators, memory_gib)
    assert (found.memory_files, found.steps_files) == (memory_files, steps_files)
    assert found.files == max(memory_files, steps_files)


@pytest.mark.parametrize(
    ("accelerators", "memory_gib", "gib"), [(8, 2 * 512, 5_120.1), (64, 4 * 256, 30_583.3)]
)
def test_known_sizes(accelerators, memory_gib, gib):
    assert round(size(UNET3D, accelerators, memory_gib).gib, 1) == gib


demands = st.builds(
    Demand,
    accelerators=st.integers(1, 4096),
    batch=st.integers(1, 20_000),
    samples_per_file=st.integers(1, 5_000_000),
    record_bytes=st.fractions(1, 2 * 10**8, max_denominator=100),
    memory_bytes=st.integers(0, 2**52),
    rule=st.just(size_rule()),
)


@given(demands)
def test_it_is_enough_and_no_file_less_would_be(demand):
    found = dataset_size(demand)
    steps = found.samples // (demand.accelerators * demand.batch)
    assert steps >= 500
    assert found.samples * demand.record_bytes >= 5 * demand.memory_bytes
    less = (found.files - 1) * demand.samples_per_file
    assert (
        less < 500 * demand.accelerators * demand.batch
        or less * demand.record_bytes < 5 * demand.memory_bytes
    )


def test_the_arithmetic_is_told():
    assert size(UNET3D, 8, 1024).arithmetic() == (
        "steps: 500 x 8 accelerators x batch 7 / 1 samples a file = 28,000 files; "
        "memory: 5 x 1,024.00 GiB / 146,600,628 bytes a file = 37,501 files; "
        "at least 37,501 files, 5,120.1 GiB"
    )


@pytest.mark.parametrize(
    ("declared", "hosts", "measured", "memory"),
    [
        (512.0, 2, 900 * GIB, 1024 * GIB),
        (256.0, 2, 900 * GIB, 900 * GIB),
        (None, 2, 900 * GIB, 900 * GIB),
        (0.5, 3, None, 3 * GIB // 2),
    ],
)
def test_the_larger_of_declared_and_measured_memory_counts(declared, hosts, measured, memory):
    assert memory_of(declared, hosts, measured) == memory


def test_unknown_memory_is_no_zero():
    with pytest.raises(ValueError, match="neither declared nor known"):
        memory_of(None, 2, None)


@given(
    files=st.integers(0, 10_000),
    samples_per_file=st.integers(1, 3_000),
    ranks=st.integers(1, 4096),
    batch=st.integers(1, 5_000),
)
def test_an_epoch_is_what_the_engine_deals(files, samples_per_file, ranks, batch):
    deal = Deal(
        files=files, samples_per_file=samples_per_file, ranks=ranks, batch=batch, seed=1,
        shuffle_files=True, shuffle_samples=True,
    )  # fmt: skip
    epoch = epoch_of(files=files, samples_per_file=samples_per_file, ranks=ranks, batch=batch)
    assert (epoch.steps, epoch.dropped_samples) == (deal.steps, deal.dropped_samples)

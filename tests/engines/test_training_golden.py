"""What the shipped models of training come to, and what each rank of them reads.

The figures are in tests/golden/training.json: this file as a program, with tests in PYTHONPATH,
writes them from the packaged configuration. They are checked against the published formulas.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from functools import cache, lru_cache
from math import ceil, floor, isqrt, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from training_models import GIB, MODELS

from mlps.engine.compose import compose
from mlps.engine.edition import size_rule
from mlps.engine.options import find_options
from mlps.engine.sizing import Demand, dataset_size
from mlps.engines.section import Section
from mlps.engines.training_native.dataset import dataset_of
from mlps.engines.training_native.formats import planned_files
from mlps.engines.training_native.workload import training_of

TABLE = Path(__file__).parent.parent / "golden" / "training.json"
RANKS = (1, 8, 64, 1024)
EPOCHS = (1, 2)


class Model(NamedTuple):
    """A row of the table of MLPerf Storage's workloads."""

    format: str
    files: int
    samples_per_file: int
    record_bytes: str
    stdev_bytes: int
    batch: int
    threads: int
    computation_s: str
    epochs: int
    au_pct: int


UNET3D = ("npz", 7200, 1, "146600628", 68341808, 7, 4)
FEW = ("npz", 168, *UNET3D[2:])
RETINANET = ("jpeg", 1170301, 1, "322957", 0)
DLRM = ("parquet", 1024, 4718592, "761", 0, 16384, 4)
FLUX = ("parquet", 4296, 288, "2164832", 0)
COSMOFLOW = ("tfrecord", 524288, 1, "2828486", 71311, 1, 4)
RESNET50 = ("tfrecord", 1024, 1251, "114660.07", 0, 400, 8)
PUBLISHED = {
    "unet3d_b200": Model(*UNET3D, "0.162", 5, 90),
    "unet3d_h100": Model(*FEW, "0.323", 5, 90),
    "unet3d_a100": Model(*FEW, "0.636", 5, 90),
    "retinanet_b200": Model(*RETINANET, 24, 8, "0.04755", 8, 85),
    "retinanet_mi355": Model(*RETINANET, 32, 8, "0.0634", 8, 85),
    "dlrm_b200": Model(*DLRM, "0.000375", 1, 70),
    "dlrm_mi355": Model(*DLRM, "0.0005625", 1, 70),
    "flux_b200": Model(*FLUX, 48, 8, "1.35", 1, 90),
    "flux_mi355": Model(*FLUX, 72, 8, "2.025", 1, 90),
    "cosmoflow_a100": Model(*COSMOFLOW, "0.00551", 5, 70),
    "cosmoflow_h100": Model(*COSMOFLOW, "0.0035", 5, 70),
    "resnet50_a100": Model(*RESNET50, "0.435", 5, 90),
    "resnet50_h100": Model(*RESNET50, "0.224", 5, 90),
}

# GiB of the dataset as listed, GB/s that an accelerator takes, and files for 500 steps of one.
DEMANDS = {
    "unet3d_b200": (983, "6.33", 3500),
    "unet3d_h100": (23, "3.18", 3500),
    "unet3d_a100": (23, "1.61", 3500),
    "retinanet_b200": (352, "0.163", 12000),
    "retinanet_mi355": (352, "0.163", 16000),
    "dlrm_b200": (3424, "33.2", 2),
    "dlrm_mi355": (3424, "22.2", 2),
    "flux_b200": (2494, "0.077", 84),
    "flux_mi355": (2494, "0.077", 125),
    "cosmoflow_a100": (1381, "0.51", 500),
    "cosmoflow_h100": (1381, "0.81", 500),
    "resnet50_a100": (137, "0.105", 160),
    "resnet50_h100": (137, "0.205", 160),
}


@cache
def job(name):
    """The composed job of a shipped model."""
    return compose([f"benchmark=training/{name}"], conf_dirs=(), cwd=Path("/")).values


@cache
def data_of(name):
    return dataset_of(Section(job(name)["benchmark"]).section("dataset"))


def unit_of(name):
    """Samples of a row group; 1 for files without."""
    data = data_of(name)
    rows = min(data.row_group_rows, data.samples_per_file)
    return rows if data.format == "parquet" else 1


def deal_of(name, ranks, unit=1):
    """How the engine deals; with a unit, how it would if row groups were not shared."""
    training = training_of(job(name)["benchmark"])
    return replace(training.deal(ranks, job(name)["seed"]), unit_samples=unit)


def named_ranks(ranks):
    """The first, the second and the last."""
    return sorted({0, min(1, ranks - 1), ranks - 1})


def list_sha256(deal, rank, epoch):
    """SHA-256 of what a rank reads: numbers of files, first samples, and how many of each."""
    shard = deal.shard(rank, order_of(deal, epoch))
    columns = (shard.files, shard.first_samples, shard.samples)
    return hashlib.sha256(
        b"".join(column.astype("<i4").tobytes() for column in columns)
    ).hexdigest()


def dealt(deal):
    """A row of the table."""
    lists = {
        f"rank {rank} epoch {epoch}": list_sha256(deal, rank, epoch)
        for rank in named_ranks(deal.ranks)
        for epoch in EPOCHS
    }
    return {"steps": deal.steps, "dropped_samples": deal.dropped_samples, "lists": lists}


def order_of(deal, epoch):
    """The order of all files, which hangs on neither ranks nor samples; made once."""
    return _order(replace(deal, ranks=1, batch=1, samples_per_file=1, unit_samples=1), epoch)


@lru_cache(maxsize=4)
def _order(deal, epoch):
    return deal.order(epoch)


def figures(name):
    """All that the table has of a model."""
    data, unit = data_of(name), unit_of(name)
    found = {
        "files": data.files,
        "samples_per_file": data.samples_per_file,
        "nominal_bytes": data.nominal_bytes,
        "planned_bytes": planned_files(data).total_bytes,
        "ranks": {str(ranks): dealt(deal_of(name, ranks)) for ranks in RANKS},
    }
    if unit > 1:
        whole = {str(ranks): dealt(deal_of(name, ranks, unit)) for ranks in RANKS}
        found |= {"row_group_samples": unit, "ranks_with_whole_row_groups": whole}
    return found


@cache
def golden():
    return json.loads(TABLE.read_text(encoding="utf-8"))


def rows(name):
    """(ranks, samples dealt together, row) of a model."""
    found = golden()[name]
    for ranks in RANKS:
        yield ranks, 1, found["ranks"][str(ranks)]
        if "row_group_samples" in found:
            unit = found["row_group_samples"]
            yield ranks, unit, found["ranks_with_whole_row_groups"][str(ranks)]


# ---------------------------------------------------------------- the configuration


def test_every_shipped_model_is_in_the_tables():
    shipped = [option.name for option in find_options("benchmark", ())]
    models = {name.removeprefix("training/") for name in shipped if name.startswith("training/")}
    assert models - {"quick"} == set(PUBLISHED) == set(DEMANDS) == set(golden())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_configuration_says_what_was_published(name):
    benchmark = job(name)["benchmark"]
    data, reader, train = (benchmark[key] for key in ("dataset", "reader", "train"))
    assert Model(
        data["format"],
        data["train"]["files"],
        data["samples_per_file"],
        str(data["record_bytes"]),
        data["record_bytes_stdev"],
        reader["batch"],
        reader["threads"],
        f"{train['computation_s']:.7f}".rstrip("0"),
        train["epochs"],
        benchmark["au_least_pct"],
    ) == PUBLISHED[name]  # fmt: skip
    assert (data["eval"]["files"], train["steps_max"], benchmark["evaluation"]) == (0, None, None)
    assert (reader["prefetch_batches"], reader["shuffle_files"], reader["reseed"]) == (
        2,
        True,
        True,
    )
    assert reader["shuffle_samples"] == name.startswith(("unet3d", "retinanet"))
    assert (reader["projection"], data["jpeg_encoding"]) == ("all", "raw")
    assert (benchmark["trials"], benchmark["checkpoint"]) == (5, None)


@pytest.mark.parametrize("name", PUBLISHED)
def test_accelerators_share_the_dataset_of_their_model(name):
    model = name.rpartition("_")[0]
    assert job(name)["benchmark"]["dataset"]["directory"] == model
    of_tests = MODELS[model]
    files = PUBLISHED[name].files
    assert data_of(name) == replace(of_tests, train=replace(of_tests.train, files=files))


def test_columns_of_dlrm_that_are_used():
    columns = data_of("dlrm_b200").columns
    used = [column for column in columns if column.read]
    assert (len(columns), sum(column.row_bytes for column in columns)) == (200, 761)
    assert (len(used), sum(column.row_bytes for column in used)) == (40, 160)
    counts = {kind: sum(column.dtype == kind for column in used) for kind in ("float32", "float64")}
    assert counts == {"float32": 27, "float64": 5}


# ---------------------------------------------------------------- the table and the formulas


@pytest.mark.parametrize("name", PUBLISHED)
def test_nothing_has_changed(name):
    assert figures(name) == golden()[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_steps_and_what_is_dropped_follow_the_formula(name):
    model = PUBLISHED[name]
    for ranks, unit, row in rows(name):
        samples = model.files * model.samples_per_file
        if unit == 1:
            steps = floor(Fraction(samples, model.batch * ranks))
        else:
            of_each = model.files * (model.samples_per_file // unit) // ranks
            steps = floor(Fraction(of_each * unit, model.batch))
        assert row["steps"] == steps
        assert row["dropped_samples"] == samples - steps * model.batch * ranks


@pytest.mark.parametrize("name", PUBLISHED)
def test_nominal_bytes_are_those_of_the_records(name):
    model, found = PUBLISHED[name], golden()[name]
    record_bytes = Fraction(model.record_bytes)
    assert found["nominal_bytes"] == ceil(model.files * model.samples_per_file * record_bytes)
    gib, gb_s, files = DEMANDS[name]
    assert round(found["nominal_bytes"] / GIB) == gib
    rate = model.batch * record_bytes / Fraction(model.computation_s) / 10**9
    assert f"{float(rate):.{len(gb_s.partition('.')[2])}f}" == gb_s
    size = dataset_size(
        Demand(
            accelerators=1,
            batch=model.batch,
            samples_per_file=model.samples_per_file,
            record_bytes=record_bytes,
            memory_bytes=0,
            rule=size_rule(),
        )
    )
    assert size.files == files == ceil(Fraction(500 * model.batch, model.samples_per_file))


def container_bytes(model):
    """(least, most) bytes that a file has beside its samples."""
    if model.format == "tfrecord":
        # 16 of the frame, and a message with two features.
        return 16 * model.samples_per_file, 96 * model.samples_per_file
    return {"npz": (300, 700), "jpeg": (0, 0)}[model.format]


@pytest.mark.parametrize(
    "name", [name for name in PUBLISHED if PUBLISHED[name].format != "parquet"]
)
def test_planned_bytes_follow_from_the_draws(name):
    """A sample is a square of the mean side, or what two draws around it make on average."""
    model, found = PUBLISHED[name], golden()[name]
    record_bytes = float(model.record_bytes)
    side = isqrt(int(record_bytes))
    stdev = model.stdev_bytes / (2 * sqrt(record_bytes))
    # Draws are cut to whole numbers, so their mean is half a byte less.
    mean = side - (0.5 if stdev else 0)
    of_a_file = mean**2 * model.samples_per_file
    # Of a product of two independent draws; 5 standard errors of the mean of all files.
    spread = 5 * sqrt(2 * (mean * stdev) ** 2 + stdev**4) / sqrt(model.files)
    least, most = container_bytes(model)
    planned = found["planned_bytes"] / model.files
    assert of_a_file - spread + least <= planned <= of_a_file + spread + most


@pytest.mark.parametrize("name", ["dlrm_b200", "flux_b200"])
def test_parquet_takes_what_its_columns_do(name):
    found = golden()[name]
    assert found["planned_bytes"] == pytest.approx(found["nominal_bytes"], rel=0.01)
    assert found["planned_bytes"] > found["nominal_bytes"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_ranks_read_their_own_part_of_the_epochs_order(name):
    """Rank r begins r parts into the samples of all files in the order of the epoch."""
    model = PUBLISHED[name]
    for ranks, unit, row in rows(name):
        deal = deal_of(name, ranks, unit)
        part = ceil(Fraction(row["steps"] * model.batch, unit)) * unit
        for epoch in EPOCHS:
            order = order_of(deal, epoch)
            assert np.array_equal(np.sort(order), np.arange(model.files))
            for rank in named_ranks(ranks):
                shard = deal.shard(rank, order)
                file, first_sample = divmod(rank * part, model.samples_per_file)
                assert shard.total_samples == row["steps"] * model.batch
                if row["steps"] == 0:
                    assert len(shard.files) == 0
                    continue
                assert np.array_equal(shard.files, order[file : file + len(shard.files)])
                assert shard.first_samples[0] == first_sample
                assert not shard.first_samples[1:].any()
                assert deal.sample_order(rank, epoch) is None


def test_every_rank_and_epoch_has_a_list_of_its_own():
    for name in PUBLISHED:
        for _, _, row in rows(name):
            lists = len(row["lists"]) if row["steps"] else 1
            assert len(set(row["lists"].values())) == lists


def test_few_files_are_too_few_for_many_ranks():
    """168 files are what upstream lists: a user takes what the sizing says."""
    assert [golden()["unet3d_h100"]["ranks"][str(ranks)]["steps"] for ranks in RANKS] == [
        24,
        3,
        0,
        0,
    ]


# ---------------------------------------------------------------- what planning costs

PLANNING = """
import json, sys, time
import numpy
from mlps.engines.result import peak_rss_bytes
from mlps.engines.section import Section
from mlps.engines.training_native.dataset import dataset_of
from mlps.engines.training_native.formats import planned_files
from mlps.engines.training_native.sharding import Deal

benchmark = json.load(sys.stdin)
began = time.perf_counter()
data = dataset_of(Section(benchmark).section("dataset"))
planned = planned_files(data)
deal = Deal(
    files=data.train.files, samples_per_file=data.samples_per_file, ranks=1024,
    batch=benchmark["reader"]["batch"], seed=42, shuffle_files=True, shuffle_samples=True,
)
shard = deal.shard(1023, deal.order(1))
order = deal.sample_order(1023, 1)
paths = [data.path(number) for number in shard.files.tolist()]
took_s = time.perf_counter() - began
print(json.dumps([len(paths), planned.total_bytes, took_s, peak_rss_bytes()]))
"""


@pytest.mark.parametrize("name", ["retinanet_b200", "cosmoflow_h100", "dlrm_b200"])
def test_a_rank_of_1024_is_planned_at_once_in_little_memory(name):
    benchmark = json.dumps(job(name)["benchmark"])
    command = [sys.executable, "-P", "-c", PLANNING]
    run = subprocess.run(command, input=benchmark, capture_output=True, text=True, check=True)
    paths, total_bytes, took_s, peak_bytes = json.loads(run.stdout)
    found = golden()[name]
    row = found["ranks"]["1024"]
    assert paths == ceil(row["steps"] * PUBLISHED[name].batch / found["samples_per_file"])
    assert total_bytes == found["planned_bytes"]
    assert took_s < 5
    assert peak_bytes < 300 * 2**20


def main():
    """Write the table anew."""
    text = json.dumps({name: figures(name) for name in PUBLISHED}, indent=1)
    TABLE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

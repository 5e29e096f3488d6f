"""Datasets of the models of MLPerf Storage, and small ones of every format, for tests."""

from __future__ import annotations

from mlps.engines.training_native.content import Content
from mlps.engines.training_native.dataset import Column, Dataset, Split
from mlps.engines.training_native.formats import pieces, planned_files
from mlps.engines.training_native.formats.checksum import Tally

GIB = 2**30

# The 200 features of dlrm: h float16, f float32, d float64, b int8; capitals are read.
DLRM = (
    "hhddfhfbhb fFdfbhfFFh DdddhFfhhf dFdfhhdbbb hFhFdbdddF fbbFffbfHF dhdbfhbFHf hFhfFDhbfd"
    " bbffhbhbFb FFHFDdFHbh hdhfdhhfdf ddbhhbBDfb hhbbbhbbfb hfdhhdhFdd hFbbdfdFdd bbbdDFfbFh"
    " FhFhdhdhfB dhbdbbbbhh BdddhdBbhF dbdfdFfddh"
).replace(" ", "")
DTYPES = {"h": "float16", "f": "float32", "d": "float64", "b": "int8"}
FLUX = {"t5_encodings": 524328, "clip_encodings": 409, "mean": 8232, "logvar": 8232, "timestamp": 7}
DLRM_COLUMNS = tuple(
    Column(name=f"feature_{number:03d}", dtype=DTYPES[letter.lower()], read=letter.isupper())
    for number, letter in enumerate(DLRM)
)
FLUX_COLUMNS = tuple(Column(name=name, dtype="float32", size=size) for name, size in FLUX.items())


def dataset(format, *, files=3, eval_files=0, samples_per_file=1, record_bytes=10000, **more):
    """A dataset with what is said, and defaults."""
    return Dataset(
        format=format,
        train=Split(name="train", files=files, subfolders=more.pop("subfolders", 1)),
        eval=Split(name="eval", files=eval_files),
        samples_per_file=samples_per_file,
        record_bytes=record_bytes,
        **more,
    )


MODELS = {
    "unet3d": dataset("npz", files=7200, record_bytes=146600628, record_bytes_stdev=68341808),
    "retinanet": dataset("jpeg", files=1170301, record_bytes=322957),
    "dlrm": dataset(
        "parquet", files=1024, samples_per_file=4718592, record_bytes=761, columns=DLRM_COLUMNS,
        row_group_rows=6144,
    ),
    "flux": dataset(
        "parquet", files=4296, samples_per_file=288, record_bytes=2164832, columns=FLUX_COLUMNS
    ),
    "cosmoflow": dataset(
        "tfrecord", files=524288, record_bytes=2828486, record_bytes_stdev=71311
    ),
    "resnet50": dataset(
        "tfrecord", files=1024, samples_per_file=1251, record_bytes=114660.07
    ),
}  # fmt: skip


def written(data, directory, number=0):
    """Writes a file of a dataset; gives its path, its plan, and what was counted."""
    file = planned_files(data).file(number)
    path = directory / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    tally = Tally()
    with path.open("wb") as out:
        for piece in pieces(data, file, Content(data.seed), tally):
            out.write(piece)
    return path, file, tally

"""Parameters of backends: defaults, wrong values and unknown keys."""

import pytest

from mlps.engines.errors import JobError
from mlps.engines.vectordb.backend import Key, settings

KEYS = {
    "nlist": Key(types=(int,), default=None, least=1),
    "nprobe": Key(types=(int,), default=8, least=1),
    "alpha": Key(types=(float,), default=1.2, least=0),
    "io": Key(types=(str,), default="auto", choices=("auto", "direct")),
    "dsn": Key(types=(str,), default=None),
    "either": Key(types=(int, str), default=0, least=0, choices=("all",)),
}


def test_defaults_stand_where_nothing_is_given():
    assert settings({"nprobe": 32}, KEYS, "search") == {
        "nlist": None, "nprobe": 32, "alpha": 1.2, "io": "auto", "dsn": None, "either": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"nprob": 8}, "search.nprob: no such parameter; did you mean nprobe?"),
        ({"zzz": 8}, "search.zzz: no such parameter; there are alpha, dsn, either, io, nlist"),
        ({"nprobe": "8"}, "search.nprobe must be of type int, got '8'"),
        ({"nprobe": 1.5}, "search.nprobe must be of type int, got 1.5"),
        ({"nprobe": True}, "search.nprobe must be of type int, got True"),
        ({"nprobe": 0}, "search.nprobe must be at least 1, got 0"),
        ({"alpha": float("nan")}, "search.alpha must be at least 0, got nan"),
        ({"io": "mmap"}, "search.io must be one of auto, direct, got 'mmap'"),
        ({"either": 1.5}, "search.either must be of type int or str, got 1.5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_parameter_is_an_error_by_name(given, text):
    with pytest.raises(JobError) as raised:
        settings(given, KEYS, "search")
    assert text in str(raised.value)


def test_a_whole_number_does_for_a_number():
    assert settings({"alpha": 2}, KEYS, "build")["alpha"] == 2


def test_without_keys_nothing_is_taken():
    with pytest.raises(JobError, match=r"build\.m: no such parameter; there are none"):
        settings({"m": 1}, {}, "build")

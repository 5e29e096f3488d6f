"""The header of numpy's files, as numpy writes and reads it."""

from __future__ import annotations

import io
import math
import tokenize
from typing import IO

import numpy as np

# Of any array with up to three dimensions that fits into a file.
HEADER_BYTES = 128


def header(shape: tuple[int, ...], dtype: str) -> bytes:
    """What stands before the bytes of an array."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], int]:
    """The shape of an array and the bytes that follow its header; raises ValueError."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    elif version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    else:
        raise ValueError(f"version {version} of numpy's header")
    try:
        shape, _, dtype = read(file)
    except (SyntaxError, TypeError, tokenize.TokenError) as error:
        # A header is a literal of Python, which numpy has Python read.
        raise ValueError(f"its header is damaged: {error}") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return tuple(shape), math.prod(shape) * dtype.itemsize


def samples_of(shape: tuple[int, ...]) -> int:
    """The samples in an array: its last dimension, unless it is a single picture."""
    return shape[-1] if len(shape) > 2 else 1

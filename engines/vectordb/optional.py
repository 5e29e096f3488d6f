"""Libraries that only some files need: imported on use, or the error says what to install."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from ..errors import EngineError

# Objects of such libraries: what is imported on use has no types for a checker.
Foreign = Any


def library(name: str, purpose: str) -> ModuleType:
    """A module of an optional library; raises EngineError naming the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EngineError(
            f"{purpose} needs {name.partition('.')[0]}, which cannot be imported ({error}):"
            " pip install 'mlps[vectordb]'"
        ) from error

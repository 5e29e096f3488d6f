"""Packages that only some jobs need: imported on use, or the error says what to install."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from .errors import EngineError

# The extras that bring them.
TRAINING = "training"
VECTORDB = "vectordb"

# Objects of such packages: what is imported on use has no types for a checker.
Foreign = Any


def library(name: str, purpose: str, extra: str) -> ModuleType:
    """A module of an optional package; raises EngineError naming the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EngineError(
            f"{purpose} needs {name.partition('.')[0]}, which cannot be imported ({error}):"
            f" pip install 'mlps[{extra}]'"
        ) from error


def version_of(distribution: str) -> str:
    """The version of a package, without importing it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"

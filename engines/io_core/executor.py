"""What any executor of operations offers, and what it needs to know beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from .account import Account
from .control import Control
from .files import OpenFiles
from .operations import Stream

Verify = Literal["all", "sampled", "none"]
Durability = Literal["none", "fdatasync", "dsync"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How operations are carried out.

    `shards` is how many operations are in flight at most and `largest_bytes` bounds each of them.
    `key` is the run's part of every stamp, `pool_seed` makes what is written around the stamps.
    With `dsync` the files must have been opened for it.
    """

    shards: int
    key: int
    pool_seed: int
    largest_bytes: int
    verify: Verify
    durability: Durability


class Executor(Protocol):
    """Carries out operations. Its name stands in the result."""

    name: str

    def execute(self, streams: Sequence[Stream], control: Control, account: Account) -> None:
        """Works off as many streams as there are shards until all end or `control` ends them.

        Returns when nothing is in flight any more. Raises EngineError at the first failure of any
        shard; the account holds what was done until then.
        """


def executor_for(files: OpenFiles, settings: Settings) -> Executor:
    """The best executor that works here."""
    from .threads import ThreadExecutor

    return ThreadExecutor(files, settings)

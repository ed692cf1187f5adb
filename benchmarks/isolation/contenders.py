"""Runs the contenders: Sickbay, and Dramatiq if it is installed. One is started anew for every row."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.isolation import dramatiq_system, sickbay_system
from benchmarks.isolation.clients import BY_HAND, SICKBAY
from benchmarks.isolation.drive import Run
from benchmarks.isolation.rows import Row
from benchmarks.isolation.system import Setting, System
from benchmarks.isolation.trace import Trace


@dataclass(frozen=True, slots=True)
class Form:
    """How Sickbay runs, and on how many workers whoever has workers."""

    stack: Literal["embedded", "distributed"] = "embedded"
    workers: int = 1
    timeout_s: float = 5.0
    settings: Mapping[str, str] = field(default_factory=dict)


async def play(name: str, form: Form, row: Row) -> Trace:
    """One row of one contender."""
    async with started(name, form) as (setting, system):
        return await Run(name, row, setting, system).play()


@asynccontextmanager
async def started(name: str, form: Form) -> AsyncIterator[tuple[Setting, System]]:
    """A running system in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="sickbay-isolation-") as folder:
        setting = Setting(Path(folder), form.timeout_s, form.settings)
        starting: AbstractAsyncContextManager[System]
        if name != SICKBAY:
            starting = dramatiq_system.dramatiq(setting, form.workers, by_hand=name == BY_HAND)
        elif form.stack == "embedded":
            starting = sickbay_system.embedded(setting)
        else:
            starting = sickbay_system.distributed(setting, form.workers)
        async with starting as system:
            yield setting, system

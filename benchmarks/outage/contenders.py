"""Who runs: Sickbay, and whatever of the others is installed. A contender is started anew, with a dependency of its own, for every run."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from benchmarks.outage import sickbay_system
from benchmarks.outage.dramatiq_jobs import BREAKERS
from benchmarks.outage.dramatiq_system import dramatiq
from benchmarks.outage.drive import Run
from benchmarks.outage.processes import dependency
from benchmarks.outage.scenarios import Scenario, Times
from benchmarks.outage.system import Setting, System
from benchmarks.outage.trace import Trace

Stack = Literal["embedded", "distributed"]
SICKBAY: Final = "sickbay"
PLAIN: Final = "dramatiq"


@dataclass(frozen=True, slots=True)
class Form:
    """How Sickbay runs, and on how many workers whoever has workers."""

    stack: Stack
    workers: int


def known() -> list[str]:
    """The names of all contenders."""
    return [SICKBAY, PLAIN, *(f"{PLAIN}+{library}" for library in BREAKERS)]


def usual() -> list[str]:
    """Those that run if nothing else is asked for: with a breaker only the first one that is installed."""
    here = [name for name in known() if installed(name)]
    return here[:3]


def installed(name: str) -> bool:
    """Whether it can run here."""
    return name == SICKBAY or all(find_spec(part) is not None for part in name.split("+"))


async def play(name: str, form: Form, scenario: Scenario, times: Times, seed: int) -> Trace:
    """One run of one contender."""
    trace = Trace(name)
    with tempfile.TemporaryDirectory(prefix="sickbay-outage-") as folder:
        async with dependency(scenario.capacity, seed) as (port, control):
            setting = Setting(scenario, times, port, Path(folder))
            async with _started(name, form, setting) as system:
                await Run(setting, system, control, trace).play()
    return trace


@asynccontextmanager
async def _started(name: str, form: Form, setting: Setting) -> AsyncIterator[System]:
    started: AbstractAsyncContextManager[System]
    if name != SICKBAY:
        started = dramatiq(setting, name.partition("+")[2], form.workers)
    elif form.stack == "embedded":
        started = sickbay_system.embedded(setting)
    else:
        started = sickbay_system.distributed(setting, form.workers)
    async with started as system:
        yield system

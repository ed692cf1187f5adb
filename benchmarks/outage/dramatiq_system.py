"""Dramatiq on RabbitMQ, in a virtual host of its own: plain retries, or with an in-process breaker library in its actors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.outage.corner import own_vhost
from benchmarks.outage.dramatiq_jobs import KINDS, actors, broker
from benchmarks.outage.processes import child
from benchmarks.outage.system import Look, Setting
from benchmarks.outage.trace import StateSeen

_READY: Final = re.compile("ready")


class Dramatiq:
    """Its client; everything of it happens in one thread, to which its connection belongs."""

    def __init__(self, url: str, states: Path) -> None:
        """Nothing is connected yet."""
        self.states: list[StateSeen] = []
        self._told = states
        self._thread = ThreadPoolExecutor(1)
        self._broker: Any = broker(url)
        self._actors: Mapping[str, Any] = actors(self._broker, 1.0, _elsewhere)

    async def submit(self, kind: str, numbers: Sequence[int], *, tenants: bool = False) -> list[str]:
        """One message for each job; it knows no tenants."""
        ids: list[str] = await self._do(lambda: [str(self._actors[kind].send(kind, number).message_id) for number in numbers])
        return ids

    async def reset(self, kind: str) -> None:
        """There is nothing to reset from outside."""

    async def look(self) -> Look:
        """How many jobs were given up, and what the workers' circuits said since."""
        lines = self._told.read_text("ascii").splitlines() if self._told.exists() else []
        for line in lines[len(self.states) :]:
            at, kind, state = line.split()
            self.states.append(StateSeen(float(at), kind, state, at))
        dead = await self._do(lambda: sum(self._broker.get_queue_message_counts(kind)[2] for kind in KINDS))
        return Look(None, dead, None)

    async def known(self) -> None:
        """It has no ledger."""

    async def close(self) -> None:
        """Close the connection."""
        await self._do(self._broker.close)
        self._thread.shutdown()

    async def _do(self, step: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, step)


def _elsewhere(kind: str, number: int) -> None:
    """The worker has the real one."""


@asynccontextmanager
async def dramatiq(setting: Setting, breaker: str, workers: int) -> AsyncIterator[Dramatiq]:
    """So many worker processes, each with circuits of its own if there is a breaker."""
    states = setting.folder / "states"
    env = setting.env | {"OUTAGE_STATES": str(states)}
    words = [f"--breaker={breaker}", f"--cooldown={setting.times.cooldown_s}", f"--retry={setting.times.retry_s}"]
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(own_vhost())
        for number in range(workers):
            command = ["benchmarks.outage.dramatiq_worker", url, *words]
            worker = await stack.enter_async_context(child(command, setting.folder, env, f"dramatiq-{number}"))
            await worker.said(_READY)
        system = Dramatiq(url, states)
        stack.push_async_callback(system.close)
        yield system

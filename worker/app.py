"""Puts a worker together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from sickbay.backends import WorkerParts
from sickbay.events import EventStream
from sickbay.rpc.doors import Address, Doors, open_doors
from sickbay.sdk import HandlerSpec
from sickbay.settings import Settings
from sickbay.version import VERSION
from worker.engine import Engine
from worker.rest import create_gateway
from worker.runner import Runner

DEMO: Final = "worker.demo"
"""The handlers that run when JOB_HANDLERS names none."""


class Worker:
    """A working worker."""

    def __init__(self, engine: Engine, runner: Runner, doors: Doors) -> None:
        """The engine is running."""
        self._engine = engine
        self._runner = runner
        self.doors = doors

    async def drain(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no more jobs, let running ones finish for `grace_s` seconds, give the rest back."""
        await self.doors.not_serving()
        await self._engine.drain(grace_s)

    @property
    def is_stuck(self) -> bool:
        """Whether a sync handler still holds a thread that nobody can stop."""
        return self._runner.overdue > 0


@asynccontextmanager
async def serve(backends: WorkerParts, settings: Settings, handlers: Mapping[str, HandlerSpec], address: Address) -> AsyncIterator[Worker]:
    """Work until the context ends; call `drain` before, or running jobs are broken off and given back."""
    runner = Runner(backends.breakers, timeout_s=settings.handler_timeout, threads=settings.concurrency)
    async with EventStream(backends.broker) as events:
        engine = Engine(
            broker=backends.broker,
            breakers=backends.breakers,
            fence=backends.fence,
            events=events,
            runner=runner,
            handlers=handlers,
            policy=settings.retry_policy,
            concurrency=settings.concurrency,
            clock=backends.clock,
            name=settings.worker_name,
        )
        async with open_doors([], lambda _, health: create_gateway(health, VERSION), address) as doors:
            working = asyncio.create_task(engine.run(), name="engine")
            try:
                yield Worker(engine, runner, doors)
            finally:
                with contextlib.suppress(asyncio.CancelledError):
                    await engine.drain(0)
                await working
                runner.close()

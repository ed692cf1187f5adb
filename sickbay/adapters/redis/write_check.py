"""Tests regularly whether Redis accepts writes, for the health check: a healthy system writes hardly anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import SystemRandom
from typing import Final

from sickbay.adapters.redis.feed import cancel_and_wait
from sickbay.domain.errors import Unavailable

TRY_S: Final = 10.0
TRY_AGAIN_S: Final = 2.0
"""While it fails; calls to a Redis that does not answer are paused for up to 30 s anyway."""


class WriteCheck:
    """A task that calls `write` every 10 s, and every 2 s while `fails` is true; `write` keeps its result itself."""

    def __init__(self, name: str, write: Callable[[], Awaitable[object]], fails: Callable[[], bool]) -> None:
        """`write` may raise Unavailable; `name` is that of the task."""
        self._name = name
        self._write = write
        self._fails = fails
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start with a first write."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Stop; stopping twice is harmless."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                await self._write()
            await asyncio.sleep((TRY_AGAIN_S if self._fails() else TRY_S) * SystemRandom().uniform(0.8, 1.2))

"""Turns for reading large bodies: reading a piece of many at once would block the event loop for everybody else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from sickbay.server.http.limits import READERS_A_TURN


class ReadTurns:
    """One per port. A piece of a body is at most 256 KB, and a few are read before other work gets a turn."""

    def __init__(self) -> None:
        """Start empty."""
        self._waiting: deque[Callable[[], None]] = deque()

    def wait(self, read_on: Callable[[], None]) -> None:
        """Call `read_on` in its turn."""
        self._waiting.append(read_on)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        ready = [self._waiting.popleft() for _ in range(min(READERS_A_TURN, len(self._waiting)))]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        for read_on in ready:
            read_on()

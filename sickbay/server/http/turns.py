"""Large bodies take turns: many that arrive at once would keep everybody else waiting while the loop takes in a piece of each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from sickbay.server.http.limits import READERS_A_TURN


class Turns:
    """One per port. A piece of a body is 256 KB at most, and a few are read before others have their turn."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: deque[Callable[[], None]] = deque()

    def wait(self, read_on: Callable[[], None]) -> None:
        """Call `read_on` when it is its turn."""
        self._waiting.append(read_on)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        ready = [self._waiting.popleft() for _ in range(min(READERS_A_TURN, len(self._waiting)))]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        for read_on in ready:
            read_on()

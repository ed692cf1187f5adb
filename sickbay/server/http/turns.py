"""Turns for work that can wait: done for all connections at once, it would block the event loop for everybody else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

from sickbay.server.http.limits import CROWDED_READ_RATE, PARSE_RESTS, READ_RATE, READERS_A_TURN

_TICK_S: Final = 0.001
"""The finest timer of the event loop; shorter rests are saved up."""


class Turns:
    """A queue of steps, taken a few at a time. The event loop does other work in between, and for the time of a rest nothing else of it."""

    def __init__(self, steps: int = 1, *, rests: float = 0.0) -> None:
        """`steps` at a time, and then a rest of `rests` times as long as they took."""
        self._steps, self._rests = steps, rests
        self._waiting: deque[Callable[[], object]] = deque()
        self._free_at = 0.0
        self._is_next_due = False

    def wait(self, step: Callable[[], object]) -> None:
        """Call `step` in its turn."""
        self._waiting.append(step)
        if not self._is_next_due:
            self._is_next_due = True
            asyncio.get_running_loop().call_soon(self._next)

    @property
    def waiting(self) -> int:
        """How many steps wait for their turn."""
        return len(self._waiting)

    def owe(self, seconds: float) -> None:
        """Make the next rest longer; time that passes without a step counts as rest, too."""
        self._free_at = max(self._free_at, perf_counter()) + seconds

    def _next(self) -> None:
        began = perf_counter()
        for _ in range(min(self._steps, len(self._waiting))):
            self._waiting.popleft()()
        now = perf_counter()
        self._free_at = max(self._free_at, began) + (1 + self._rests) * (now - began) if self._rests else self._free_at
        loop, rest_s = asyncio.get_running_loop(), self._free_at - now
        if rest_s >= _TICK_S:
            loop.call_later(rest_s, self._next)
        elif self._waiting:
            loop.call_soon(self._next)
        else:
            self._is_next_due = False


@dataclass(frozen=True, slots=True)
class PortTurns:
    """Those of one port."""

    reading: Turns = field(default_factory=partial(Turns, READERS_A_TURN))
    """Reading on, for large bodies; a piece is at most 256 KB."""
    parsing: Turns = field(default_factory=partial(Turns, rests=PARSE_RESTS))
    """Parsing what is left of received data."""
    discarding: Turns = field(default_factory=Turns)
    """Reading what is discarded."""
    giving_up: Turns = field(default_factory=Turns)
    """Telling the application that a client whose body it was reading is gone; it frees what it has of it."""

    def owe_for_reading(self, size: int) -> None:
        """So many bytes of a large body were read: the next ones are read when it is their time."""
        self.reading.owe(size / max(CROWDED_READ_RATE, READ_RATE / (1 + self.reading.waiting)))

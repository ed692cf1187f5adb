"""Pauses between tries: each twice as long as the last, up to a bound, and spread by chance so that processes do not move in step."""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom
from typing import Final

_MAX_DOUBLINGS: Final = 30


def spread() -> float:
    """The factor by which a pause is longer or shorter: a fifth at most."""
    return SystemRandom().uniform(0.8, 1.2)


def grown(first: float, longest: float, times: int) -> float:
    """The pause after `times` earlier ones, before it is spread; never longer than `longest`. Any unit."""
    return min(longest, first * 2.0 ** min(times, _MAX_DOUBLINGS))


class Pauses:
    """The pauses of one loop, in seconds."""

    def __init__(self, first_s: float, longest_s: float, spread: Callable[[], float] = spread) -> None:
        """`spread` draws the factor of each pause."""
        self._first_s = first_s
        self._longest_s = longest_s
        self._spread = spread
        self._times = 0

    def next_s(self) -> float:
        """How long to wait now: another try has failed."""
        pause_s = grown(self._first_s, self._longest_s, self._times) * self._spread()
        self._times += 1
        return pause_s

    def reset(self) -> None:
        """A try went well: the next pause is a first one."""
        self._times = 0

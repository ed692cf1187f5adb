"""Exponential back-off with jitter: each delay is twice the last, up to a maximum, and random so that processes do not retry in step."""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom
from typing import Final

_MAX_DOUBLINGS: Final = 30


def jitter() -> float:
    """A random factor for a delay, 0.8 to 1.2."""
    return SystemRandom().uniform(0.8, 1.2)


def backoff_delay(first: float, longest: float, times: int) -> float:
    """The delay after `times` earlier ones, without jitter; never longer than `longest`. Any unit."""
    return min(longest, first * 2.0 ** min(times, _MAX_DOUBLINGS))


class Backoff:
    """The delays of one retry loop, in seconds."""

    def __init__(self, first_s: float, longest_s: float, jitter: Callable[[], float] = jitter) -> None:
        """`jitter` draws the factor of each delay."""
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self._times = 0

    def next_s(self) -> float:
        """How long to wait after another failed attempt."""
        pause_s = backoff_delay(self._first_s, self._longest_s, self._times) * self._jitter()
        self._times += 1
        return pause_s

    def reset(self) -> None:
        """An attempt succeeded: the next delay is a first one."""
        self._times = 0

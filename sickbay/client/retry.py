"""When a failed call is made again: pure, with the time of a monotonic clock as an argument.

What is safe is decided by each call (`calls.py`). A delay is drawn between 0 and a bound that doubles from 0.1 s to 5 s (full jitter), and
added to what the service's RetryInfo asks for. A call is never made again if that would be after its deadline.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import grpc

from sickbay.contract.faults import Fault
from sickbay.domain.errors import ErrorReason

LIMITS: Final = frozenset(
    {
        ErrorReason.SUBMISSION_RATE_EXCEEDED,
        ErrorReason.TOO_MANY_QUEUED,
        ErrorReason.TOO_MANY_NAMES,
        ErrorReason.TOO_MANY_CALLS,
    }
)
"""These jobs were certainly not accepted, so submitting them again makes no second one."""
FIRST_S: Final = 0.1
MOST_S: Final = 5.0
LEAST_PAUSE_S: Final = 0.05
"""The least pause before something is submitted that a limit has rejected."""


def draw(most: float) -> float:
    """A random part of so many seconds."""
    return random.uniform(0.0, most)  # noqa: S311 - spreads clients out, protects nothing


def is_limit(fault: Fault) -> bool:
    """Whether waiting for room helps."""
    return fault.reason in LIMITS


def is_passing(fault: Fault) -> bool:
    """Whether the same request may succeed soon, if it is safe to send it again. Limits are another matter.

    An open circuit is not: who asked for a rejection wants to know it.
    """
    if fault.reason == ErrorReason.CIRCUIT_OPEN:
        return False
    return fault.code is grpc.StatusCode.UNAVAILABLE or fault.reason == ErrorReason.REQUEST_IN_PROGRESS


@dataclass(slots=True)
class Retries:
    """The retries of one call that began at `begun` and ends after `timeout` seconds at the latest; None: never.

    `room_s` is how long it may wait for limits in addition to the timeout; `math.inf` waits for them within the timeout alone, 0 not at
    all. `is_safe`: it may be made again after a failure that leaves open whether it took effect.
    """

    begun: float
    timeout: float | None
    is_safe: bool
    room_s: float = 0.0
    jitter: Callable[[float], float] = draw
    _failures: int = field(default=0, init=False)
    _waited_s: float = field(default=0.0, init=False)
    """For limits, beyond the timeout."""

    def left(self, now: float) -> float | None:
        """The seconds until the deadline, at least 0; None if there is none."""
        return None if self.timeout is None else max(0.0, self.begun + self.timeout + self._waited_s - now)

    def succeeded(self) -> None:
        """The next failure is the first of a new row, as for a watch that has received something."""
        self._failures = 0

    def delay(self, fault: Fault, now: float) -> float | None:
        """The seconds to wait before the call is made again; None: raise the fault."""
        if is_limit(fault) and self.room_s:
            return self._for_room(fault, now)
        if not (self.is_safe and is_passing(fault)):
            return None
        bound = min(MOST_S, FIRST_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return self._within(now, (fault.retry_after or 0.0) + self.jitter(bound))

    def _for_room(self, fault: Fault, now: float) -> float | None:
        pause = max(fault.retry_after or 0.0, LEAST_PAUSE_S)
        if self.room_s == float("inf"):
            return self._within(now, pause)
        if self._waited_s + pause > self.room_s:
            return None
        self._waited_s += pause
        return pause

    def _within(self, now: float, pause: float) -> float | None:
        left = self.left(now)
        return pause if left is None or pause < left else None


def room(wait_for_limits: bool | float) -> float:  # noqa: FBT001 - the option of a call
    """`wait_for_limits` in seconds: True is without a bound of its own. ValueError if it is negative."""
    if isinstance(wait_for_limits, bool):
        return float("inf") if wait_for_limits else 0.0
    if not wait_for_limits >= 0:
        msg = f"wait_for_limits must be True, False or seconds, not {wait_for_limits!r}"
        raise ValueError(msg)
    return float(wait_for_limits)

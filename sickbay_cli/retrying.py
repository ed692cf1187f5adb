"""Waiting for room: what a limit has rejected is submitted again when its answer says, for as long as the user wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

from sickbay.contract.faults import Fault
from sickbay.domain.errors import ErrorReason
from sickbay_cli.output import remark

LIMITS: Final = frozenset(
    {
        ErrorReason.SUBMISSION_RATE_EXCEEDED,
        ErrorReason.TOO_MANY_QUEUED,
        ErrorReason.TOO_MANY_NAMES,
        ErrorReason.TOO_MANY_CALLS,
    }
)
"""These jobs were certainly not accepted, so submitting them again makes no second one."""
LEAST_S: Final = 0.05
TOGETHER_S: Final = 1.0
"""Of many jobs that wait, those are submitted together whose time comes within this."""


class Retries:
    """How long to wait, in one run of the command."""

    def __init__(
        self, patience_ms: int | None, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """For `patience_ms` in all; None does not wait at all."""
        self._until = None if patience_ms is None else now() + patience_ms / 1000
        self._now = now
        self._sleep = sleep
        self._has_told = False

    def helps(self, fault: Fault) -> bool:
        """Whether it is to be submitted again."""
        return self._until is not None and fault.reason in LIMITS

    def pause(self, waits: Collection[float]) -> float | None:
        """Sleep until some of these may be submitted again, and return for how long; None if that is too late. `waits` is not empty."""
        pause = max(min(waits), min(max(waits), TOGETHER_S), LEAST_S)
        if self._until is None or self._now() + pause > self._until:
            return None
        if not self._has_told:
            self._has_told = True
            remark("a limit is reached: waiting for room")
        self._sleep(pause)
        return pause

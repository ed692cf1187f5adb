"""Waiting for room: what a limit has rejected is submitted again when its answer says, for as long as the user wants."""

from __future__ import annotations

import time
from collections.abc import Callable

from sickbay.client import retry
from sickbay_cli.output import remark


class Retries:
    """How long to wait, in one run of the command. Nothing but a limit is waited for: a person sees other failures, and decides."""

    def __init__(
        self, patience_ms: int | None, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """For `patience_ms` in all; None does not wait at all."""
        self._until = None if patience_ms is None else now() + patience_ms / 1000
        self.now = now
        self._sleep = sleep
        self._has_told = False

    def of_call(self) -> retry.Retries:
        """Those of the next call, which may wait for what is left."""
        room_s = 0.0 if self._until is None else max(0.0, self._until - self.now())
        return retry.Retries(self.now(), timeout=None, is_safe=False, room_s=room_s)

    def pause(self, seconds: float) -> None:
        """Sleep until something may be submitted again."""
        if not self._has_told:
            self._has_told = True
            remark("a limit is reached: waiting for room")
        self._sleep(seconds)

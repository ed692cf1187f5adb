"""Detects that a handler blocks the handlers' loop, logs which one and where, and finally has the loop abandoned.

It runs on the worker's own loop, which no handler can block, and only while handlers run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from sickbay.handlers.call import describe_position
from worker.alive import BEAT_S, MAX_GAP_S, machine_seconds
from worker.handler_loop import HandlerLoop
from worker.run import Run

MAX_NAMED: Final = 10
"""How many job types are named if it is unknown whose code it is."""
BLOCKED_S: Final = 1.0
"""A loop without a beat for this long is blocked."""

log = logging.getLogger(__name__)

GiveUp = Callable[[HandlerLoop, Run | None, str], None]


class Watchdog:
    """Watches one loop at a time, the one in use."""

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        give_up: GiveUp,
        *,
        timeout_s: float,
        is_needed: Callable[[], bool],
        seconds: Callable[[], float] = machine_seconds,
    ) -> None:
        """`call_later` is that of the worker's loop. `give_up` is called when one run has blocked the loop for its whole timeout.

        `timeout_s` is used if it is unknown whose code it is. `is_needed` returns whether any run is in progress.
        """
        self._call_later = call_later
        self._give_up = give_up
        self._timeout_s = timeout_s
        self._is_needed = is_needed
        self._seconds = seconds
        self._loop: HandlerLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._checked_at = 0.0
        self._culprit: Run | None = None
        self._blocked_s = 0.0
        self._is_blocked = False
        self._is_reported = False
        self.blocked: Counter[str] = Counter()
        """How often the loop was blocked, by job type; "" if it was unknown whose code it was."""

    def watch(self, loop: HandlerLoop) -> None:
        """Watch this loop instead of the previous one."""
        self.stop()
        self._loop = loop
        self._reset()
        self.start()

    def start(self) -> None:
        """Start checking, for as long as any run is in progress."""
        if self._timer is None:
            self._checked_at = self._seconds()
            self._timer = self._call_later(BEAT_S, self._check)

    def stop(self) -> None:
        """Stop watching."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        loop = self._loop
        if loop is None:
            return
        now = self._seconds()
        since, self._checked_at = now - self._checked_at, now
        if since > MAX_GAP_S:
            self._reset()  # the whole process was suspended, which is no handler's fault
        elif loop.stalled_s(now) < BLOCKED_S + BEAT_S:
            self._on_unblocked()
        else:
            self._blocked(loop, since)
        if self._loop is loop:
            self._timer = self._call_later(BEAT_S, self._check) if self._is_needed() else None

    def _blocked(self, loop: HandlerLoop, since: float) -> None:
        run, place = loop.current(), describe_position(loop.frame())
        if not self._is_blocked or run is not self._culprit:
            self._blocked_s = 0.0 if self._is_blocked else BLOCKED_S
            self._is_blocked, self._culprit, self._is_reported = True, run, False
        else:
            self._blocked_s += since
        if not self._is_reported and self._blocked_s >= BLOCKED_S:
            self._is_reported = True
            self._report(run, loop, place)
        elif self._blocked_s >= (run.seconds if run else self._timeout_s):
            log.error("%s still blocks the event loop, for its whole timeout, at %s; it is abandoned", _name(run, loop), place)
            self._reset()
            self._give_up(loop, run, place)

    def _report(self, run: Run | None, loop: HandlerLoop, place: str) -> None:
        self.blocked[run.spec.job_type if run else ""] += 1
        if run is not None:
            run.blocks = True
        log.warning(
            "%s blocks the event loop at %s; other async handlers cannot run. Call what blocks in a thread (asyncio.to_thread), "
            "or make the handler a plain function",
            _name(run, loop), place, extra={"job_id": run.job.job_id} if run else {},
        )  # fmt: skip

    def _on_unblocked(self) -> None:
        if self._is_reported:
            log.info("%s blocked the event loop for about %.1f s", _name(self._culprit, self._loop), self._blocked_s)
        self._reset()

    def _reset(self) -> None:
        self._is_blocked, self._is_reported, self._culprit, self._blocked_s = False, False, None, 0.0


def _name(run: Run | None, loop: HandlerLoop | None) -> str:
    """Whose code it is. A callback belongs to no task, so its handler is unknown: all candidates are named."""
    if run is not None:
        return f"the handler of {run.spec.job_type}"
    seen = sorted(loop.job_types) if loop else []
    more = f" and {len(seen) - MAX_NAMED} more types" if len(seen) > MAX_NAMED else ""
    return f"a callback that a handler of {', '.join(seen[:MAX_NAMED])}{more} has left behind" if seen else "a callback of some handler"

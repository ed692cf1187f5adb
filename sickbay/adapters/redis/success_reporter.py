"""Delays and coalesces reports of successes: one ends a run of failures for the whole fleet, so the others are not needed.

Each process waits for a short random time before it reports; by then another process has usually done it, and the report is dropped. A
success has the number of the last failure it knew (its watermark), so a late report removes no later failures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sickbay.breaker.machine import Document
from sickbay.domain.breaker import BreakerKey, Permit


@dataclass(frozen=True, slots=True)
class Success:
    """A success to report."""

    permit: Permit
    watermark: int


class SuccessReporter:
    """At most one report per breaker is waiting, and at most one is being sent."""

    def __init__(self, send: Callable[[Success], Awaitable[None]], delay_s: Callable[[], float]) -> None:
        """`send` must not raise; `delay_s` draws how long a report waits."""
        self._send = send
        self._delay_s = delay_s
        self._waiting: dict[BreakerKey, tuple[Success, asyncio.TimerHandle]] = {}
        self._sending: dict[BreakerKey, asyncio.Task[None]] = {}

    def add(self, success: Success) -> None:
        """Report it soon, unless another process does."""
        key = success.permit.key
        if key in self._waiting:
            earlier, timer = self._waiting[key]
            watermark = max(success.watermark, earlier.watermark)
            self._waiting[key] = (replace(success, watermark=watermark), timer)
        else:
            timer = asyncio.get_running_loop().call_later(self._delay_s(), self._start_sending, key)
            self._waiting[key] = (success, timer)

    def on_change(self, key: BreakerKey, doc: Document | None) -> None:
        """The breaker changed: drop the report if it is no longer needed."""
        if key not in self._waiting:
            return
        success, timer = self._waiting[key]
        known = doc is not None and doc.epoch == success.permit.epoch and any(one.seq <= success.watermark for one in doc.run)
        if not known:
            timer.cancel()
            del self._waiting[key]

    async def flush(self, key: BreakerKey) -> None:
        """Return when no report of this breaker is pending."""
        if key in self._waiting:
            self._waiting[key][1].cancel()
            self._start_sending(key)
        if key in self._sending:
            await asyncio.wait([self._sending[key]])

    async def close(self) -> None:
        """Send all reports at once."""
        for key in [*self._waiting, *self._sending]:
            await self.flush(key)

    def _start_sending(self, key: BreakerKey) -> None:
        success, _ = self._waiting.pop(key)
        task = asyncio.ensure_future(self._send_after(self._sending.get(key), success))
        self._sending[key] = task
        task.add_done_callback(lambda done: self._on_sent(key, done))

    async def _send_after(self, earlier: asyncio.Task[None] | None, success: Success) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        await self._send(success)

    def _on_sent(self, key: BreakerKey, task: asyncio.Task[None]) -> None:
        if self._sending.get(key) is task:
            del self._sending[key]

"""Makes entries of the audit log durable: they go through the broker to the control plane, which writes them to the ledger.

The start of an action is published with a confirm before the action takes effect. While the broker is away the action is performed all the
same, because an operator in an outage must not be locked out: its entries wait in memory, up to a limit, and each is in the log.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from contextlib import suppress
from typing import Final, Self

from sickbay.concurrency.pauses import Backoff
from sickbay.concurrency.tasks import run_with_restarts
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.audit import AuditEntry, bounded
from sickbay.domain.errors import Unavailable
from sickbay.messages.audit import MAX_ENTRIES, audit_message
from sickbay.ports import Broker
from sickbay.server.audit.metrics import AuditMetrics

MAX_WAITING: Final = 10_000
"""Entries that wait for the broker; later ones are in the log alone."""
PATIENCE_S: Final = 2.0
"""How long an action waits until its entry is durable."""
RETRY_S: Final = 0.2
MAX_RETRY_S: Final = 5.0
"""When the broker is unavailable."""
CLOSE_S: Final = 2.0
"""How long closing waits until the last entries are published."""

log = logging.getLogger("sickbay.audit")


class Journal:
    """One per service. `async with` starts it; leaving publishes what waits."""

    def __init__(self, broker: Broker, metrics: AuditMetrics) -> None:
        """Publish through `broker`."""
        self._broker = broker
        self._metrics = metrics
        self._waiting: deque[tuple[AuditEntry, asyncio.Future[None]]] = deque()
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._is_away = False
        self._task: asyncio.Task[None] | None = None
        metrics.observe_waiting(lambda: len(self._waiting))

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(run_with_restarts(self._run), name="audit log")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        self._wake.set()
        if self._task:
            late = (await asyncio.wait({self._task}, timeout=CLOSE_S))[1]
            for task in late:
                task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._waiting:
            log.error("%d entries of the audit log could not be published before the end; each is in this log", len(self._waiting))
            self._metrics.drop(len(self._waiting))
            self._waiting.clear()

    async def write(self, entry: AuditEntry) -> None:
        """Return once the entry is durable. While the broker is away it waits in memory, and this returns after PATIENCE_S, or at once."""
        durable = self.add(entry)
        if not self._is_away:
            await asyncio.wait({durable}, timeout=PATIENCE_S)

    def add(self, entry: AuditEntry) -> asyncio.Future[None]:
        """Publish it soon; the future is done once it is durable. Never raises."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.drop(1)
            log.error("too many entries of the audit log wait for the broker, so this one is in the log alone: %s", line_of(entry))
            durable.set_result(None)
            return durable
        self._waiting.append((bounded(entry), durable))
        self._wake.set()
        return durable

    async def _run(self) -> None:
        backoff = Backoff(RETRY_S, MAX_RETRY_S)
        while self._waiting or not self._closing.is_set():
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = [self._waiting[number] for number in range(min(len(self._waiting), MAX_ENTRIES))]
            try:
                await self._broker.publish([audit_message([entry for entry, _ in batch])])
            except Unavailable as error:
                wait_s = backoff.next_s()
                if not self._is_away:
                    log.warning("entries of the audit log wait for the broker; actions are performed, and each is in this log: %s", error)
                self._is_away = True
                if self._closing.is_set():
                    await asyncio.sleep(RETRY_S)
                else:
                    await wait_for_event(self._closing, wait_s)
                continue
            for _, durable in batch:
                self._waiting.popleft()
                with suppress(asyncio.InvalidStateError):
                    durable.set_result(None)
            self._is_away = False
            backoff.reset()


def line_of(entry: AuditEntry) -> str:
    """The entry in one line of the log. What others have written is quoted, so that it cannot look like another line or field."""
    who = f"{json.dumps(entry.principal)} ({entry.kind}{f' {json.dumps(entry.credential)}' if entry.credential else ''})"
    parts = [
        f"action {json.dumps(entry.action)}",
        f"principal {who}" if entry.kind else "principal unknown",
        f"target {entry.target_kind} {json.dumps(entry.target)}" if entry.target_kind else "",
        f"tenant {json.dumps(entry.tenant)}" if entry.tenant else "",
        f"result {entry.result}{f' {entry.reason}' if entry.reason else ''}",
        f"{json.dumps(entry.before)} -> {json.dumps(entry.after)}" if entry.before or entry.after else "",
        f"claimed actor {json.dumps(entry.claimed_actor)}" if entry.claimed_actor else "",
        f"note {json.dumps(entry.note)}" if entry.note else "",
        f"request {json.dumps(entry.request)}" if entry.request else "",
        f"from {json.dumps(entry.source)} by {entry.door}" if entry.source else f"by {entry.door}",
        f"{entry.count:,} calls" if entry.count > 1 else "",
        f"entry {entry.entry_id}",
    ]
    return ", ".join(filter(None, parts))

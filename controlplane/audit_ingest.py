"""Writes entries of the audit log from `jobs.ledger` to the ledger, and deletes those past their retention."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from controlplane.isolation import undecodable_event
from sickbay.concurrency.pauses import Backoff, jitter
from sickbay.domain.encodings import explain
from sickbay.domain.errors import Unavailable, Unstorable
from sickbay.domain.job import JobEvent
from sickbay.messages.audit import decode_entries, has_entries
from sickbay.messages.codec import Undecodable
from sickbay.ports import Clock, Delivery
from sickbay.ports.audit import AuditStore

DAY_MS: Final = 86_400_000
PRUNE_EVERY_S: Final = 3_600.0
PRUNE_RETRY_S: Final = 60.0
"""When the ledger is unavailable, doubled up to PRUNE_EVERY_S."""

log = logging.getLogger(__name__)


async def record_audit(
    store: AuditStore, deliveries: Sequence[Delivery], now: int, *, isolate_faults: bool = False
) -> tuple[Sequence[Delivery], Sequence[JobEvent]]:
    """Write the entries of those messages that have some. Returns the other messages, and events for entries that cannot be stored.

    Such an event keeps the message in quarantine, so it holds up nothing and is not lost. `isolate_faults`: also after a fault.
    """
    with_entries = [one for one in deliveries if has_entries(one.body) and not one.is_foreign]
    if not with_entries:
        return deliveries, ()
    rejected: list[JobEvent] = []
    entries = []
    for delivery in with_entries:
        try:
            entries.append((delivery, decode_entries(delivery.body, now)))
        except Undecodable as error:
            rejected.append(_kept(delivery, explain(str(error), delivery.body, delivery.encoding), now))
    try:
        await store.record([entry for _, several in entries for entry in several])
    except Unavailable:
        raise
    except Exception as fault:
        if not (isolate_faults or isinstance(fault, Unstorable)):
            raise
        for delivery, several in entries:
            try:
                await store.record(several)
            except Unavailable:
                raise
            except Exception:
                log.exception("entries of the audit log cannot be stored; their message is put into quarantine")
                rejected.append(_kept(delivery, "entries of the audit log could not be stored, see the log of the control plane", now))
    others = [one for one in deliveries if one not in with_entries]
    return others, rejected


def _kept(delivery: Delivery, why: str, now: int) -> JobEvent:
    return undecodable_event(delivery.body, delivery.message_id, why, now)


class AuditRetention:
    """Deletes old entries."""

    def __init__(self, store: AuditStore, clock: Clock, days: int) -> None:
        """Entries are kept for so many days, for ever if that is 0."""
        self._store, self._clock, self._days = store, clock, days
        self._backoff = Backoff(PRUNE_RETRY_S, PRUNE_EVERY_S)

    async def run(self) -> None:
        """Look once an hour, until cancelled."""
        if not self._days:
            return
        while True:
            wait_s = await self.prune()
            await asyncio.sleep(wait_s)

    async def prune(self) -> float:
        """Delete what is too old; returns how many seconds to wait until the next time."""
        try:
            deleted = await self._store.prune(self._clock(), self._days * DAY_MS)
        except Unavailable:
            return self._backoff.next_s()
        self._backoff.reset()
        if deleted:
            log.info("%d entries of the audit log were deleted after %d days", deleted, self._days)
        return PRUNE_EVERY_S * jitter()

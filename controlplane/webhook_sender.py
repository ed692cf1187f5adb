"""Delivers the notices of incidents to the webhook, each at least once: until it is answered with 2xx, or given up after about a day.

The notices are in the ledger, written together with their incidents. Control planes share them by leases, so one that dies while it
delivers leaves them to the others. A receiver recognises a repeat by its `webhook-id`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from sickbay.concurrency.pauses import Backoff, jitter
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import Unavailable
from sickbay.domain.incident import Change, Incident
from sickbay.observer import NOBODY, Observer
from sickbay.ports.incidents import IncidentNotices, Notice, Undelivered, Webhook

POLL_S: Final = 2.0
"""Between two looks for notices that are due, besides those that this control plane has written."""
LEASE_MS: Final = 60_000
"""Longer than a delivery can take."""
AT_A_TIME: Final = 10
FIRST_PAUSE_S: Final = 2.0
PAUSE_GROWTH: Final = 4
LONGEST_PAUSE_S: Final = 3_600.0
"""Between two attempts to deliver a notice."""
MAX_ATTEMPTS: Final = 30
"""In about a day."""
FAILED_S: Final = 1.0
LONGEST_FAILED_S: Final = 30.0
"""When the ledger is unavailable."""

log = logging.getLogger(__name__)


class WebhookSender(Observer):
    """One per control plane; several share the notices."""

    def __init__(self, notices: IncidentNotices, webhook: Webhook, observer: Observer = NOBODY) -> None:
        """Does nothing before `run`."""
        self._notices = notices
        self._webhook = webhook
        self._observer = observer
        self._wake = asyncio.Event()
        self._failed = Backoff(FAILED_S, LONGEST_FAILED_S)

    def incident_changed(self, incident: Incident, change: Change) -> None:  # noqa: ARG002 - whichever it is
        """There may be a notice now."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self._wake.clear()
            try:
                while await self._deliver_due():
                    pass
            except Unavailable as error:
                wait_s = self._failed.next_s()
                log.warning("notices of incidents wait for the ledger, retrying in %.1f s: %s", wait_s, error)
                await asyncio.sleep(wait_s)
            else:
                self._failed.reset()
                await wait_for_event(self._wake, POLL_S)

    async def _deliver_due(self) -> int:
        """Deliver notices that are due; returns how many there were."""
        due = await self._notices.claim(AT_A_TIME, LEASE_MS)
        for result in await asyncio.gather(*map(self._deliver, due), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        return len(due)

    async def _deliver(self, notice: Notice) -> None:
        failed: Undelivered | None = None
        try:
            await self._webhook.deliver(notice)
        except Undelivered as error:
            failed = error
        self._observer.notified(notice, failed)
        if failed is None:
            await self._notices.finish(notice)
        elif failed.is_final or notice.attempts >= MAX_ATTEMPTS:
            log.error("a notice of incident %d is given up after attempt %d: the webhook: %s", notice.number, notice.attempts, failed)
            await self._notices.finish(notice)
        else:
            wait_s = max(pause_s(notice.attempts) * jitter(), failed.retry_after_s)
            log.warning("a notice of incident %d is not delivered, retrying in %.0f s: the webhook: %s", notice.number, wait_s, failed)
            await self._notices.postpone(notice, round(wait_s * 1000))


def pause_s(attempts: int) -> float:
    """How long to wait after so many failed attempts: 2 s, 8 s, 32 s, 2 min, 9 min, 34 min, then an hour."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * PAUSE_GROWTH ** min(attempts - 1, 10)))

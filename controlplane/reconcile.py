"""Keeps `jobs.quarantine` true: its depth is the number of set-aside jobs, and every one of them has its complete copy there.

When a job leaves quarantine its copy stays behind as a ghost. The sweep walks from the head: a ghost is acknowledged, a live copy
goes to the tail, a copy the ledger does not know is told to the ledger and kept (so a lost ledger is rebuilt from the queue). Where
copies are missing (a broker killed in the middle of a publish kept the event for the ledger alone) they are made from the ledger.

One control plane sweeps at a time. Should two do so for a moment all the same, no last copy is destroyed: each moves copies under the
mark of its round, and takes for a second copy only one whose mark is older than its own round. What becomes of each copy is in
`reconcile_copies.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from random import SystemRandom
from typing import Final

from controlplane.failing_copies import FailingCopies
from controlplane.queue_copy import identity_of
from controlplane.reconcile_copies import CopyReconciler
from sickbay.concurrency.waiting import set_within
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.queries import ReconcileResult
from sickbay.messages.codec import encode_event
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import TO_QUARANTINE, Broker, Clock, Consumer, Delivery, LedgerWriter, Message, Queue

BATCH: Final = 100
PAGE: Final = 20
"""Jobs read from the ledger at a time, with their payloads."""
PAUSE_S: Final = 0.02
"""Between batches, so that a large quarantine is walked without getting in anybody's way."""
LINGER_S: Final = 0.5
RECHECK_S: Final = 5.0
LONGEST_RECHECK_S: Final = 60.0
LOOK_EVERY_S: Final = 60.0
GET_S: Final = 5.0
"""A message that was counted and does not come by then is in somebody else's hands."""
SETTLED_MS: Final = 5_000
"""A job set aside more recently may have its copy still on the way."""

log = logging.getLogger(__name__)


class QuarantineReconciler:
    """One per control plane."""

    def __init__(
        self,
        broker: Broker,
        ledger: LedgerWriter,
        clock: Clock,
        observer: Observer = NOBODY,
        troubled: FailingCopies | None = None,
    ) -> None:
        """Nothing happens before `run`; `observer` hears of every round."""
        self._observer = observer
        self._broker = broker
        self._publisher = Publisher(broker, observer)
        self._ledger = ledger
        self._clock = clock
        self._due = asyncio.Event()
        self._due.set()
        self._last_round = 0
        self._disagreed = 0
        self._was_short = False
        self._sorter = CopyReconciler(self._publisher, ledger, clock, FailingCopies() if troubled is None else troubled)

    def nudge(self) -> None:
        """Jobs have left the quarantine: sweep soon."""
        self._due.set()

    async def run(self) -> None:
        """Sweep whenever nudged, and look once in a while, until depth and rows agree."""
        while True:
            await set_within(self._due, LOOK_EVERY_S)
            self._due.clear()
            await asyncio.sleep(LINGER_S)
            try:
                agreed = await self.look()
            except Unavailable as error:
                log.warning("the sweep of the quarantine is suspended, retrying: %s", error)
                agreed = False
            except Exception:
                log.exception("internal error in the sweep of the quarantine; restarting it later")
                agreed = False
            self._disagreed = 0 if agreed else self._disagreed + 1
            if not agreed:
                asyncio.get_running_loop().call_later(self._recheck_s(), self.nudge)

    def _recheck_s(self) -> float:
        """Copies on their way arrive within seconds; what stays wrong (somebody else holds them) is looked at ever more seldom."""
        grown = RECHECK_S * 2.0 ** min(10, max(0, self._disagreed - 3))
        return min(LONGEST_RECHECK_S, grown) * SystemRandom().uniform(0.8, 1.2)

    async def look(self) -> bool:
        """Compare, and do what is to be done; whether depth and rows agree in the end.

        Too few copies at one look may be on their way; if they are too few at the next look, too, the missing ones are made.
        """
        surplus = await self._surplus()
        if surplus:
            async with self._ledger.sweep_lock() as alone:
                if alone:
                    while surplus > 0 and (await self.round()).ghosts:
                        surplus = await self._surplus()
                    if surplus < 0 and self._was_short:
                        await self.restore()
                        surplus = await self._surplus()
        self._was_short = surplus < 0
        return surplus == 0

    async def round(self, *, whole: bool = False) -> ReconcileResult:
        """Look at each present copy once; stop early when no ghost is left, unless the `whole` queue is asked for."""
        self._last_round = max(self._clock(), self._last_round + 1)
        swept = ReconcileResult(self._last_round)
        surplus = await self._surplus()
        left = await self._broker.depth(Queue.QUARANTINE)
        async with self._broker.consume(Queue.QUARANTINE, BATCH) as consumer:
            while left > 0 and not swept.wrapped and (whole or swept.ghosts < surplus):
                deliveries = await self._some(consumer, min(left, BATCH))
                if not deliveries:
                    break
                left -= len(deliveries)
                try:
                    await self._sorter.sort(deliveries, swept)
                finally:
                    # Of a control plane whose clock is ahead: our next round is above it, or we would wait until our clock gets there.
                    self._last_round = max(self._last_round, swept.highest_mark)
                await asyncio.sleep(PAUSE_S)
        self._observer.reconciled(swept)
        return swept

    async def restore(self) -> int:
        """Walk past all copies, and make those that are missing; how many. One too many is a second copy for the next round."""
        before = self._clock() - SETTLED_MS
        swept = await self.round(whole=True)
        after, made = "", 0
        while page := await self._ledger.list_set_aside(after, PAGE, before):
            after = page[-1].job.job_id
            missing = [event for event in page if identity_of(event) not in swept.seen]
            if missing:
                await self._publisher.publish([Message(TO_QUARANTINE, encode_event(event)) for event in missing])
            made += len(missing)
        if made:
            self._observer.reconciled(ReconcileResult(swept.number, recreated=made))
            log.warning("%d parked or quarantined jobs had no copy in %s; their copies were recreated", made, Queue.QUARANTINE)
        return made

    async def _some(self, consumer: Consumer, limit: int) -> Sequence[Delivery]:
        try:
            async with asyncio.timeout(GET_S):
                return await consumer.get(limit)
        except TimeoutError:
            return ()

    async def _surplus(self) -> int:
        counts = await self._ledger.counts()
        rows = counts.get(JobState.PARKED, 0) + counts.get(JobState.QUARANTINED, 0)
        return await self._broker.depth(Queue.QUARANTINE) - rows

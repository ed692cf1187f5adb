"""Reconciles `jobs.quarantine` with the ledger: its depth is the number of jobs in quarantine, and each has its complete copy there.

When a job leaves quarantine its copy stays behind as a ghost. The reconciler consumes from the head: a ghost is acknowledged, a live copy
moves to the tail, a copy that the ledger does not know is added to the ledger and kept (so a lost ledger is rebuilt from the queue).
Missing copies (a broker killed in the middle of a publish kept only the event for the ledger) are recreated from the ledger.

One control plane reconciles at a time. If two do so for a moment, no last copy is destroyed: each moves copies under the mark of its
round, and regards as a duplicate only a copy whose mark is older than its own round. `reconcile_copies.py` processes the copies.
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
from sickbay.concurrency.waiting import wait_for_event
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
"""Between batches, so that a large quarantine does not slow others down."""
LINGER_S: Final = 0.5
MOST_LINGERS: Final = 120
"""A round begins when no more jobs leave for LINGER_S, or after so many times that: while thousands leave, a round for each few of them
would move the other copies again and again."""
RECHECK_S: Final = 5.0
LONGEST_RECHECK_S: Final = 60.0
LOOK_EVERY_S: Final = 60.0
GET_S: Final = 5.0
"""A message that was counted but is not delivered by then is held by another consumer."""
SETTLED_MS: Final = 5_000
"""The copy of a job that was quarantined more recently may not have arrived yet."""

log = logging.getLogger(__name__)


class QuarantineReconciler:
    """One per control plane."""

    def __init__(
        self,
        broker: Broker,
        ledger: LedgerWriter,
        clock: Clock,
        observer: Observer = NOBODY,
        failing: FailingCopies | None = None,
    ) -> None:
        """Does nothing before `run`; `observer` is notified of every round."""
        self._observer = observer
        self._broker = broker
        self._publisher = Publisher(broker, observer)
        self._ledger = ledger
        self._clock = clock
        self._due = asyncio.Event()
        self._due.set()
        self._last_round = 0
        self._mismatches = 0
        self._was_short = False
        self._copies = CopyReconciler(self._publisher, ledger, clock, FailingCopies() if failing is None else failing)

    def wake(self) -> None:
        """Reconcile soon: jobs have left the quarantine."""
        self._due.set()

    async def run(self) -> None:
        """Reconcile when woken, and check periodically, until depth and rows agree."""
        while True:
            await wait_for_event(self._due, LOOK_EVERY_S)
            await self._linger()
            try:
                agreed = await self.look()
            except Unavailable as error:
                log.warning("the sweep of the quarantine is suspended, retrying: %s", error)
                agreed = False
            except Exception:
                log.exception("internal error in the sweep of the quarantine; restarting it later")
                agreed = False
            self._mismatches = 0 if agreed else self._mismatches + 1
            if not agreed:
                asyncio.get_running_loop().call_later(self._recheck_s(), self.wake)

    async def _linger(self) -> None:
        for _ in range(MOST_LINGERS):
            self._due.clear()
            await asyncio.sleep(LINGER_S)
            if not self._due.is_set():
                return

    def _recheck_s(self) -> float:
        """Copies in flight arrive within seconds; a lasting mismatch (another consumer holds them) is checked with increasing delays."""
        delay = RECHECK_S * 2.0 ** min(10, max(0, self._mismatches - 3))
        return min(LONGEST_RECHECK_S, delay) * SystemRandom().uniform(0.8, 1.2)

    async def look(self) -> bool:
        """Compare and reconcile; returns whether depth and rows agree in the end.

        Missing copies may be in flight; they are recreated if they are still missing at the next check.
        """
        surplus = await self._surplus()
        if surplus:
            async with self._ledger.sweep_lock() as alone:
                if alone:
                    while surplus > 0 and (await self.run_round()).ghosts:
                        surplus = await self._surplus()
                    if surplus < 0 and self._was_short:
                        await self.recreate_missing()
                        surplus = await self._surplus()
        self._was_short = surplus < 0
        return surplus == 0

    async def run_round(self, *, whole: bool = False) -> ReconcileResult:
        """Process each present copy once; stop early when no ghost is left, unless the `whole` queue is requested."""
        self._last_round = max(self._clock(), self._last_round + 1)
        result = ReconcileResult(self._last_round)
        surplus = await self._surplus()
        left = await self._broker.depth(Queue.QUARANTINE)
        async with self._broker.consume(Queue.QUARANTINE, BATCH) as consumer:
            while left > 0 and not result.wrapped and (whole or result.ghosts < surplus):
                deliveries = await self._get(consumer, min(left, BATCH))
                if not deliveries:
                    break
                left -= len(deliveries)
                try:
                    await self._copies.reconcile(deliveries, result)
                finally:
                    # The clock of another control plane may be ahead: continue above its mark, or we would wait until our clock gets there.
                    self._last_round = max(self._last_round, result.highest_mark)
                await asyncio.sleep(PAUSE_S)
        self._observer.reconciled(result)
        return result

    async def recreate_missing(self) -> int:
        """Check all copies and recreate the missing ones; returns how many. One too many is a duplicate for the next round."""
        before = self._clock() - SETTLED_MS
        result = await self.run_round(whole=True)
        after, made = "", 0
        while page := await self._ledger.list_set_aside(after, PAGE, before):
            after = page[-1].job.job_id
            missing = [event for event in page if identity_of(event) not in result.seen]
            if missing:
                await self._publisher.publish([Message(TO_QUARANTINE, encode_event(event)) for event in missing])
            made += len(missing)
        if made:
            self._observer.reconciled(ReconcileResult(result.number, recreated=made))
            log.warning("%d parked or quarantined jobs had no copy in %s; their copies were recreated", made, Queue.QUARANTINE)
        return made

    async def _get(self, consumer: Consumer, limit: int) -> Sequence[Delivery]:
        try:
            async with asyncio.timeout(GET_S):
                return await consumer.get(limit)
        except TimeoutError:
            return ()

    async def _surplus(self) -> int:
        counts = await self._ledger.counts()
        rows = counts.get(JobState.PARKED, 0) + counts.get(JobState.QUARANTINED, 0)
        if counts.get(JobState.PARKED):
            rows -= await self._ledger.in_ledger_alone()
        return await self._broker.depth(Queue.QUARANTINE) - rows

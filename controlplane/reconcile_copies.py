"""Sorts copies of `jobs.quarantine`: ghosts are destroyed, the living go to the tail, those the ledger does not know are told to it.

A copy that makes that fail (a fault of ours, not a server that is away) is found by halving its batch, left as it is and looked at again
ever more seldom (`failing_copies.py`); the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from controlplane.failing_copies import FailingCopies
from controlplane.isolation import tell, undecodable
from controlplane.queue_copy import MARK, QueueCopy, mark_of
from sickbay.domain.errors import Unavailable, Unstorable
from sickbay.domain.queries import ReconcileResult
from sickbay.domain.storable import digest
from sickbay.messages.publisher import Publisher
from sickbay.ports import TO_QUARANTINE, Clock, Delivery, LedgerWriter, Message, Queue

log = logging.getLogger(__name__)


class CopyReconciler:
    """The part of a sweep that has copies in its hands."""

    def __init__(self, publisher: Publisher, ledger: LedgerWriter, clock: Clock, troubled: FailingCopies) -> None:
        """`troubled` remembers which copies are left alone."""
        self._publisher = publisher
        self._ledger = ledger
        self._clock = clock
        self._troubled = troubled

    async def sort(self, deliveries: Sequence[Delivery], swept: ReconcileResult) -> None:
        """Treat what the round has not treated yet. Raises Unavailable, or what is wrong with more than one copy."""
        marks = [mark_of(delivery, swept.number) for delivery in deliveries]
        swept.highest_mark = max(swept.highest_mark, *marks)
        fresh = [delivery for delivery, mark in zip(deliveries, marks, strict=True) if mark < swept.number]
        swept.wrapped = len(fresh) < len(deliveries)
        resting = [delivery for delivery in fresh if self._troubled.is_resting(delivery.body)]
        looked_at = [delivery for delivery in fresh if delivery not in resting]
        await self._leave(resting, swept)
        before = swept.passed
        failed = await self._isolated(looked_at, swept)
        if len(failed) > 1 and swept.passed == before:
            raise failed[0][1]  # whatever it is, it is not one copy
        await self._leave([delivery for delivery, _ in failed], swept)

    async def _isolated(self, deliveries: Sequence[Delivery], swept: ReconcileResult) -> Sequence[tuple[Delivery, Exception]]:
        """Treat all; those that cannot be treated although what they need is there, with what was wrong."""
        try:
            await self._treat(deliveries, swept)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - it is told, of the one copy that it is about
            if len(deliveries) > 1:
                middle = len(deliveries) // 2
                halves = [await self._isolated(half, swept) for half in (deliveries[:middle], deliveries[middle:])]
                return [*halves[0], *halves[1]]
            (delivery,) = deliveries
            self._tell(delivery, error)
            return [(delivery, error)]
        return ()

    def _tell(self, delivery: Delivery, error: Exception) -> None:
        pause = self._troubled.failed(delivery.body)
        log.error(
            "a copy in %s (%d bytes, message %s) makes the sweep fail; it is left as it is and checked again in %g s; others go on",
            Queue.QUARANTINE, len(delivery.body), delivery.message_id, pause, exc_info=error,
        )  # fmt: skip

    async def _leave(self, deliveries: Sequence[Delivery], swept: ReconcileResult) -> None:
        """Move copies to the tail as they are. One that cannot even be moved stays in our hands until the round ends."""
        for delivery in deliveries:
            swept.skipped += 1
            try:
                await self._publisher.publish([Message(TO_QUARANTINE, delivery.body, headers={MARK: str(swept.number)})])
            except Unavailable:
                raise
            except Exception:
                log.exception("a copy in %s could not be moved", Queue.QUARANTINE)
            else:
                delivery.ack()

    async def _treat(self, deliveries: Sequence[Delivery], swept: ReconcileResult) -> None:
        """Decide on each and keep the living; what the round knows changes only when all of them have been treated."""
        now = self._clock()
        copies = await self._looked_at([QueueCopy.read(delivery, now) for delivery in deliveries])
        unknown = [copy for copy in copies if copy.is_live is None]
        if unknown:
            told = await tell(self._ledger, [copy.event for copy in unknown], now)
            for copy, event in zip(unknown, told, strict=True):
                copy.becomes(event)
        ghosts: list[QueueCopy] = []
        kept: list[QueueCopy] = []
        seen = set[tuple[str, int, int]]()
        for copy in copies:
            is_ghost = copy.is_live is False or copy.identity in swept.seen or copy.identity in seen
            (ghosts if is_ghost else kept).append(copy)
            seen.add(copy.identity)
        await self._keep(kept, swept)
        for copy in ghosts:
            copy.delivery.ack()
        for delivery in deliveries:
            self._troubled.passed(delivery.body)
        swept.seen |= seen
        swept.ghosts += len(ghosts)
        swept.adopted += len(unknown)

    async def _looked_at(self, copies: Sequence[QueueCopy]) -> Sequence[QueueCopy]:
        """Ask the ledger which of them are alive; one that it cannot even be asked about is one that nobody can read."""
        if not copies:
            return ()
        try:
            live = await self._ledger.check_copies([copy.event.job for copy in copies])
        except Unstorable as error:
            if len(copies) > 1:
                middle = len(copies) // 2
                return [*await self._looked_at(copies[:middle]), *await self._looked_at(copies[middle:])]
            (copy,) = copies
            copy.becomes(undecodable(copy.delivery.body, digest(copy.delivery.body), str(error), self._clock()))
            live = await self._ledger.check_copies([copy.event.job])
        for copy in copies:
            copy.is_live = live.get(copy.event.job.job_id)
        return copies

    async def _keep(self, copies: Sequence[QueueCopy], swept: ReconcileResult) -> None:
        mark = {MARK: str(swept.number)}
        await self._publisher.publish([Message(TO_QUARANTINE, copy.body, headers=mark) for copy in copies])
        for copy in copies:
            copy.delivery.ack()
        swept.kept += len(copies)

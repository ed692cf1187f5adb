"""Reconciles copies in `jobs.quarantine`: ghosts are removed, live copies move to the tail, unknown ones are added to the ledger.

A copy that makes this fail (by a fault of ours, not an unavailable server) is found by bisecting its batch, left unchanged and retried
with increasing delays (`failing_copies.py`); the others continue.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from controlplane.failing_copies import FailingCopies
from controlplane.isolation import apply_events, undecodable_event
from controlplane.queue_copy import MARK, QueueCopy, mark_of
from sickbay.domain.errors import Unavailable, Unstorable
from sickbay.domain.queries import ReconcileResult
from sickbay.domain.run_rate import in_ledger_alone
from sickbay.domain.storable import digest
from sickbay.messages.publisher import Publisher
from sickbay.ports import TO_QUARANTINE, Clock, Delivery, LedgerWriter, Message, Queue

log = logging.getLogger(__name__)


class CopyReconciler:
    """Processes the copies of a round."""

    def __init__(self, publisher: Publisher, ledger: LedgerWriter, clock: Clock, failing: FailingCopies) -> None:
        """`failing` remembers which copies are skipped."""
        self._publisher = publisher
        self._ledger = ledger
        self._clock = clock
        self._failing = failing

    async def reconcile(self, deliveries: Sequence[Delivery], result: ReconcileResult) -> None:
        """Process the copies that the round has not processed yet. Raises Unavailable, or an error of more than one copy."""
        marks = [mark_of(delivery, result.number) for delivery in deliveries]
        result.highest_mark = max(result.highest_mark, *marks)
        fresh = [delivery for delivery, mark in zip(deliveries, marks, strict=True) if mark < result.number]
        result.wrapped = len(fresh) < len(deliveries)
        resting = [delivery for delivery in fresh if self._failing.is_resting(delivery.body)]
        due = [delivery for delivery in fresh if delivery not in resting]
        await self._skip(resting, result)
        before = result.passed
        failed = await self._reconcile_isolated(due, result)
        if len(failed) > 1 and result.passed == before:
            raise failed[0][1]  # the cause is not a single copy
        await self._skip([delivery for delivery, _ in failed], result)

    async def _reconcile_isolated(self, deliveries: Sequence[Delivery], result: ReconcileResult) -> Sequence[tuple[Delivery, Exception]]:
        """Process all; returns those that failed although all servers are available, with their errors."""
        try:
            await self._reconcile(deliveries, result)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - it is logged for the one copy that causes it
            if len(deliveries) > 1:
                middle = len(deliveries) // 2
                halves = [await self._reconcile_isolated(half, result) for half in (deliveries[:middle], deliveries[middle:])]
                return [*halves[0], *halves[1]]
            (delivery,) = deliveries
            self._log_failure(delivery, error)
            return [(delivery, error)]
        return ()

    def _log_failure(self, delivery: Delivery, error: Exception) -> None:
        pause = self._failing.record_failure(delivery.body)
        log.error(
            "a copy in %s (%d bytes, message %s) cannot be reconciled; it is left as it is and retried in %g s; others continue",
            Queue.QUARANTINE, len(delivery.body), delivery.message_id, pause, exc_info=error,
        )  # fmt: skip

    async def _skip(self, deliveries: Sequence[Delivery], result: ReconcileResult) -> None:
        """Move copies to the tail unchanged. One that cannot even be moved stays unacknowledged until the round ends."""
        for delivery in deliveries:
            result.skipped += 1
            try:
                await self._publisher.publish([Message(TO_QUARANTINE, delivery.body, headers={MARK: str(result.number)})])
            except Unavailable:
                raise
            except Exception:
                log.exception("a copy in %s could not be moved", Queue.QUARANTINE)
            else:
                delivery.ack()

    async def _reconcile(self, deliveries: Sequence[Delivery], result: ReconcileResult) -> None:
        """Decide on each and keep the live ones; the result changes only when all of them have been processed."""
        now = self._clock()
        copies = await self._look_up([QueueCopy.read(delivery, now) for delivery in deliveries])
        unknown = [copy for copy in copies if copy.is_live is None]
        if unknown:
            applied = await apply_events(self._ledger, [copy.event for copy in unknown], now)
            for copy, event in zip(unknown, applied, strict=True):
                copy.becomes(event)
        ghosts: list[QueueCopy] = []
        kept: list[QueueCopy] = []
        seen = set[tuple[str, int, int]]()
        for copy in copies:
            is_ghost = copy.is_live is False or copy.identity in result.seen or copy.identity in seen
            is_ghost |= in_ledger_alone(copy.event)  # a control plane that does not know of rates made it; the ledger has the job
            (ghosts if is_ghost else kept).append(copy)
            seen.add(copy.identity)
        await self._move_to_tail(kept, result)
        for copy in ghosts:
            copy.delivery.ack()
        for delivery in deliveries:
            self._failing.record_success(delivery.body)
        result.seen |= seen
        result.ghosts += len(ghosts)
        result.adopted += len(unknown)

    async def _look_up(self, copies: Sequence[QueueCopy]) -> Sequence[QueueCopy]:
        """Ask the ledger which of them are live; one whose values the ledger cannot even look up becomes an undecodable one."""
        if not copies:
            return ()
        try:
            for group in _apart(copies):
                await self._judge(group)
        except Unstorable as error:
            if len(copies) > 1:
                middle = len(copies) // 2
                return [*await self._look_up(copies[:middle]), *await self._look_up(copies[middle:])]
            (copy,) = copies
            copy.becomes(undecodable_event(copy.delivery.body, digest(copy.delivery.body), str(error), self._clock()))
            await self._judge(copies)
        return copies

    async def _judge(self, copies: Sequence[QueueCopy]) -> None:
        live = await self._ledger.check_copies([copy.event.job for copy in copies])
        for copy in copies:
            copy.is_live = live.get(copy.event.job.job_id)

    async def _move_to_tail(self, copies: Sequence[QueueCopy], result: ReconcileResult) -> None:
        mark = {MARK: str(result.number)}
        await self._publisher.publish([Message(TO_QUARANTINE, copy.body, headers=mark) for copy in copies])
        for copy in copies:
            copy.delivery.ack()
        result.kept += len(copies)


def _apart(copies: Sequence[QueueCopy]) -> Sequence[Sequence[QueueCopy]]:
    """Groups with at most one copy of each job: within one question the most current copy of a job decides, and would hide older ones."""
    groups: list[dict[str, QueueCopy]] = []
    for copy in copies:
        job_id = copy.event.job.job_id
        group = next((group for group in groups if job_id not in group), None)
        if group is None:
            groups.append(group := {})
        group[job_id] = copy
    return [list(group.values()) for group in groups]

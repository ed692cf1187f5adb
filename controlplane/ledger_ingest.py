"""Consumes events from `jobs.ledger` and writes them to the ledger in batches. They are acknowledged only after they are durable there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic, perf_counter
from typing import Final, TypeVar

from controlplane.audit_ingest import record_audit
from controlplane.isolation import apply_events, foreign_event, undecodable_event
from sickbay.concurrency.pauses import Backoff, jitter
from sickbay.concurrency.tasks import cooperatively
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.encodings import explain
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.messages.codec import Undecodable, decode_events, decode_job
from sickbay.observer import NOBODY, Observer
from sickbay.ports import Broker, Clock, Consumer, Delivery, LedgerWriter, Queue
from sickbay.ports.audit import AuditStore

MAX_MESSAGES: Final = 50
MAX_EVENTS: Final = 250
"""Written at a time: more would block the event loop for longer."""
PREFETCH: Final = 200
WRITE_RETRY_S: Final = 0.2
MAX_WRITE_RETRY_S: Final = 5.0
"""When the ledger is unavailable."""
MAX_FAULTS: Final = 5
"""Attempts after which a fault is regarded as caused by the events."""
CONSUME_RETRY_S: Final = 1.0
MAX_CONSUME_RETRY_S: Final = 10.0
"""When the broker is unavailable."""
STUCK_S: Final = 30.0
"""A batch takes milliseconds, and a statement times out after 20 s."""
LAG_MS: Final = 60_000
PRUNE_EVERY_S: Final = 3_600.0
PRUNE_RETRY_S: Final = 60.0
"""When the ledger is unavailable, doubled up to PRUNE_EVERY_S; the ingester logs that."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class LedgerIngester:
    """Writes events to the ledger. Several may run: the ledger merges by the order of truth."""

    def __init__(
        self,
        broker: Broker,
        ledger: LedgerWriter,
        clock: Clock,
        on_ingested: Callable[[Sequence[JobEvent]], None],
        observer: Observer = NOBODY,
        *,
        audit: AuditStore | None = None,
    ) -> None:
        """`on_ingested` is called with the events that were just written; `audit` gets the entries of the audit log."""
        self._audit = audit
        self._observer = observer
        self._broker = broker
        self._ledger = ledger
        self._clock = clock
        self._on_ingested = on_ingested
        self._consumer: Consumer | None = None
        self._stopping = asyncio.Event()
        self._consume_backoff = Backoff(CONSUME_RETRY_S, MAX_CONSUME_RETRY_S)
        self._prune_backoff = Backoff(PRUNE_RETRY_S, PRUNE_EVERY_S)
        self.is_busy = False
        """Whether it holds events that are not in the ledger yet."""
        self._busy_at = 0.0
        self._last_error = ""
        """Why the last attempt to write the current batch failed; "" if it did not."""
        self._lag: tuple[int, float] | None = None
        """The age of the last batch, in ms, and when it was applied."""
        self._has_ended = False

    async def run(self) -> None:
        """Consume until `stop`; while the ledger is unavailable, events wait in their queue and job states lag."""
        self._has_ended = False
        try:
            await self._ingest()
        finally:
            self._has_ended = True

    def trouble(self) -> str:
        """Why events do not reach the ledger, for the health of the service; "" if they do."""
        if self._has_ended:
            return "events are no longer consumed; restart this service"
        if self._last_error:
            return f"the ledger accepts no events, they wait, and job states are not updated: {self._last_error}"
        if self.is_busy and monotonic() - self._busy_at > STUCK_S:
            return "the ledger has not answered for a long time: events wait, and job states are not updated"
        return ""

    def lag(self) -> str:
        """How far job states lag behind, for the health of the service; "" if they do not."""
        if self._lag is None or self._lag[0] < LAG_MS or monotonic() - self._lag[1] > LAG_MS / 1000:
            return ""
        return f"states of jobs lag by more than {LAG_MS // 60_000} min: events are older when the ledger gets them"

    async def _ingest(self) -> None:
        async with self._broker.consume(Queue.LEDGER, PREFETCH) as consumer:
            self._consumer = consumer
            while (batch := await self._next(consumer)) is not None:
                self.is_busy = bool(batch)
                self._busy_at = monotonic()
                split = await self._record_audit(batch)
                if split is None:
                    return
                others, kept = split
                events = [*kept, *[event async for delivery in cooperatively(others) for event in self._read(delivery)]]
                for begin in range(0, len(events), MAX_EVENTS):
                    applied = await self._apply(events[begin : begin + MAX_EVENTS])
                    if applied is None:
                        return
                    self._lag = (self._clock() - min(event.at for event in applied), monotonic())
                    self._notify(applied)
                for delivery in batch:
                    delivery.ack()
                self.is_busy = False

    async def _next(self, consumer: Consumer) -> Sequence[Delivery] | None:
        """The next batch; None once the consumer was stopped."""
        try:
            batch = await consumer.get(MAX_MESSAGES)
        except Unavailable as error:
            wait_s = self._consume_backoff.next_s()
            log.warning("cannot consume events, retrying in %.1f s: %s", wait_s, error)
            await self._sleep(wait_s)
            return ()
        self._consume_backoff.reset()
        return batch or None

    async def stop(self) -> None:
        """Finish the current batch, or requeue it if the ledger is unavailable, and consume no more."""
        self._stopping.set()
        if self._consumer:
            await self._consumer.stop()

    async def prune(self) -> None:
        """Delete ended jobs after their retention, once an hour, until cancelled."""
        while True:
            try:
                forgotten = await self._ledger.prune(self._clock())
                if forgotten:
                    log.info("%d ended jobs were deleted after their retention", forgotten)
                self._prune_backoff.reset()
                wait_s = PRUNE_EVERY_S * jitter()
            except Unavailable:
                wait_s = self._prune_backoff.next_s()
            except Exception:
                log.exception("internal error while deleting ended jobs")
                wait_s = self._prune_backoff.next_s()
            await asyncio.sleep(wait_s)

    async def _apply(self, events: Sequence[JobEvent]) -> Sequence[JobEvent] | None:
        """Write them, with retries; None once stopping. Returns what was written: rejected events are replaced by jobs in quarantine."""

        async def write(isolate_faults: bool) -> Sequence[JobEvent]:  # noqa: FBT001 - as `_surely` calls it
            began = perf_counter()
            try:
                applied = await apply_events(self._ledger, events, self._clock(), isolate_faults=isolate_faults)
            except Unavailable as error:
                self._observer.ingested(events, perf_counter() - began, error)
                raise
            self._observer.ingested(applied, perf_counter() - began, None)
            return applied

        return await self._surely(write)

    async def _record_audit(self, batch: Sequence[Delivery]) -> tuple[Sequence[Delivery], Sequence[JobEvent]] | None:
        """Write the entries of the audit log, with retries; None once stopping. Returns the other messages, as `record_audit` does."""
        if (audit := self._audit) is None:
            return batch, ()
        return await self._surely(lambda isolate_faults: record_audit(audit, batch, self._clock(), isolate_faults=isolate_faults))

    async def _surely(self, write: Callable[[bool], Awaitable[T]]) -> T | None:
        """What `write` returns, tried until it does; None once stopping. Its argument: whether faults are to be isolated by now."""
        attempts, backoff = 0, Backoff(WRITE_RETRY_S, MAX_WRITE_RETRY_S)
        while True:
            try:
                written = await write(attempts >= MAX_FAULTS)
            except Unavailable as error:
                self._last_error = str(error)
            except Exception:
                self._last_error = "internal error, see the log"
                log.exception("internal error of the control plane or the ledger")
            else:
                self._last_error = ""
                return written
            if self._stopping.is_set():
                return None
            wait_s = round(backoff.next_s(), 2)
            log.warning("the ledger lags behind, retrying in %g s: %s", wait_s, self._last_error)
            await self._sleep(wait_s)
            attempts += 1

    async def _sleep(self, seconds: float) -> None:
        """Wait, unless stopping."""
        await wait_for_event(self._stopping, seconds)

    def _notify(self, events: Sequence[JobEvent]) -> None:
        """They are durable: an error in the listener must neither repeat them nor stop the ingester."""
        try:
            self._on_ingested(events)
        except Exception:
            log.exception("internal error in a listener of the ledger's changes")

    def _read(self, delivery: Delivery) -> Sequence[JobEvent]:
        """The events of a message. A bare job was dead-lettered by the broker; anything else is kept as undecodable."""
        now = self._clock()
        if delivery.is_foreign:
            log.warning("a message for the ledger was put into quarantine: another RabbitMQ user has published it (TRUSTED_USERS)")
            return [foreign_event(delivery.body, now)]
        try:
            return decode_events(delivery.body, now)
        except Undecodable as error:
            why = explain(str(error), delivery.body, delivery.encoding)
        try:
            job = decode_job(delivery.body, delivery.message_id, now, delivery.headers)
            return [JobEvent(job, JobState.QUARANTINED, now, reason=Reason.BROKER, code=Reason.BROKER.value)]
        except Undecodable:
            log.warning("a message on jobs.ledger could not be read and was put into quarantine: %s", why)
            return [undecodable_event(delivery.body, delivery.message_id, why, now)]

"""Drains `jobs.ledger` into the ledger, in batches. Events are acknowledged only after the ledger has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic, perf_counter
from typing import Final

from controlplane.isolation import tell, undecodable
from sickbay.concurrency.pauses import Pauses, spread
from sickbay.concurrency.tasks import in_turns
from sickbay.concurrency.waiting import set_within
from sickbay.domain.encodings import explain
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.messages.codec import Undecodable, decode_events, decode_job
from sickbay.observer import NOBODY, Observer
from sickbay.ports import Broker, Clock, Consumer, Delivery, LedgerWriter, Queue

MAX_MESSAGES: Final = 50
MAX_EVENTS: Final = 250
"""Written at a time: more of them would keep others from the event loop for longer."""
PREFETCH: Final = 200
BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
TAKE_AGAIN_S: Final = 1.0
LONGEST_TAKE_AGAIN_S: Final = 10.0
"""When the broker gave no events."""
STUCK_S: Final = 30.0
"""A batch takes milliseconds, and a statement is broken off after 20 s."""
LAG_MS: Final = 60_000
PRUNE_EVERY_S: Final = 3_600.0
PRUNE_AGAIN_S: Final = 60.0
"""When the ledger did not answer, doubled up to PRUNE_EVERY_S; the keeper tells that."""

log = logging.getLogger(__name__)


class LedgerIngester:
    """The ledger's writer of events. Several may run: the ledger merges by the order of truth."""

    def __init__(
        self,
        broker: Broker,
        ledger: LedgerWriter,
        clock: Clock,
        on_ingested: Callable[[Sequence[JobEvent]], None],
        observer: Observer = NOBODY,
    ) -> None:
        """`on_ingested` wakes those who act on what the ledger has just heard."""
        self._observer = observer
        self._broker = broker
        self._ledger = ledger
        self._clock = clock
        self._on_ingested = on_ingested
        self._consumer: Consumer | None = None
        self._stopping = asyncio.Event()
        self._takes = Pauses(TAKE_AGAIN_S, LONGEST_TAKE_AGAIN_S)
        self._prunes = Pauses(PRUNE_AGAIN_S, PRUNE_EVERY_S)
        self.is_busy = False
        """Whether events are in our hands that the ledger does not have yet."""
        self._busy_at = 0.0
        self._refused = ""
        """Why the ledger did not take the batch in hand when it was told last; "" if it was not told, or took it."""
        self._lag: tuple[int, float] | None = None
        """How old the last batch was, in ms, and when it was applied."""
        self._has_ended = False

    async def run(self) -> None:
        """Work until `stop`; while the ledger is out of reach, events wait in their queue and statuses lag."""
        self._has_ended = False
        try:
            await self._keep()
        finally:
            self._has_ended = True

    def trouble(self) -> str:
        """What keeps events from the ledger, for the health of the service; "" if nothing does."""
        if self._has_ended:
            return "events are no longer consumed; restart this service"
        if self._refused:
            return f"the ledger accepts no events, they wait, and job states are not updated: {self._refused}"
        if self.is_busy and monotonic() - self._busy_at > STUCK_S:
            return "the ledger has not answered for a long time: events wait, and job states are not updated"
        return ""

    def lag(self) -> str:
        """By how much states lag behind, for the health of the service; "" if that is not worth a word."""
        if self._lag is None or self._lag[0] < LAG_MS or monotonic() - self._lag[1] > LAG_MS / 1000:
            return ""
        return f"states of jobs lag by more than {LAG_MS // 60_000} min: events are older when the ledger gets them"

    async def _keep(self) -> None:
        async with self._broker.consume(Queue.LEDGER, PREFETCH) as consumer:
            self._consumer = consumer
            while (batch := await self._next(consumer)) is not None:
                self.is_busy = bool(batch)
                self._busy_at = monotonic()
                events = [event async for delivery in in_turns(batch) for event in self._read(delivery)]
                for begin in range(0, len(events), MAX_EVENTS):
                    told = await self._apply(events[begin : begin + MAX_EVENTS])
                    if told is None:
                        return
                    self._lag = (self._clock() - min(event.at for event in told), monotonic())
                    self._tell_others(told)
                for delivery in batch:
                    delivery.ack()
                self.is_busy = False

    async def _next(self, consumer: Consumer) -> Sequence[Delivery] | None:
        """What waits; None once the consumer was stopped."""
        try:
            batch = await consumer.get(MAX_MESSAGES)
        except Unavailable as error:
            wait_s = self._takes.next_s()
            log.warning("cannot consume events, retrying in %.1f s: %s", wait_s, error)
            await self._rest(wait_s)
            return ()
        self._takes.reset()
        return batch or None

    async def stop(self) -> None:
        """Finish the batch in hand, or give it back if the ledger does not answer, and take no more."""
        self._stopping.set()
        if self._consumer:
            await self._consumer.stop()

    async def prune(self) -> None:
        """Forget what is past its retention, once an hour, for as long as it is let run."""
        while True:
            try:
                forgotten = await self._ledger.prune(self._clock())
                if forgotten:
                    log.info("%d ended jobs were deleted after their retention", forgotten)
                self._prunes.reset()
                wait_s = PRUNE_EVERY_S * spread()
            except Unavailable:
                wait_s = self._prunes.next_s()
            except Exception:
                log.exception("internal error while deleting ended jobs")
                wait_s = self._prunes.next_s()
            await asyncio.sleep(wait_s)

    async def _apply(self, events: Sequence[JobEvent]) -> Sequence[JobEvent] | None:
        """What the ledger has of them; it is asked until it does, None once we are to stop. What it refuses stands in quarantine then."""
        attempt = 0
        while True:
            began = perf_counter()
            try:
                told = await tell(self._ledger, events, self._clock(), impatient=attempt >= len(BACKOFF_S))
            except Unavailable as error:
                self._refused = str(error)
                self._observer.ingested(events, perf_counter() - began, error)
            except Exception:
                self._refused = "internal error, see the log"
                log.exception("internal error of the control plane or the ledger")
            else:
                self._refused = ""
                self._observer.ingested(told, perf_counter() - began, None)
                return told
            if self._stopping.is_set():
                return None
            wait = round(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)] * spread(), 2)
            log.warning("the ledger lags behind, retrying in %g s: %s", wait, self._refused)
            await self._rest(wait)
            attempt += 1

    async def _rest(self, seconds: float) -> None:
        """Wait, but not when we are to stop."""
        await set_within(self._stopping, seconds)

    def _tell_others(self, events: Sequence[JobEvent]) -> None:
        """The ledger has them: nothing that goes wrong now may bring them back, or end the keeper."""
        try:
            self._on_ingested(events)
        except Exception:
            log.exception("internal error in a listener of the ledger's changes")

    def _read(self, delivery: Delivery) -> Sequence[JobEvent]:
        """The events of a message. A bare job was set aside by the broker itself; what is neither is kept as undecodable."""
        now = self._clock()
        try:
            return decode_events(delivery.body, now)
        except Undecodable as error:
            why = explain(str(error), delivery.body, delivery.encoding)
        try:
            job = decode_job(delivery.body, delivery.message_id, now, delivery.headers)
            return [JobEvent(job, JobState.QUARANTINED, now, reason=Reason.BROKER, code=Reason.BROKER.value)]
        except Undecodable:
            log.warning("a message on jobs.ledger could not be read and was put into quarantine: %s", why)
            return [undecodable(delivery.body, delivery.message_id, why, now)]

"""Drains `jobs.ledger` into the ledger, in batches. Events are acknowledged only after the ledger has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Final

from sickbay.envelope import Undecodable, decode_events, decode_job, undecodable_job
from sickbay.errors import Unavailable
from sickbay.job import Event, Reason, State
from sickbay.ports import Broker, Clock, Consumer, Delivery, LedgerWriter, Queue

MAX_MESSAGES: Final = 50
PREFETCH: Final = 200
BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
PRUNE_EVERY_S: Final = 3_600.0
PRUNE_AGAIN_S: Final = 60.0
"""When the ledger did not answer; the keeper tells that."""

log = logging.getLogger(__name__)


class Keeper:
    """The ledger's writer of events. Several may run: the ledger merges by the order of truth."""

    def __init__(self, broker: Broker, ledger: LedgerWriter, clock: Clock, on_change: Callable[[Sequence[Event]], None]) -> None:
        """`on_change` hears every batch after the ledger has it."""
        self._broker = broker
        self._ledger = ledger
        self._clock = clock
        self._on_change = on_change
        self._consumer: Consumer | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`; while the ledger is out of reach, events wait in their queue and statuses lag."""
        async with self._broker.consume(Queue.LEDGER, PREFETCH) as consumer:
            self._consumer = consumer
            while (batch := await self._next(consumer)) is not None:
                events = list(chain.from_iterable(map(self._read, batch)))
                if not await self._apply(events):
                    return
                for delivery in batch:
                    delivery.ack()
                self._on_change(events)

    async def _next(self, consumer: Consumer) -> Sequence[Delivery] | None:
        """What waits; None once the consumer was stopped."""
        try:
            return await consumer.get(MAX_MESSAGES) or None
        except Unavailable as error:
            log.warning("no events can be taken just now: %s", error)
            await asyncio.sleep(BACKOFF_S[-1])
            return ()

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
                    log.info("%d ended jobs are past their retention and were forgotten", forgotten)
                await asyncio.sleep(PRUNE_EVERY_S)
            except Unavailable:
                await asyncio.sleep(PRUNE_AGAIN_S)

    async def _apply(self, events: Sequence[Event]) -> bool:
        """Whether the ledger has them; it is asked until it does, or until we are to stop."""
        attempt = 0
        while True:
            try:
                await self._ledger.apply(events)
            except Unavailable as error:
                if self._stopping.is_set():
                    return False
                wait = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
                log.warning("the ledger lags behind, next try in %g s: %s", wait, error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._stopping.wait()
                attempt += 1
            else:
                return True

    def _read(self, delivery: Delivery) -> Sequence[Event]:
        """The events of a message. A bare job was set aside by the broker itself; what is neither is kept as undecodable."""
        now = self._clock()
        try:
            return decode_events(delivery.body)
        except Undecodable as error:
            why = str(error)
        try:
            job = decode_job(delivery.body, delivery.message_id, now, delivery.headers)
            return [Event(job, State.QUARANTINED, now, reason=Reason.BROKER, code=Reason.BROKER.value)]
        except Undecodable:
            log.warning("a message on jobs.ledger could not be read and was put into quarantine: %s", why)
            kept = undecodable_job(delivery.body, delivery.message_id, why, now)
            return [Event(kept, State.QUARANTINED, now, reason=Reason.UNDECODABLE, code=Reason.UNDECODABLE.value)]

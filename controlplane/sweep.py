"""Keeps `jobs.quarantine` true: its depth is the number of set-aside jobs, and every one of them has its complete copy there.

When a job leaves quarantine its copy stays behind as a ghost. The sweep walks from the head: a ghost is acknowledged, a live copy
goes to the tail, a copy the ledger does not know is told to the ledger and kept (so a lost ledger is rebuilt from the queue).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sickbay.envelope import Undecodable, decode_events, undecodable_job
from sickbay.errors import Unavailable
from sickbay.job import Event, Reason, State
from sickbay.ports import TO_QUARANTINE, Broker, Clock, Consumer, Delivery, LedgerWriter, Message, Queue

BATCH: Final = 100
PAUSE_S: Final = 0.02
"""Between batches, so that a large quarantine is walked without getting in anybody's way."""
LINGER_S: Final = 0.5
RECHECK_S: Final = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Swept:
    """What one round did."""

    ghosts: int = 0
    kept: int = 0
    told: int = 0
    seen: set[tuple[str, int, int]] = field(default_factory=set)


class Sweep:
    """One per control plane."""

    def __init__(self, broker: Broker, ledger: LedgerWriter, clock: Clock) -> None:
        """Nothing happens before `run`."""
        self._broker = broker
        self._ledger = ledger
        self._clock = clock
        self._due = asyncio.Event()
        self._due.set()

    def nudge(self) -> None:
        """Jobs have left the quarantine: sweep soon."""
        self._due.set()

    async def run(self) -> None:
        """Sweep whenever nudged, until depth and rows agree."""
        while True:
            await self._due.wait()
            self._due.clear()
            await asyncio.sleep(LINGER_S)
            try:
                while await self._surplus() > 0:
                    if not (await self.round()).ghosts:
                        break
                if await self._surplus():
                    asyncio.get_running_loop().call_later(RECHECK_S, self.nudge)
            except Unavailable as error:
                log.warning("the sweep of the quarantine waits: %s", error)
                asyncio.get_running_loop().call_later(RECHECK_S, self.nudge)

    async def round(self) -> Swept:
        """Look at each present copy once; stop early when no ghost is left."""
        swept = Swept()
        surplus = await self._surplus()
        left = await self._broker.depth(Queue.QUARANTINE)
        async with self._broker.consume(Queue.QUARANTINE, BATCH) as consumer:
            while left > 0 and swept.ghosts < surplus:
                left -= await self._batch(consumer, min(left, BATCH), swept)
                await asyncio.sleep(PAUSE_S)
        return swept

    async def _batch(self, consumer: Consumer, limit: int, swept: Swept) -> int:
        deliveries = await consumer.get(limit)
        copies = [(delivery, self._read(delivery)) for delivery in deliveries]
        live = await self._ledger.live([event.job for _, event in copies])
        unknown = [event for _, event in copies if live.get(event.job.job_id) is None]
        if unknown:
            await self._ledger.apply(unknown)
            swept.told += len(unknown)
        ghosts: list[Delivery] = []
        kept: list[Delivery] = []
        for delivery, event in copies:
            is_ghost = live.get(event.job.job_id) is False or _identity(event) in swept.seen
            (ghosts if is_ghost else kept).append(delivery)
            swept.seen.add(_identity(event))
        await self._keep(kept, swept)
        for delivery in ghosts:
            delivery.ack()
        swept.ghosts += len(ghosts)
        return len(deliveries)

    async def _keep(self, deliveries: Sequence[Delivery], swept: Swept) -> None:
        await self._broker.publish([Message(TO_QUARANTINE, delivery.body) for delivery in deliveries])
        for delivery in deliveries:
            delivery.ack()
        swept.kept += len(deliveries)

    async def _surplus(self) -> int:
        counts = await self._ledger.counts()
        rows = counts.get(State.PARKED, 0) + counts.get(State.QUARANTINED, 0)
        return await self._broker.depth(Queue.QUARANTINE) - rows

    def _read(self, delivery: Delivery) -> Event:
        try:
            return decode_events(delivery.body)[0]
        except (Undecodable, IndexError) as error:
            now = self._clock()
            kept = undecodable_job(delivery.body, delivery.message_id, str(error), now)
            return Event(kept, State.QUARANTINED, now, reason=Reason.UNDECODABLE, code=Reason.UNDECODABLE.value)


def _identity(event: Event) -> tuple[str, int, int]:
    """Two copies with the same one are the same copy, published twice."""
    return (event.job.job_id, event.job.generation, event.job.attempt)

"""Keeps `jobs.quarantine` true: its depth is the number of set-aside jobs, and every one of them has its complete copy there.

When a job leaves quarantine its copy stays behind as a ghost. The sweep walks from the head: a ghost is acknowledged, a live copy
goes to the tail, a copy the ledger does not know is told to the ledger and kept (so a lost ledger is rebuilt from the queue). Where
copies are missing (a broker killed in the middle of a publish kept the event for the ledger alone) they are made from the ledger.

One control plane sweeps at a time. Should two do so for a moment all the same, no last copy is destroyed: each moves copies under the
mark of its round, and takes for a second copy only one whose mark is older than its own round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sickbay.envelope import Undecodable, decode_events, encode_event, undecodable_job
from sickbay.errors import Unavailable
from sickbay.job import Event, Reason, State
from sickbay.ports import TO_QUARANTINE, Broker, Clock, Consumer, Delivery, LedgerWriter, Message, Queue

BATCH: Final = 100
PAUSE_S: Final = 0.02
"""Between batches, so that a large quarantine is walked without getting in anybody's way."""
LINGER_S: Final = 0.5
RECHECK_S: Final = 5.0
LOOK_EVERY_S: Final = 60.0
GET_S: Final = 5.0
"""A message that was counted and does not come by then is in somebody else's hands."""
SETTLED_MS: Final = 5_000
"""A job set aside more recently may have its copy still on the way."""
MARK: Final = "swept"
"""The header with the number of the round that moved a copy."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Swept:
    """What one round did; `number` grows from round to round, and is about the time of its begin (ms)."""

    number: int
    ghosts: int = 0
    kept: int = 0
    told: int = 0
    remade: int = 0
    around: bool = False
    seen: set[tuple[str, int, int]] = field(default_factory=set)


def _nobody(_: Swept) -> None:
    """The hook of whoever wants to hear nothing."""


class Sweep:
    """One per control plane."""

    def __init__(self, broker: Broker, ledger: LedgerWriter, clock: Clock, heard: Callable[[Swept], None] = _nobody) -> None:
        """Nothing happens before `run`; `heard` is told of every round."""
        self._heard = heard
        self._broker = broker
        self._ledger = ledger
        self._clock = clock
        self._due = asyncio.Event()
        self._due.set()
        self._last_round = 0
        self._was_short = False

    def nudge(self) -> None:
        """Jobs have left the quarantine: sweep soon."""
        self._due.set()

    async def run(self) -> None:
        """Sweep whenever nudged, and look once in a while, until depth and rows agree."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._due.wait()
            self._due.clear()
            await asyncio.sleep(LINGER_S)
            try:
                agreed = await self.look()
            except Unavailable as error:
                log.warning("the sweep of the quarantine waits: %s", error)
                agreed = False
            if not agreed:
                asyncio.get_running_loop().call_later(RECHECK_S, self.nudge)

    async def look(self) -> bool:
        """Compare, and do what is to be done; whether depth and rows agree in the end.

        Too few copies at one look may be on their way; if they are too few at the next look, too, the missing ones are made.
        """
        surplus = await self._surplus()
        if surplus:
            async with self._ledger.sweeping() as alone:
                if alone:
                    while surplus > 0 and (await self.round()).ghosts:
                        surplus = await self._surplus()
                    if surplus < 0 and self._was_short:
                        await self.restore()
                        surplus = await self._surplus()
        self._was_short = surplus < 0
        return surplus == 0

    async def round(self, *, whole: bool = False) -> Swept:
        """Look at each present copy once; stop early when no ghost is left, unless the `whole` queue is asked for."""
        self._last_round = max(self._clock(), self._last_round + 1)
        swept = Swept(self._last_round)
        surplus = await self._surplus()
        left = await self._broker.depth(Queue.QUARANTINE)
        async with self._broker.consume(Queue.QUARANTINE, BATCH) as consumer:
            while left > 0 and not swept.around and (whole or swept.ghosts < surplus):
                deliveries = await self._some(consumer, min(left, BATCH))
                if not deliveries:
                    break
                left -= len(deliveries)
                await self._batch(deliveries, swept)
                await asyncio.sleep(PAUSE_S)
        self._heard(swept)
        return swept

    async def restore(self) -> int:
        """Walk past all copies, and make those that are missing; how many. One too many is a second copy for the next round."""
        before = self._clock() - SETTLED_MS
        swept = await self.round(whole=True)
        after, made = "", 0
        while page := await self._ledger.set_aside(after, BATCH, before):
            after = page[-1].job.job_id
            missing = [event for event in page if _identity(event) not in swept.seen]
            if missing:
                await self._broker.publish([Message(TO_QUARANTINE, encode_event(event)) for event in missing])
            made += len(missing)
        if made:
            self._heard(Swept(swept.number, remade=made))
            log.warning("%d set-aside jobs had no copy in %s; their copies were made again", made, Queue.QUARANTINE)
        return made

    async def _some(self, consumer: Consumer, limit: int) -> Sequence[Delivery]:
        try:
            async with asyncio.timeout(GET_S):
                return await consumer.get(limit)
        except TimeoutError:
            return ()

    async def _batch(self, deliveries: Sequence[Delivery], swept: Swept) -> None:
        fresh = [delivery for delivery in deliveries if _mark(delivery) < swept.number]
        swept.around = len(fresh) < len(deliveries)
        copies = [(delivery, self._read(delivery)) for delivery in fresh]
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

    async def _keep(self, deliveries: Sequence[Delivery], swept: Swept) -> None:
        mark = {MARK: str(swept.number)}
        await self._broker.publish([Message(TO_QUARANTINE, delivery.body, headers=mark) for delivery in deliveries])
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


def _mark(delivery: Delivery) -> int:
    """The round that moved this copy; 0 for one that was never moved."""
    mark = delivery.headers.get(MARK, "")
    return int(mark) if mark.isdecimal() else 0

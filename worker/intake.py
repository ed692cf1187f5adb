"""Receives jobs from all lanes, starts as many as there are slots, and moves floods out of the way of others.

What comes is decoded once and kept in hand, a bounded number for each lane. Whenever a slot is free, `lanes.py` says which job starts. If a
lane's hand is full and its jobs wait for long, those flows that fill it are floods: what of theirs cannot start is moved to the lane of the
demoted, so that the worker receives what stands behind it. Moving costs about as much as a run that does nothing: so flows whose jobs are
worked off as fast as they could be moved are left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

from sickbay.domain.errors import Unavailable
from sickbay.domain.job import Job
from sickbay.domain.lane import DEMOTABLE, Flow, Lane
from sickbay.fleet import FleetView
from sickbay.messages.codec import decode_job
from sickbay.ports import LANES, Broker, Clock, Consumer, Delivery
from worker.demotion import Demotion
from worker.lanes import Hand, Rotation
from worker.received import Received
from worker.shares import Shares
from worker.slots import Slots

MOVED_PER_S: Final = 500
"""Jobs that are worked off faster than this are not worth moving."""
PATIENCE_S: Final = 0.02
AGAIN_S: Final = 0.25
"""How soon a full hand without floods is looked at again."""
MOST_IN_HAND: Final = 50
LEAST_IN_HAND: Final = 8
log = logging.getLogger(__name__)


class Intake:
    """One per worker; `run` works until `stop`."""

    def __init__(
        self,
        *,
        broker: Broker,
        slots: Slots,
        shares: Shares,
        demotion: Demotion[Received],
        fleet: FleetView,
        concurrency: int,
        prefetch: int,
        clock: Clock,
        start: Callable[[Received], None],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        """`start` begins to process one that has a slot; `pause` waits while the broker is unavailable."""
        self._broker, self._slots, self._shares, self._demotion, self._fleet = broker, slots, shares, demotion, fleet
        self._prefetch, self._clock, self._start, self._pause = prefetch, clock, start, pause
        self._in_hand = max(LEAST_IN_HAND, min(concurrency, MOST_IN_HAND))
        self._patience_s = max(PATIENCE_S, self._in_hand / MOVED_PER_S)
        self._hands: Mapping[Lane, Hand[Received]] = {lane: Hand() for lane in LANES}
        self._moving = dict.fromkeys(LANES, 0)
        self._room = {lane: asyncio.Event() for lane in LANES}
        self._waiting = 0
        """How many jobs are in all hands."""
        self._full: set[Lane] = set()
        """Lanes of which nothing is received for want of room."""
        self._rotation = Rotation()
        self._consumers: dict[Lane, Consumer] = {}
        self._judge: asyncio.TimerHandle | None = None
        self._judging: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._now: Callable[[], float] = float
        self.on_flood: Callable[[], None] = _nothing
        """Called when a flow is found to flood."""
        demotion.on_moved, demotion.on_failed = self._moved, self._not_moved

    async def run(self, ready: Callable[[], None], ending: Callable[[], Awaitable[None]]) -> None:
        """Subscribe to all lanes, call `ready`, and receive until `stop`; what is unsettled is given back after `ending`."""
        self._now = asyncio.get_running_loop().time
        async with AsyncExitStack() as stack:
            for lane, queue in LANES.items():
                self._consumers[lane] = await stack.enter_async_context(self._broker.consume(queue, self._prefetch))
            if not self._stopped.is_set():
                ready()
            pumps = [asyncio.create_task(self._pump(lane, consumer), name=f"lane {lane}") for lane, consumer in self._consumers.items()]
            try:
                await asyncio.gather(*pumps)
                await ending()
            finally:
                for pump in pumps:
                    pump.cancel()
                await self._end_judging()

    async def stop(self) -> None:
        """Receive no more; what has not started goes back unseen."""
        self._stopped.set()
        await self._end_judging()
        for one in await self._demotion.close():
            self._hands[one.lane].add_first(one)
        for lane, consumer in self._consumers.items():
            consumer.put_back([one.delivery for one in self._hands[lane].clear()])
            self._room[lane].set()
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers.values()))

    @property
    def floods(self) -> frozenset[Flow]:
        """The flows that flood this worker now."""
        return self._shares.floods(self._now())

    def give(self, flow: Flow) -> None:
        """A job of the flow lends its slot."""
        self._shares.end(flow)
        self._slots.give()
        self._turn()

    def take(self, flow: Flow) -> None:
        """A job of the flow takes a slot, also one that it lent."""
        self._shares.begin(flow)
        self._slots.take()

    def end(self, one: Received) -> None:
        """A job has ended."""
        self._shares.end(one.flow, self._now() - one.at)
        self._slots.give()
        self._turn()

    async def _pump(self, lane: Lane, consumer: Consumer) -> None:
        """Receive the jobs of a lane, as many as there is room for."""
        room = self._room[lane]
        while not self._stopped.is_set():
            limit = self._in_hand + max(0, self._slots.left) - self._hands[lane].size - self._moving[lane]
            if limit <= 0:
                room.clear()
                self._full.add(lane)
                await room.wait()
                self._full.discard(lane)
                continue
            try:
                batch = await consumer.get(limit)
            except Unavailable as error:
                log.warning("cannot consume jobs, retrying: %s", error)
                await self._pause()
                continue
            if not batch:
                return
            if self._stopped.is_set():
                consumer.put_back(batch)
                return
            self._receive(lane, batch)

    def _receive(self, lane: Lane, batch: Sequence[Delivery]) -> None:
        now, hand = self._now(), self._hands[lane]
        for delivery in batch:
            one = Received(self, delivery, lane, self._decoded(delivery), now)
            self._shares.saw(one.flow, now)
            if not self._waiting and self._slots.left > 0 and self._shares.may_start(one.flow, now):
                self._begin(one, now)
            else:
                hand.add(one)
                self._waiting += 1
        self._turn()

    def _begin(self, one: Received, now: float) -> None:
        one.at = now
        self.take(one.flow)
        self._start(one)

    def _decoded(self, delivery: Delivery) -> Job | None:
        """None if it is no job: that is found again, and settled, where it is processed."""
        try:
            return decode_job(delivery.body, delivery.message_id, self._clock(), delivery.headers)
        except Exception:  # noqa: BLE001 - said above
            return None

    def _turn(self) -> None:
        """Start what can start, then make room."""
        if self._stopped.is_set():
            return
        if self._waiting:
            self._start_all()
            self._demote()
        for lane in self._full:
            if self._hands[lane].size + self._moving[lane] < self._in_hand:
                self._room[lane].set()

    def _start_all(self) -> None:
        now = self._now()

        def may_start(flow: Flow) -> bool:
            return self._shares.may_start(flow, now)

        while self._slots.left > 0:
            ready: dict[Lane, Flow] = {}
            for lane, hand in self._hands.items():
                if hand.size:
                    flow = hand.startable(may_start)
                    if flow is not None:
                        ready[lane] = flow
                else:
                    self._rotation.idle(lane)
            if not ready:
                return
            lane = self._rotation.next(ready)
            self._waiting -= 1
            self._begin(self._hands[lane].take(ready[lane]), now)

    def _demote(self) -> None:
        """Move what of known floods cannot start; if a hand is full, see whether there are new ones."""
        now = self._now()
        for flow in self._shares.floods(now) if self._shares.has_floods else ():
            if flow in self._hands[Lane.DEMOTED]:
                self._shares.flood(flow, now)
            self._move(flow)
        self._judge_in(self._patience_s)

    def _judge_in(self, seconds: float) -> None:
        if self._judge is None and self._judging is None and any(self._is_full(lane) for lane in DEMOTABLE):
            self._judge = asyncio.get_running_loop().call_later(seconds, self._begin_judging)

    def _is_full(self, lane: Lane) -> bool:
        return self._hands[lane].size >= self._in_hand

    def _begin_judging(self) -> None:
        self._judge = None
        if not self._stopped.is_set() and any(self._is_full(lane) for lane in DEMOTABLE):
            self._judging = asyncio.create_task(self._find_floods(), name="floods")

    def _waits_long(self, lane: Lane) -> bool:
        return self._is_full(lane) and self._now() - min(one.at for one in self._hands[lane]) >= self._patience_s

    async def _find_floods(self) -> None:
        """Flows that fill a hand are floods, if every worker takes from the lane of the demoted."""
        try:
            fleet = await self._fleet.look()
        finally:
            self._judging = None
        if self._stopped.is_set():
            return
        crowd = [flow for lane in DEMOTABLE if self._waits_long(lane) for flow in self._crowd(lane)] if fleet.takes_lanes else []
        for flow in crowd:
            self._found(flow)
        if crowd:
            self._turn()
        else:
            self._judge_in(AGAIN_S)

    def _crowd(self, lane: Lane) -> Sequence[Flow]:
        """The flows that fill this hand and the slots: each has at least half of what would be its equal part of either."""
        counts, now = self._hands[lane].counts, self._now()
        parts = 2 * len(counts)
        crowd = [flow for flow, count in counts.items() if flow.job_type and count > max(2, self._in_hand / parts)]
        return [flow for flow in crowd if self._shares.holds_part(flow, parts, now)]

    def _found(self, flow: Flow) -> None:
        now = self._now()
        if not self._shares.is_flood(flow, now):
            log.info("%s of tenant %s floods its lane: what is beyond its share waits behind others", flow.job_type, flow.tenant)
            self._shares.flood(flow, now)
            self.on_flood()

    def _move(self, flow: Flow) -> None:
        for lane in DEMOTABLE:
            taken = self._hands[lane].take_all(flow)
            if taken:
                self._waiting -= len(taken)
                self._moving[lane] += len(taken)
                self._shares.flood(flow, self._now())
                self._demotion.move(taken)

    def _moved(self, moved: Sequence[Received]) -> None:
        for one in moved:
            self._moving[one.lane] -= 1
        self._turn()

    def _not_moved(self, left: Sequence[Received]) -> None:
        """They wait in hand, and their flows are no floods until that is found again."""
        for one in reversed(left):
            self._moving[one.lane] -= 1
            self._shares.calm(one.flow)
            self._hands[one.lane].add_first(one)
            self._waiting += 1
        if not self._stopped.is_set():
            self._judge_in(AGAIN_S)

    async def _end_judging(self) -> None:
        if self._judge is not None:
            self._judge.cancel()
            self._judge = None
        if self._judging is not None:
            self._judging.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._judging


def _nothing() -> None:
    """Nobody wants to know."""

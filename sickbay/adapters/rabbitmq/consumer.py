"""A consumer that outlives sessions, and what it does with messages that must not simply be handed out or given back.

Two kinds of messages in the queues of lanes are replaced by a copy at the tail (publish, confirm, then ack the original):

- those of foreign programs without a `message_id`, because only an id that stays tells a job from its redelivery;
- those RabbitMQ sent us that nobody has seen when we stop: given back they would be marked as redelivered, and a fleet that is
  restarted would take every job that merely waited for a suspect.

Should we die between confirm and ack, both exist; the original comes again marked as redelivered, as any message would.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Sequence
from itertools import accumulate
from random import SystemRandom
from typing import Final

from sickbay.adapters.rabbitmq.budget import Budget
from sickbay.adapters.rabbitmq.delivery import RabbitDelivery
from sickbay.adapters.rabbitmq.properties import Users, copied
from sickbay.adapters.rabbitmq.publisher import Parcel, Publisher
from sickbay.adapters.rabbitmq.session import Session
from sickbay.adapters.rabbitmq.subscription import Subscription
from sickbay.adapters.rabbitmq.supervisor import ConnectionSupervisor
from sickbay.adapters.rabbitmq.topology import tail_route
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import Unavailable
from sickbay.ports import AnyQueue, Delivery

_PAUSE_S: Final = 1.0
_COPIED_BYTES: Final = 4 * 1024 * 1024
_LONGEST_PAUSE_S: Final = 10.0

log = logging.getLogger(__name__)


class RabbitConsumer:
    """See `sickbay.ports.Consumer`. After a lost session it subscribes again by itself: `get` just goes on waiting."""

    def __init__(self, link: ConnectionSupervisor, publisher: Publisher, queue: AnyQueue, budget: Budget, users: Users) -> None:
        """`enter` makes it work; `users` tell our messages from those of others."""
        self.users = users
        self.queue = queue
        self._tail = tail_route(queue)
        self._link = link
        self._publisher = publisher
        self._budget = budget
        self._fitting: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None
        self._one_at_a_time = asyncio.Lock()
        self._arrived = asyncio.Event()
        self._stopped = asyncio.Event()
        self._strays: list[RabbitDelivery] = []
        self._clearing: asyncio.Task[None] | None = None

    async def enter(self) -> None:
        """Subscribe, now or as soon as there is a session."""
        self._link.add(self)
        session = self._link.current
        if session is not None:
            try:
                await self.joined(session)
            except Unavailable:
                session.lost.set()

    async def get(self, limit: int) -> Sequence[Delivery]:
        """Wait for at least one message and return up to `limit`; empty once stopped. Waits while RabbitMQ is away."""
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        while not self._stopped.is_set():
            if self._subscription is not None and (taken := self._subscription.take(limit)):
                return taken
            self._arrived.clear()
            await self._arrived.wait()
        return ()

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return what nobody has looked at, to be handed out first."""
        for delivery in reversed(deliveries):
            if isinstance(delivery, RabbitDelivery) and delivery.subscription is self._subscription:
                self._subscription.untake(delivery)
        self._arrived.set()

    async def stop(self) -> None:
        """Take no more; what nobody has seen goes back at once, what is in our hands can still be settled."""
        self._stopped.set()
        self._arrived.set()
        async with self._one_at_a_time:
            subscription = self._subscription
            if subscription is not None:
                for delivery in await subscription.stop():
                    self._take_charge(delivery)
                await self._cleared()
                await subscription.flush()

    async def release(self) -> None:
        """Stop, and give back what is still in our hands; settling that afterwards does nothing."""
        self._link.remove(self)
        await self.stop()
        async with self._one_at_a_time:
            await self._cleared()
            if self._subscription is not None:
                await self._subscription.close()
                self._subscription = None
        if self._fitting is not None:
            await asyncio.wait([self._fitting])

    @property
    def waiting(self) -> int:
        """How many messages RabbitMQ has sent us that nobody has seen."""
        return len(self._strays) + (self._subscription.waiting if self._subscription is not None else 0)

    async def joined(self, session: Session) -> None:
        """See `link.Member`."""
        async with self._one_at_a_time:
            if self._stopped.is_set() or self._subscription is not None:
                return
            subscription = await Subscription.open(session, self.queue.value, self._budget, self._wake, self._is_stray, users=self.users)
            if session.is_lost:
                # `left` was or will be called for a session that we were not yet seen in.
                subscription.void()
                raise Unavailable("the connection to RabbitMQ was lost")
            self._subscription = subscription
        self._wake()  # what has come already may have made its prefetch unfit

    def _wake(self) -> None:
        """There is something to hand out, or the prefetch is not the best any more."""
        self._arrived.set()
        if self._subscription is not None and self._subscription.is_unfit and (self._fitting is None or self._fitting.done()):
            self._fitting = asyncio.create_task(self._fit(), name="rabbitmq prefetch")

    async def _fit(self) -> None:
        async with self._one_at_a_time:
            subscription = self._subscription
            while subscription is not None and subscription is self._subscription and subscription.is_unfit:
                try:
                    await subscription.fit()
                except Unavailable:
                    subscription.end_session()
                    return

    def left(self) -> None:
        """See `link.Member`."""
        if self._subscription is not None:
            self._subscription.void()
            self._subscription = None
        self._strays.clear()

    def _is_stray(self, delivery: RabbitDelivery) -> bool:
        if not self._stopped.is_set():
            if delivery.message_id:
                return False
            if self._tail is None:
                # Events and copies of jobs have their ids inside; this one is only for the log.
                delivery.message_id = hashlib.blake2b(delivery.body, digest_size=16).hexdigest()
                return False
        self._take_charge(delivery)
        return True

    def _take_charge(self, delivery: RabbitDelivery) -> None:
        self._strays.append(delivery)
        if self._clearing is None or self._clearing.done():
            self._clearing = asyncio.create_task(self._clear(), name="rabbitmq strays")

    async def _clear(self) -> None:
        """Replace strays by copies, or give them back; one that cannot be replaced waits, or once we have stopped is given back."""
        pause = _PAUSE_S
        while batch := self._some_strays():
            movable = [stray for stray in batch if self._is_movable(stray)]
            try:
                await self._publish_copies(movable)
            except Unavailable as error:
                if not self._stopped.is_set():
                    log.warning("%d messages without an id wait, retrying: %s", len(batch), error)
                    await self._pause(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
                    continue
                movable = []
            moved, seen = set(movable), set(batch)
            for stray in batch:
                stray.subscription.settle(stray, is_done=stray in moved)
            self._strays = [stray for stray in self._strays if stray not in seen]

    def _some_strays(self) -> Sequence[RabbitDelivery]:
        """The first, as many as may be on their way at a time: the driver copies each."""
        sizes = accumulate(len(stray.body) for stray in self._strays)
        return self._strays[: max(1, sum(size <= _COPIED_BYTES for size in sizes))]

    def _is_movable(self, delivery: RabbitDelivery) -> bool:
        return self._tail is not None and not (delivery.redelivered and delivery.message_id)

    async def _publish_copies(self, deliveries: Sequence[RabbitDelivery]) -> None:
        tail = self._tail
        if not deliveries or tail is None:
            return
        parcels = [
            Parcel(tail, copied(delivery.properties, delivery.message_id or secrets.token_hex(16), self.users), delivery.body)
            for delivery in deliveries
        ]
        await self._publisher.publish(parcels)

    async def _pause(self, seconds: float) -> None:
        await wait_for_event(self._stopped, seconds * SystemRandom().uniform(0.8, 1.2))

    async def _cleared(self) -> None:
        if self._clearing is not None:
            await asyncio.wait([self._clearing])

"""One consumer's channel in one session: takes in what RabbitMQ sends, and tells it what was settled."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from aiormq import Channel
from aiormq.abc import ChannelFrame, DeliveredMessage
from pamqp.commands import Basic

from sickbay.adapters.rabbitmq.properties import received
from sickbay.adapters.rabbitmq.session import Session, open_channel
from sickbay.adapters.rabbitmq.settling import Settlements
from sickbay.adapters.rabbitmq.translate import translated
from sickbay.errors import Unavailable

RPC_TIMEOUT_S: Final = 5.0
_ARRIVAL_S: Final = 1.0
KEEP_S: Final = 120.0
"""What we have held for longer goes to RabbitMQ when it is given back: its time there (30 minutes) begins anew only so."""


class RabbitDelivery:
    """One message in our hands; see `sickbay.ports.Delivery`."""

    __slots__ = ("arrived", "body", "came_back", "message_id", "properties", "redelivered", "subscription", "tag")

    def __init__(
        self, subscription: Subscription, tag: int, body: bytes, properties: Basic.Properties, *, redelivered: bool, came_back: bool = False
    ) -> None:
        """Only subscriptions make these. `came_back`: it has been in our hands in this session before."""
        self.subscription = subscription
        self.tag = tag
        self.body = body
        self.properties = properties
        self.message_id = properties.message_id or ""
        self.redelivered = redelivered
        self.came_back = came_back
        self.arrived = monotonic()

    def __lt__(self, other: RabbitDelivery) -> bool:
        return self.tag < other.tag

    @property
    def headers(self) -> Mapping[str, str]:
        """What was published with it."""
        return received(self.properties.headers)

    @property
    def held_s(self) -> float:
        """For how long RabbitMQ has waited for a word about it."""
        return monotonic() - self.arrived

    def ack(self) -> None:
        """Destroy the message; it comes back if we die before RabbitMQ heard it."""
        self.subscription.ack(self)

    def nack(self) -> None:
        """Give the message back to the head of its queue, marked as redelivered."""
        self.subscription.nack(self)


Stray = Callable[[RabbitDelivery], bool]
"""Looks at each new delivery; True takes charge of it, so that it is not handed out."""


class Subscription:
    """Lives as long as its session; afterwards settling does nothing, and RabbitMQ delivers again what was not settled."""

    def __init__(self, session: Session, channel: Channel, *, queue: str, prefetch: int, wake: Callable[[], None], is_stray: Stray) -> None:
        """`wake` is called when there is something to hand out."""
        self._queue = queue
        self._prefetch = prefetch
        self._session = session
        self._channel = channel
        self._wake = wake
        self._is_stray = is_stray
        self._tag = ""
        self._last_tag = 0
        self._is_alive = True
        self._is_stopped = False
        self._ready: deque[RabbitDelivery] = deque()
        self._back: list[RabbitDelivery] = []
        self._in_hands: dict[int, RabbitDelivery] = {}
        self._settlements = Settlements()
        self._wish = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._settling = asyncio.create_task(self._settle(), name="rabbitmq settling")
        channel.closing.add_done_callback(self._channel_closed)
        channel.on_consumer_cancel_callbacks.add(self._channel_closed)

    @classmethod
    async def open(cls, session: Session, queue: str, prefetch: int, wake: Callable[[], None], is_stray: Stray) -> Subscription:
        """Subscribe on a channel of its own; Unavailable if the session cannot."""
        with translated():
            async with asyncio.timeout(RPC_TIMEOUT_S):
                channel = await open_channel(session.connection)
                subscription = cls(session, channel, queue=queue, prefetch=prefetch, wake=wake, is_stray=is_stray)
                try:
                    await channel.basic_qos(prefetch_count=prefetch)
                    subscription._tag = (await channel.basic_consume(queue, subscription._arrived)).consumer_tag or ""
                except BaseException:
                    subscription.void()
                    raise
        return subscription

    @property
    def waiting(self) -> int:
        """How many messages are here and in nobody's hands."""
        return len(self._ready) + len(self._back)

    def take(self, limit: int) -> Sequence[RabbitDelivery]:
        """Up to `limit` of them, those that came back first."""
        taken = [heapq.heappop(self._back) for _ in range(min(limit, len(self._back)))]
        taken += [self._ready.popleft() for _ in range(min(limit - len(taken), len(self._ready)))]
        self._in_hands.update((delivery.tag, delivery) for delivery in taken)
        return taken

    def ack(self, delivery: RabbitDelivery) -> None:
        """Destroy a message in our hands."""
        if self._let_go(delivery):
            self.settle(delivery, is_done=True)

    def nack(self, delivery: RabbitDelivery) -> None:
        """Give back a message in our hands.

        The first time it stays here, at the head of what is handed out next, as RabbitMQ would send it. Should it be given back
        again, or should we have stopped, it goes to RabbitMQ, so that another process may do better with it; so does what we have
        held for long.
        """
        if not self._let_go(delivery):
            return
        if delivery.came_back or self._is_stopped or delivery.held_s > KEEP_S:
            self.settle(delivery, is_done=False)
            return
        again = RabbitDelivery(self, delivery.tag, delivery.body, delivery.properties, redelivered=True, came_back=True)
        again.arrived = delivery.arrived
        heapq.heappush(self._back, again)
        self._wake()

    def settle(self, delivery: RabbitDelivery, *, is_done: bool) -> None:
        """Tell RabbitMQ that this one is done or goes back, soon and together with what else is settled in this turn of the loop."""
        if is_done:
            self._settlements.ack(delivery.tag)
        else:
            self._settlements.nack(delivery.tag)
        self._wish.set()

    async def stop(self) -> Sequence[RabbitDelivery]:
        """Take no more; those never handed out are the caller's to settle. Those that came back go to RabbitMQ."""
        self._is_stopped = True
        if self._is_alive:
            try:
                with translated():
                    async with asyncio.timeout(RPC_TIMEOUT_S):
                        await self._cancel()
            except Unavailable:
                self._session.lost.set()
                self.void()
        back, self._back = self._back, []
        unseen = list(self._ready)
        self._ready.clear()
        for delivery in back:
            self.settle(delivery, is_done=False)
        return unseen

    async def _cancel(self) -> None:
        """End the subscription when nothing is on its way: RabbitMQ would mark that as redelivered, and the driver throw it away.

        Acks wait meanwhile, for each would bring another message.
        """
        async with self._one_at_a_time:
            await self._arrivals()
            callback = self._channel.consumers[self._tag]
            # Without CancelOk, on which the driver forgets the callback.
            await self._channel.basic_cancel(self._tag, nowait=True)
            self._channel.consumers[self._tag] = callback
            for _ in range(2):
                # The first answer may overtake what was sent before the server had cancelled; the second cannot.
                await self._channel.basic_qos(prefetch_count=1)

    async def _arrivals(self) -> None:
        """Wait a moment for what is on its way: it has all arrived once we have as many as we may, or the queue has no more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _ARRIVAL_S
        while self._last_tag - self._settlements.told < self._prefetch and loop.time() < deadline:
            if not (await self._channel.queue_declare(self._queue, passive=True)).message_count:
                return

    async def flush(self) -> None:
        """Hand everything settled so far to the connection."""
        async with self._one_at_a_time:
            frames = self._settlements.frames()
            if frames and self._is_alive:
                # Not `basic_ack`: one write for all of them. An ack must not overtake an earlier one, hence the lock.
                await self._channel.write_queue.put(ChannelFrame.marshall(self._channel.number, frames))

    async def close(self) -> None:
        """Give back what is still in our hands, after RabbitMQ has heard everything that was settled."""
        if self._is_alive:
            with suppress(Unavailable), translated():
                async with asyncio.timeout(RPC_TIMEOUT_S):
                    await self.flush()
                    self._is_alive = False
                    await self._channel.close()
        self.void()
        await asyncio.gather(self._settling, return_exceptions=True)

    def void(self) -> None:
        """The session is lost: RabbitMQ has taken everything back."""
        self._is_alive = False
        self._ready.clear()
        self._back.clear()
        self._in_hands.clear()
        self._settling.cancel()

    async def _arrived(self, message: DeliveredMessage) -> None:
        """The driver's callback: only puts the message where `take` finds it."""
        frame: Any = message.delivery
        self._last_tag = frame.delivery_tag
        delivery = RabbitDelivery(self, frame.delivery_tag, message.body, message.header.properties, redelivered=frame.redelivered)
        if not self._is_stray(delivery):
            self._ready.append(delivery)
            self._wake()

    def _let_go(self, delivery: RabbitDelivery) -> bool:
        # The same message may be in our hands again, as a later delivery: an old one must not settle that.
        if self._in_hands.get(delivery.tag) is not delivery:
            return False
        del self._in_hands[delivery.tag]
        return True

    async def _settle(self) -> None:
        while True:
            await self._wish.wait()
            self._wish.clear()
            await self.flush()

    def _channel_closed(self, _: object) -> None:
        """RabbitMQ closed the channel or the subscription: with a new session everything is looked at anew."""
        if self._is_alive:
            self._session.lost.set()

"""One consumer's channel in one session: takes in what RabbitMQ sends, and tells it what was settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from aiormq import Channel
from aiormq.abc import ChannelFrame, DeliveredMessage

from sickbay.adapters.rabbitmq.ack_batch import AckBatch
from sickbay.adapters.rabbitmq.address import HEARTBEAT_S
from sickbay.adapters.rabbitmq.budget import Budget
from sickbay.adapters.rabbitmq.delivery import RabbitDelivery
from sickbay.adapters.rabbitmq.errors import translated
from sickbay.adapters.rabbitmq.intake import Intake
from sickbay.adapters.rabbitmq.properties import Users
from sickbay.adapters.rabbitmq.session import Session, open_channel
from sickbay.adapters.rabbitmq.unacknowledged import Unacknowledged
from sickbay.domain.errors import Unavailable

RPC_TIMEOUT_S: Final = 5.0
MAX_SILENCE_S: Final = 3.0 * HEARTBEAT_S
"""A server that has not been heard for so long (two heartbeats end a connection) does not know us any more."""
KEEP_S: Final = 120.0
"""What we have held for longer goes to RabbitMQ when it is given back: its time there (30 minutes) begins anew only so."""


Stray = Callable[[RabbitDelivery], bool]
"""Looks at each new delivery; True takes charge of it, so that it is not handed out."""


class Subscription:
    """Lives as long as its session; afterwards settling does nothing, and RabbitMQ delivers again what was not settled."""

    def __init__(
        self, session: Session, channel: Channel, *, queue: str, budget: Budget, wake: Callable[[], None], is_stray: Stray, users: Users
    ) -> None:
        """`wake` is called when there is something to hand out, or `is_unfit` may have become true.

        `users` tell our messages from those of others.
        """
        self.users = users
        self._budget = budget
        self._session = session
        self._channel = channel
        self._wake = wake
        self._is_stray = is_stray
        self._settlements = AckBatch()
        self._intake = Intake(channel, queue, self._settlements, self._arrived)
        self._lent = Unacknowledged(budget)
        self._surplus: list[int] = []
        self._is_alive = True
        self._is_stopped = False
        self._wish = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._settling = asyncio.create_task(self._settle(), name="rabbitmq settling")
        channel.closing.add_done_callback(self._channel_closed)
        channel.on_consumer_cancel_callbacks.add(self._channel_closed)

    @classmethod
    async def open(
        cls, session: Session, queue: str, budget: Budget, wake: Callable[[], None], is_stray: Stray, *, users: Users
    ) -> Subscription:
        """Subscribe on a channel of its own; Unavailable if the session cannot."""
        with translated():
            async with asyncio.timeout(RPC_TIMEOUT_S):
                channel = await open_channel(session.connection)
                subscription = cls(session, channel, queue=queue, budget=budget, wake=wake, is_stray=is_stray, users=users)
                try:
                    await subscription._intake.begin(budget.fitting())
                except BaseException:
                    subscription.void()
                    raise
        return subscription

    @property
    def prefetch(self) -> int:
        """How many messages RabbitMQ sends at a time."""
        return self._intake.prefetch

    @property
    def is_unfit(self) -> bool:
        """Whether `fit` has something to do."""
        return self._is_alive and not self._is_stopped and (bool(self._surplus) or self._budget.better(self.prefetch) is not None)

    async def fit(self) -> None:
        """Subscribe again with the prefetch that the budget allows, and give back what came beyond it.

        Raises Unavailable if the session is of no use any more.
        """
        better = self._budget.better(self.prefetch) if not self._surplus else 1 if self.prefetch > 1 else None
        with translated():
            async with asyncio.timeout(RPC_TIMEOUT_S), self._one_at_a_time:
                if not self._is_alive or self._is_stopped:
                    return
                if better is not None:
                    await self._intake.change(better)
        self._return_surplus()

    @property
    def waiting(self) -> int:
        """How many messages are here and in nobody's hands."""
        return self._lent.waiting + len(self._surplus)

    @property
    def is_lost(self) -> bool:
        """Whether RabbitMQ has taken everything back, or must have by now."""
        return not self._is_alive or self._session.is_lost or self._session.transport.silence_s > MAX_SILENCE_S

    def take(self, limit: int) -> Sequence[RabbitDelivery]:
        """Up to `limit` of them and as many bytes as fit, those that came back first."""
        return self._lent.take(limit)

    def ack(self, delivery: RabbitDelivery) -> None:
        """Destroy a message in our hands."""
        if self._lent.let_go(delivery):
            self.settle(delivery, is_done=True)
        self._release(delivery)

    def nack(self, delivery: RabbitDelivery) -> None:
        """Give back a message in our hands.

        The first time it stays here, at the head of what is handed out next, as RabbitMQ would send it. Should it be given back
        again, or should we have stopped, it goes to RabbitMQ, so that another process may do better with it; so does what we have
        held for long.
        """
        if not self._lent.let_go(delivery):
            self._release(delivery)
            return
        if delivery.came_back or self._is_stopped or delivery.held_s > KEEP_S:
            self.settle(delivery, is_done=False)
            return
        again = RabbitDelivery(self, delivery.tag, delivery.body, delivery.properties, redelivered=True, came_back=True)
        again.arrived = delivery.arrived
        self._release(delivery)
        self._lent.hold(again)
        self._lent.put_back(again)
        self._wake()

    def untake(self, delivery: RabbitDelivery) -> None:
        """Nobody has looked at it: it is handed out next, as if it had not been taken."""
        if self._lent.let_go(delivery):
            self._lent.untake(delivery)

    def settle(self, delivery: RabbitDelivery, *, is_done: bool) -> None:
        """Tell RabbitMQ that this one is done or goes back, soon and together with what else is settled in this turn of the loop."""
        if is_done:
            self._settlements.ack(delivery.tag)
        else:
            self._settlements.nack(delivery.tag)
        self._wish.set()
        self._release(delivery)

    async def stop(self) -> Sequence[RabbitDelivery]:
        """Take no more; those never handed out are the caller's to settle. Those that came back go to RabbitMQ."""
        self._is_stopped = True
        if self._is_alive:
            try:
                with translated():
                    async with asyncio.timeout(RPC_TIMEOUT_S), self._one_at_a_time:
                        await self._intake.end()
            except Unavailable:
                self._session.lost.set()
                self.void()
        self._return_surplus()
        back, unseen = self._lent.clear_waiting()
        for delivery in back:
            self.settle(delivery, is_done=False)
        return unseen

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

    def end_session(self) -> None:
        """Give the session up: with a new one everything is looked at anew."""
        self._session.lost.set()

    def void(self) -> None:
        """The session is lost: RabbitMQ has taken everything back."""
        self._is_alive = False
        self._lent.forget()
        self._surplus.clear()
        self._settling.cancel()

    async def _arrived(self, message: DeliveredMessage) -> None:
        """The driver's callback: only puts the message where `take` finds it."""
        frame: Any = message.delivery
        self._intake.last_tag = frame.delivery_tag
        size = len(message.body)
        self._budget.saw(size)
        if self._is_beyond(size, frame.consumer_tag):
            self._surplus.append(frame.delivery_tag)
            self._wake()
            return
        delivery = RabbitDelivery(self, frame.delivery_tag, message.body, message.header.properties, redelivered=frame.redelivered)
        self._lent.hold(delivery)
        if not self._is_stray(delivery):
            self._lent.add(delivery)
            self._wake()

    def _is_beyond(self, size: int, consumer: str) -> bool:
        """Whether it came only because we had asked for too many. A consumer of one message gets it, whatever its size."""
        return not self._budget.has_room(size) and not self._is_stopped and self._intake.asked_for_more(consumer)

    def _return_surplus(self) -> None:
        for tag in self._surplus:
            self._settlements.nack(tag)
        self._surplus.clear()
        self._wish.set()

    def _release(self, delivery: RabbitDelivery) -> None:
        """It counts no more; that may make room for others."""
        if self._lent.release(delivery) and (self._lent.waiting or self.is_unfit):
            self._wake()

    async def _settle(self) -> None:
        while True:
            await self._wish.wait()
            self._wish.clear()
            await self.flush()

    def _channel_closed(self, _: object) -> None:
        """RabbitMQ closed the channel or the subscription: with a new session everything is looked at anew."""
        if self._is_alive:
            self._session.lost.set()

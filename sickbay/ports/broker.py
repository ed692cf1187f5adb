"""The broker: queues, routing keys, messages, publishing and consuming. The rules of the package apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from sickbay.domain.lane import Lane


class Queue(StrEnum):
    """The durable queues. Those of the lanes hold jobs for workers; RETRY has no consumers: its messages move on after their delay."""

    HIGH = "jobs.high"
    MAIN = "jobs.main"
    DEMOTED = "jobs.demoted"
    LOW = "jobs.low"
    RETRY = "jobs.retry"
    QUARANTINE = "jobs.quarantine"
    LEDGER = "jobs.ledger"
    POOLS = "jobs.pools"
    """Nothing is ever in it. Every worker of a pool subscribes to it, so that they can be counted without knowing the pools."""


@dataclass(frozen=True, slots=True)
class PoolQueue:
    """The queue of the jobs of one pool; `key` is its routing key in exchange `jobs`. Made by `sickbay topology apply --pool NAME`."""

    pool: str

    @property
    def key(self) -> str:
        """`pool.NAME`."""
        return f"{POOL_PREFIX}{self.pool}"

    @property
    def value(self) -> str:
        """Its name, as that of a `Queue`."""
        return f"jobs.pool.{self.pool}"


HOLDING: Final = tuple(queue for queue in Queue if queue is not Queue.POOLS)
"""The queues that messages may be in, without those of pools."""

POOL_PREFIX: Final = "pool."
"""Prefix of the routing keys of the queues of pools."""
AnyQueue = Queue | PoolQueue

LANES: Final = {Lane.HIGH: Queue.HIGH, Lane.MAIN: Queue.MAIN, Lane.DEMOTED: Queue.DEMOTED, Lane.LOW: Queue.LOW}
"""The queue of each lane; the lane's value is its routing key."""

CONSUMED: Final = (*LANES.values(), Queue.LEDGER)
"""The queues that always have consumers."""

PREFETCH_BYTES: Final = 32 * 1024 * 1024
"""The default limit for the bytes of messages that a consumer holds; a running job takes several times its size."""

TO_MAIN = Lane.MAIN.value
"""Routing key of exchange `jobs` to `jobs.main`, as every lane has one."""
TO_RETRY = "retry"
"""Key to `jobs.retry`; the message moves on to the queue of its `lane` after its `delay_ms`."""
TO_QUARANTINE = "quarantine"
"""Routing key of exchange `jobs` to the tail of `jobs.quarantine` alone; only the reconciler uses it."""
EVENT_PREFIX = "job."
"""Prefix of the keys of exchange `jobs.events`: `job.#` reaches `jobs.ledger`, `job.quarantined.#` also `jobs.quarantine`.

`job.waiting.parked` is the key of jobs that wait for the rate of their type: the ledger alone has them.
"""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish. `message_id` is unique per publish; if it is empty, the adapter sets one.

    `delay_ms` and `lane` are those of a message to RETRY: how long it waits, and the key of the lane or pool where it goes then.
    `is_foreign`: it is a copy of a message of somebody else, and must not look like one of ours (`Delivery.is_foreign`).
    """

    key: str
    body: bytes
    delay_ms: int = 0
    lane: str = Lane.MAIN
    message_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_foreign: bool = False


class Delivery(Protocol):
    """An unsettled message, to be settled exactly once. Settling again, or after the session was lost, does nothing."""

    @property
    def body(self) -> bytes:
        """The body as published, byte for byte."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers as published."""

    @property
    def message_id(self) -> str:
        """Stays the same at every redelivery."""

    @property
    def encoding(self) -> str:
        """The content encoding that the publisher declared (AMQP's `content_encoding`); empty if none."""

    @property
    def is_foreign(self) -> bool:
        """Whether the broker cannot say that one of our own services has published it: nobody has checked what it claims."""

    @property
    def redelivered(self) -> bool:
        """Whether a consumer may have had this message before, and so may have run it."""

    @property
    def held_s(self) -> float:
        """For how many seconds it has been unsettled, waiting included; 0 where the broker sets no limit."""

    @property
    def is_lost(self) -> bool:
        """Whether the broker has taken it back, as far as known here: another consumer may have it, and settling it does nothing.

        The outcome of its run is no longer reported to the breaker: the next run of the same message reports one again.
        """

    def ack(self) -> None:
        """Acknowledge the message; it is redelivered if the process dies before the broker received this."""

    def nack(self) -> None:
        """Return the message to the head of its queue, marked as redelivered."""


class Consumer(Protocol):
    """A subscription to one queue. It limits the unsettled messages (the prefetch) and their bytes; a larger message comes alone."""

    async def get(self, limit: int) -> Sequence[Delivery]:
        """Wait for at least one message and return up to `limit`, oldest first; empty once the consumer was stopped.

        While the broker is unavailable it waits, or raises Unavailable without taking anything: call again after a pause.
        """

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return what `get` returned and nobody has looked at, in its order: it is as if `get` had not returned it.

        Those that are lost or settled are ignored.
        """

    async def stop(self) -> None:
        """Stop consuming: messages never returned by `get` go back to the queue, unmarked; unsettled ones can still be settled.

        Where a broker marks every returned message, they are published to the queue's tail instead.
        """


class Broker(Protocol):
    """Durable queues. Its creator opens and closes it; on closing, unsettled messages go back to their queues."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when every message is durable in every queue its key reaches (the confirm).

        Unavailable if that is not certain (some may have been stored), ValueError if a key reaches no queue.
        """

    def consume(self, queue: AnyQueue, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Subscribe; leaving the context stops the consumer and returns unsettled messages to the queue."""

    async def depth(self, queue: AnyQueue) -> int:
        """How many messages are ready in the queue, without unsettled ones."""

    async def consumers(self, queue: AnyQueue) -> int:
        """How many consumers the queue has, of all processes."""

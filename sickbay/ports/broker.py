"""The broker as everybody sees it: queues, routing keys, messages, and who gives and takes them. The laws are those of the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol


class Queue(StrEnum):
    """The four durable queues. Nobody consumes RETRY (its messages move to MAIN when their delay is over)."""

    MAIN = "jobs.main"
    RETRY = "jobs.retry"
    QUARANTINE = "jobs.quarantine"
    LEDGER = "jobs.ledger"


PREFETCH_BYTES: Final = 32 * 1024 * 1024
"""How many bytes of messages a consumer holds unless told otherwise; a job that runs takes several times its size."""

TO_MAIN = "main"
"""Routing key of exchange `jobs` to `jobs.main`."""
TO_RETRY = "retry"
"""Routing key of exchange `jobs` to `jobs.retry`; the message moves on to `jobs.main` after its `delay_ms`."""
TO_QUARANTINE = "quarantine"
"""Routing key of exchange `jobs` to the tail of `jobs.quarantine` alone; only the sweep uses it."""
EVENT_PREFIX = "job."
"""Keys that begin so go to exchange `jobs.events`: `job.#` reaches `jobs.ledger`, `job.quarantined.#` also `jobs.quarantine`."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish. `message_id` is unique per publish; the adapter gives one where it is empty."""

    key: str
    body: bytes
    delay_ms: int = 0
    message_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Delivery(Protocol):
    """One message in our hands, until it is settled exactly once. Settling again, or after the session was lost, does nothing."""

    @property
    def body(self) -> bytes:
        """What was published, byte for byte."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What was published with it."""

    @property
    def message_id(self) -> str:
        """Stays the same at every redelivery."""

    @property
    def encoding(self) -> str:
        """How the body is encoded, as its publisher says (AMQP's content encoding); empty if nobody does."""

    @property
    def redelivered(self) -> bool:
        """Whether somebody may have had this message before, and so may have run it."""

    @property
    def held_s(self) -> float:
        """For how many seconds it has been lent to this process, waiting included; 0 where a broker lends without limit."""

    @property
    def is_lost(self) -> bool:
        """Whether the broker has taken it back, as far as is known here: somebody else may have it, and settling it does nothing.

        What a run of it says of its circuit is no longer wanted: the next run of the same message says it again.
        """

    def ack(self) -> None:
        """Destroy the message; it comes back if we die before the broker heard it."""

    def nack(self) -> None:
        """Give the message back to the head of its queue, marked as redelivered."""


class Consumer(Protocol):
    """A subscription to one queue that bounds the messages in our hands (the prefetch), and their bytes; a larger one comes alone."""

    async def get(self, limit: int) -> Sequence[Delivery]:
        """Wait for at least one message and return up to `limit`, oldest first; empty once the consumer was stopped.

        While the broker is away it waits on, or raises Unavailable; nothing was taken then: ask again after a pause.
        """

    async def stop(self) -> None:
        """Take no more: messages never returned by `get` go back to the queue, unmarked; those in our hands can still be settled.

        Where a broker marks whatever goes back, they are handed on at the queue's tail instead.
        """


class Broker(Protocol):
    """Durable queues. Whoever made it opens and closes it; on closing, unsettled messages go back to their queues."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when every message is durable in every queue its key reaches (the confirm).

        Raises Unavailable if that is not certain (some may have arrived), ValueError if a key reaches no queue.
        """

    def consume(self, queue: Queue, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Subscribe; leaving the context stops the consumer and gives back what is still unsettled."""

    async def depth(self, queue: Queue) -> int:
        """How many messages wait in the queue, without those in a consumer's hands."""

    async def consumers(self, queue: Queue) -> int:
        """How many consumers the queue has, of all processes."""

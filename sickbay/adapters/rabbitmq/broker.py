"""The broker on RabbitMQ: what `sickbay.ports.Broker` promises, over two supervised connections.

One connection publishes, the other consumes and acks: while RabbitMQ is out of memory it stops reading from publishing
connections, and an ack there would hang. Both are kept up by `supervisor.py`, whatever order the processes are started in.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

import aiormq

from sickbay.adapters.rabbitmq.address import HEARTBEAT_S, Address
from sickbay.adapters.rabbitmq.budget import Budget
from sickbay.adapters.rabbitmq.consumer import RabbitConsumer
from sickbay.adapters.rabbitmq.errors import translated
from sickbay.adapters.rabbitmq.properties import Users, outgoing
from sickbay.adapters.rabbitmq.publisher import BLOCKED, Parcel, Publisher
from sickbay.adapters.rabbitmq.supervisor import ConnectionSupervisor
from sickbay.adapters.rabbitmq.topology import queue_names, route
from sickbay.adapters.rabbitmq.topology_sync import ensure
from sickbay.concurrency.tasks import DetachedTasks, detached
from sickbay.domain.errors import Refused, Unavailable
from sickbay.ports import PREFETCH_BYTES, AnyQueue, Clock, Consumer, Message, Queue

TIMEOUT_S: Final = 10.0
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""What RabbitMQ 4 takes by default."""


class RabbitBroker:
    """See `sickbay.ports.Broker`. `async with` opens and closes it, once; opening does not wait for the server.

    Until there is a session, operations wait for it up to `timeout_s` and then raise Unavailable; `get` waits on. Depths count
    what this process was sent and has not handed out as waiting, but cannot see that of other processes.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        name: str = "sickbay",
        timeout_s: float = TIMEOUT_S,
        heartbeat_s: int = HEARTBEAT_S,
        prefetch_bytes: int = PREFETCH_BYTES,
        pools: Sequence[str] = (),
        trusted_users: Collection[str] = (),
        checks_users: bool = False,
    ) -> None:
        """`name` is how the RabbitMQ page calls us; `timeout_s` bounds each publish, `prefetch_bytes` what each consumer holds.

        The queues of `pools` must be there, too. `trusted_users` are the RabbitMQ users of our services, beside that of the URL; messages
        of others are foreign if `checks_users`.
        SettingsError if the URL cannot be meant.
        """
        address = self._address = Address.parse(url)
        self._users = Users(address.identity, frozenset(trusted_users), checks_users)
        self._clock = clock
        self._pools = pools
        self._prefetch_bytes = prefetch_bytes
        self._timeout_s = timeout_s
        self._consuming = ConnectionSupervisor(address, "consuming", self._ensure, heartbeat_s=heartbeat_s, confirms=False, name=name)
        self._publishing = ConnectionSupervisor(address, "publishing", self._ensure, heartbeat_s=heartbeat_s, confirms=True, name=name)
        self._publisher = Publisher(self._publishing, timeout_s)
        self._consumers: set[RabbitConsumer] = set()
        self._is_open = False
        self._trying: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._prefix = secrets.token_hex(8)
        self._creating = asyncio.Lock()
        self.detached = DetachedTasks()

    async def __aenter__(self) -> Self:
        # The drivers log every loss several times, with tracebacks; `supervisor.py` logs it once.
        for driver in ("aiormq", "aio_pika"):
            logging.getLogger(driver).setLevel(logging.CRITICAL)
        self._is_open = True
        for link in (self._consuming, self._publishing):
            link.open()
        self._trying = asyncio.create_task(self._publisher.keep_trying(), name="rabbitmq trial")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_open = False
        for consumer in tuple(self._consumers):
            await consumer.release()
        await self.detached.close()
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait([self._trying])
        await asyncio.gather(self._consuming.close(), self._publishing.close())
        self._publisher.close()

    @property
    def is_ready(self) -> bool:
        """Whether both connections are up."""
        return self._consuming.current is not None and self._publishing.current is not None

    @property
    def is_blocked(self) -> bool:
        """Whether RabbitMQ takes no messages for want of memory or disk; it says so only after one was published."""
        session = self._publishing.current
        return session is not None and session.is_blocked

    @property
    def trouble(self) -> str:
        """Why messages do not go through, "" if they do; as far as it is known without asking."""
        return self._publishing.trouble or self._consuming.trouble or (BLOCKED if self.is_blocked else self._publisher.trouble)

    async def ready(self) -> None:
        """Wait until both connections are up, however long that takes.

        SettingsError as soon as RabbitMQ refuses what RABBITMQ_URL says (user, virtual host, certificate). Attempts go on in the
        background even so: whoever expects the server to be set up later may ask again. Unavailable if the broker is closed.
        """
        for link in (self._consuming, self._publishing):
            while link.current is None:
                self._check_open()
                if link.refusal is not None:
                    raise link.refusal
                await link.changed()

    @detached
    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when every message is confirmed. Unavailable if that is not certain, after `timeout_s` at the latest.

        ValueError before anything is sent if a key reaches no queue or AMQP cannot carry a message.
        """
        self._check_open()
        parcels = [self._parcel(message) for message in messages]
        if parcels:
            await self._publisher.publish(parcels)

    @asynccontextmanager
    async def consume(self, queue: AnyQueue, prefetch: int) -> AsyncIterator[Consumer]:
        """Subscribe, as soon as there is a session; leaving the context stops the consumer and gives back what is still unsettled."""
        if queue is Queue.RETRY or not 1 <= prefetch <= 65_535:  # noqa: PLR2004 - 16 bits in AMQP
            raise ValueError(f"cannot consume {queue.value} with prefetch {prefetch}")
        self._check_open()
        consumer = RabbitConsumer(self._consuming, self._publisher, queue, Budget(prefetch, self._prefetch_bytes), self._users)
        self._consumers.add(consumer)
        try:
            await consumer.enter()
            yield consumer
        finally:
            await consumer.release()
            self._consumers.discard(consumer)

    async def depth(self, queue: AnyQueue) -> int:
        """How many messages wait in the queue; in all of its classes of delays for RETRY."""
        stored, _ = await self._counts(queue)
        return stored + sum(consumer.waiting for consumer in self._consumers if consumer.queue == queue)

    async def consumers(self, queue: AnyQueue) -> int:
        """How many consumers the queue has, of all processes."""
        _, consumers = await self._counts(queue)
        return consumers

    async def _counts(self, queue: AnyQueue) -> tuple[int, int]:
        """Messages and consumers, as RabbitMQ knows them."""
        self._check_open()
        # A task of its own: the driver closes the channel, and we the session, when a question is broken off before its answer.
        asking = asyncio.create_task(self._ask(queue), name="rabbitmq depth")
        asking.add_done_callback(_retrieve)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(asking)
        except TimeoutError:
            raise Unavailable("RabbitMQ timed out") from None

    async def _ask(self, queue: AnyQueue) -> tuple[int, int]:
        with translated():
            session = self._consuming.current or await self._consuming.session()
            declared = [await session.channel.queue_declare(name, passive=True) for name in queue_names(queue)]
            return sum(answer.message_count or 0 for answer in declared), sum(answer.consumer_count or 0 for answer in declared)

    def _parcel(self, message: Message) -> Parcel:
        if len(message.body) > MAX_BODY_BYTES:
            raise ValueError("a message has at most 16 MiB")
        message_id = message.message_id or f"{self._prefix}-{next(self._numbers)}"
        where = route(message.key, message.delay_ms, message.lane)
        return Parcel(where, outgoing(message, message_id, self._clock(), where.delay_class, self._users.mark), message.body)

    def _check_open(self) -> None:
        if not self._is_open:
            raise Refused("the broker is closed")

    async def _ensure(self, connection: aiormq.Connection) -> None:
        async with self._creating:  # one link creates, the other finds it there
            await ensure(self._address, connection, self._pools)


def _retrieve(asking: asyncio.Task[tuple[int, int]]) -> None:
    """Nobody may be there any more to hear of its failure."""
    if not asking.cancelled():
        asking.exception()

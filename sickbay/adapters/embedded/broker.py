"""The embedded broker: durable queues in one SQLite file, for Sickbay without a server to install.

Wishes (publish, get, ack, nack) gather in the lanes; a turn carries all of them out in one transaction, waits for the disk once, and
answers all of them. What arrives while the disk works is the next turn: the busier it is, the cheaper a message becomes (group commit).
A publish into a waiting consumer is stored and handed out by the same transaction, so from submit to start is one wait for the disk.
When there is nothing to do, nothing wakes up, but for the moment at which the next retry is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from sickbay.adapters.embedded.consumer import SqliteConsumer
from sickbay.adapters.embedded.queue_file import QueueFile, Synchronous
from sickbay.adapters.embedded.queue_state import Fulfilled, QueueState
from sickbay.adapters.embedded.retry_timer import RetryTimer
from sickbay.adapters.embedded.topology import Copier
from sickbay.adapters.files import opening
from sickbay.concurrency.pauses import Backoff
from sickbay.domain.errors import Refused, Unavailable
from sickbay.ports import PREFETCH_BYTES, Clock, Consumer, Message, Queue

_MOVES_PER_TURN: Final = 512
"""Retries moved in one transaction; a long outage's worth is moved in several turns, so that the loop stays responsive."""
_MOVED_BYTES_PER_TURN: Final = 8 * 1024 * 1024
_TRY_AGAIN_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 10.0

Confirm = asyncio.Future[None]
Answer = TypeVar("Answer")


class SqliteBroker:
    """See `sickbay.ports.Broker`. `async with` opens and closes it, once.

    `path` is the file, or ":memory:" for queues that end with the process. Entering raises SettingsError if the file cannot be used.
    A process has the file for itself: hold the data folder's lock.
    """

    def __init__(self, path: str | Path, clock: Clock, synchronous: Synchronous = "FULL", prefetch_bytes: int = PREFETCH_BYTES) -> None:
        """`clock` says when delays end, so it should be one that never steps.

        `synchronous` FULL survives a power cut, NORMAL only the end of the process (much faster on slow disks). `prefetch_bytes`
        bounds what each consumer holds.
        """
        self._prefetch_bytes = prefetch_bytes
        self._path = path
        self._clock = clock
        self._synchronous = synchronous
        self._store: QueueFile | None = None
        self._lanes: dict[Queue, QueueState] = {}
        self._consumers: set[SqliteConsumer] = set()
        self._confirms: list[Confirm] = []
        self._is_closing = False
        self._is_awake = False
        self.trouble = ""
        """Why nothing can be stored, "" if it can; a write is tried again and again until it can."""
        self._is_trying = False
        self._disk: asyncio.Future[None] | None = None
        self._alarm = RetryTimer(clock, self._look)
        self._tries = Backoff(_TRY_AGAIN_SECONDS, _LONGEST_SECONDS)
        self._copier = Copier(clock)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sickbay-disk")
        try:
            await self._loop.run_in_executor(self._thread, self._load)
        except BaseException:
            self._thread.shutdown()
            raise
        self._alarm.set()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_closing or self._store is None:
            return
        self._is_closing = True
        for consumer in tuple(self._consumers):
            await consumer.release()
        await self._finish()
        self._alarm.stop()
        store, self._store = self._store, None
        await self._loop.run_in_executor(self._thread, store.close)
        self._thread.shutdown()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when every message is durable in every queue its key reaches.

        ValueError before anything is stored if a key reaches no queue or a message is beyond the limits of `topology.py`;
        Refused if it could not be stored (disk full, file locked).
        """
        if self._is_closing or self._store is None:
            raise Refused("the broker is closed")
        copies = [(queue, row) for message in messages for queue, row in self._copier.copies(message)]
        if not copies:
            return
        for queue, row in copies:
            self._lanes[queue].inbox.append(row)
        confirm: Confirm = self._loop.create_future()
        self._confirms.append(confirm)
        self._wake()
        await confirm

    @asynccontextmanager
    async def consume(self, queue: Queue, prefetch: int) -> AsyncIterator[Consumer]:
        """Subscribe; leaving the context stops the consumer and gives back what is still unsettled."""
        if queue is Queue.RETRY or prefetch < 1:
            raise ValueError(f"cannot consume {queue.value} with prefetch {prefetch}")
        if self._is_closing or self._store is None:
            raise Unavailable("the broker is closed")
        consumer = SqliteConsumer(self._lanes[queue], prefetch, self._prefetch_bytes, self._wake)
        self._consumers.add(consumer)
        try:
            yield consumer
        finally:
            await consumer.release()
            self._consumers.discard(consumer)

    async def depth(self, queue: Queue) -> int:
        """How many messages wait in the queue; answers from memory."""
        if self._store is None:
            raise Unavailable("the broker is closed")
        return self._lanes[queue].waiting

    async def consumers(self, queue: Queue) -> int:
        """How many consumers the queue has, all of this process; answers from memory."""
        if self._store is None:
            raise Unavailable("the broker is closed")
        return sum(consumer.queue is queue for consumer in self._consumers)

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._store is not None and not self._is_closing

    def _load(self) -> None:
        store = QueueFile(self._path, self._synchronous)
        try:
            with opening(self._path):
                store.rebase(Queue.RETRY, self._clock())
                self._lanes = {queue: QueueState.load(queue, store) for queue in Queue}
                self._alarm.due = store.next_due(Queue.RETRY)
                self._copier.last_id = store.last_id()
        except BaseException:
            store.close()
            raise
        self._store = store

    async def _finish(self) -> None:
        """Carry out what is still wished for; acks that cannot be stored come back as redeliveries."""
        self._turn()
        while self._disk is not None:
            await asyncio.wait([self._disk])
            self._turn()

    def _wake(self) -> None:
        if not self._is_awake and not self._is_closing:
            self._is_awake = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Carry out everything that is wished for; does nothing while the disk works (its end is followed by another turn)."""
        self._is_awake = False
        store = self._store
        if store is None or self._disk is not None:
            return
        if store.needs_checkpoint:
            self._use_disk(store.checkpoint, self._checkpointed)
            return
        now = self._clock()
        if not self._has_work(now):
            return
        is_trying = self._is_trying
        try:
            served = self._transact(store, now)
        except Unavailable as error:
            self._fail(error)
            return
        self._tries.reset()
        self._is_trying = False
        confirms, self._confirms = self._confirms, []
        if store.waits_for_disk and (confirms or served or is_trying):
            self._use_disk(store.sync, lambda error: self._answer(confirms, served, error))
        else:
            # Acks alone wait for no disk: the log is written in order, so at worst a power cut brings a message back, marked.
            self._answer(confirms, served, None)

    def _has_work(self, now: int) -> bool:
        return self._is_trying or self._alarm.is_due(now) or any(lane.has_work for lane in self._lanes.values())

    def _transact(self, store: QueueFile, now: int) -> list[Fulfilled]:
        lanes = self._lanes.values()
        for lane in lanes:
            lane.begin()
        next_due = self._alarm.due
        delayed = [row.due for row in self._lanes[Queue.RETRY].inbox]
        with store.transaction():
            if self._alarm.is_due(now):
                next_due = self._move_due(store, now)
            if delayed or self._is_trying:
                store.saw_clock(now)
            served = [answer for lane in lanes for answer in lane.work()]
        for lane in lanes:
            lane.done()
        self._alarm.move(min(delayed if next_due is None else [next_due, *delayed], default=None))
        return served

    def _move_due(self, store: QueueFile, now: int) -> int | None:
        """Move retries whose delay is over to the tail of the main queue; return when the next one is due."""
        rows = store.due(Queue.RETRY, now, _MOVES_PER_TURN, _MOVED_BYTES_PER_TURN)
        self._lanes[Queue.RETRY].remove([row.id for row in rows])
        self._lanes[Queue.MAIN].append([row._replace(id=self._copier.new_id(), due=0) for row in rows])
        return store.next_due(Queue.RETRY)

    def _answer(self, confirms: list[Confirm], served: list[Fulfilled], error: Unavailable | None) -> None:
        """Tell the publishers, and hand out; a message whose consumer has gone meanwhile waits again."""
        self._judge(error)
        for confirm in confirms:
            _resolve(confirm, None, error)
        for answer in served:
            if not _resolve(answer.claim.answer, answer.taken, error) or error is not None:
                answer.take_back()
        self._wake()

    def _fail(self, error: Unavailable) -> None:
        """Nothing of this turn was stored: tell everybody who waited for it. Acks and due retries are tried again after a pause."""
        refused = Refused(str(error), error.reason, retry_after=error.retry_after)
        self._judge(error)
        self._is_trying = False
        confirms, self._confirms = self._confirms, []
        claims = [claim for lane in self._lanes.values() for claim in lane.undo()]
        for confirm in confirms:
            _resolve(confirm, None, refused)
        for claim in claims:
            _resolve(claim.answer, [], error)

    def _judge(self, error: Unavailable | None) -> None:
        """Something was stored, or not; a disk that fails is tried again also if nobody wants anything of it."""
        self.trouble = "" if error is None else str(error)
        if error is not None:
            self._alarm.ring_in(self._tries.next_s())

    def _checkpointed(self, error: Unavailable | None) -> None:
        if error is not None:
            self._fail(error)
            return
        if self._store is not None:
            self._store.trim()
        self._wake()

    def _use_disk(self, job: Callable[[], None], then: Callable[[Unavailable | None], None]) -> None:
        """Run a slow job in the thread, then go on; until then no turn touches the store."""

        def finished(disk: asyncio.Future[None]) -> None:
            self._disk = None
            error = disk.exception()
            if error is not None and not isinstance(error, Unavailable):
                raise error
            then(error)

        self._disk = self._loop.run_in_executor(self._thread, job)
        self._disk.add_done_callback(finished)

    def _look(self) -> None:
        """Something is due, or (the wall clock may have been set back) soon will be; or the disk is tried."""
        self._is_trying = bool(self.trouble)
        if self._has_work(self._clock()):
            self._wake()
        else:
            self._alarm.set()


def _resolve(future: asyncio.Future[Answer], answer: Answer, error: Unavailable | None) -> bool:
    """Answer whoever still waits; False if nobody does."""
    if future.done():
        return False
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)
    return True

"""The embedded broker: durable queues in one SQLite file, for Sickbay without a server to install.

Requests (publish, get, ack, nack) are collected in the queue states; a batch executes all of them in one transaction, waits for the disk
once, and answers all of them. What arrives meanwhile is the next batch: the busier it is, the cheaper a message becomes (group commit).
A message for a waiting consumer is stored and delivered by the same transaction, so there is one wait for the disk from submit to start.
When there is nothing to do, it wakes up only when the next retry is due.
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
from sickbay.adapters.embedded.queue_file import QueueFile, Row, Synchronous
from sickbay.adapters.embedded.queue_state import Fulfilled, QueueState
from sickbay.adapters.embedded.retry_timer import RetryTimer
from sickbay.adapters.embedded.topology import Copier, returned
from sickbay.adapters.files import opening
from sickbay.concurrency.pauses import Backoff
from sickbay.domain.errors import Refused, Unavailable
from sickbay.ports import PREFETCH_BYTES, Clock, Consumer, Message, Queue

_MOVES_PER_BATCH: Final = 512
"""Retries moved in one transaction; after a long outage they are moved in several batches, so that the loop stays responsive."""
_MOVED_BYTES_PER_BATCH: Final = 8 * 1024 * 1024
_TRY_AGAIN_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 10.0

Confirm = asyncio.Future[None]
Answer = TypeVar("Answer")


class SqliteBroker:
    """See `sickbay.ports.Broker`. `async with` opens and closes it, once.

    `path` is the file, or ":memory:" for queues that end with the process. Entering raises SettingsError if the file cannot be used.
    Only one process may use the file: hold the data folder's lock.
    """

    def __init__(self, path: str | Path, clock: Clock, synchronous: Synchronous = "FULL", prefetch_bytes: int = PREFETCH_BYTES) -> None:
        """`clock` decides when delays end, so it should be monotonic.

        `synchronous` FULL survives a power failure, NORMAL only a crash of the process (much faster on slow disks). `prefetch_bytes`
        limits what each consumer holds.
        """
        self._prefetch_bytes = prefetch_bytes
        self._path = path
        self._clock = clock
        self._synchronous = synchronous
        self._store: QueueFile | None = None
        self._queues: dict[Queue, QueueState] = {}
        self._consumers: set[SqliteConsumer] = set()
        self._confirms: list[Confirm] = []
        self._is_closing = False
        self._is_awake = False
        self.trouble = ""
        """Why nothing can be stored, "" if it can; writes are retried until it can."""
        self._is_disk_test = False
        self._disk: asyncio.Future[None] | None = None
        self._timer = RetryTimer(clock, self._on_timer)
        self._retry_pauses = Backoff(_TRY_AGAIN_SECONDS, _LONGEST_SECONDS)
        self._copier = Copier(clock)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sickbay-disk")
        try:
            await self._loop.run_in_executor(self._thread, self._load)
        except BaseException:
            self._thread.shutdown()
            raise
        self._timer.schedule()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_closing or self._store is None:
            return
        self._is_closing = True
        for consumer in tuple(self._consumers):
            await consumer.release()
        await self._finish()
        self._timer.stop()
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
            self._queues[queue].inbox.append(row)
        confirm: Confirm = self._loop.create_future()
        self._confirms.append(confirm)
        self._wake()
        await confirm

    @asynccontextmanager
    async def consume(self, queue: Queue, prefetch: int) -> AsyncIterator[Consumer]:
        """Subscribe; leaving the context stops the consumer and returns unsettled messages to the queue."""
        if queue is Queue.RETRY or prefetch < 1:
            raise ValueError(f"cannot consume {queue.value} with prefetch {prefetch}")
        if self._is_closing or self._store is None:
            raise Unavailable("the broker is closed")
        consumer = SqliteConsumer(self._queues[queue], prefetch, self._prefetch_bytes, self._wake)
        self._consumers.add(consumer)
        try:
            yield consumer
        finally:
            await consumer.release()
            self._consumers.discard(consumer)

    async def depth(self, queue: Queue) -> int:
        """How many messages are ready in the queue; answers from memory."""
        if self._store is None:
            raise Unavailable("the broker is closed")
        return self._queues[queue].waiting

    async def consumers(self, queue: Queue) -> int:
        """How many consumers the queue has, all in this process; answers from memory."""
        if self._store is None:
            raise Unavailable("the broker is closed")
        return sum(consumer.queue is queue for consumer in self._consumers)

    @property
    def is_open(self) -> bool:
        """Whether the broker can be used."""
        return self._store is not None and not self._is_closing

    def _load(self) -> None:
        store = QueueFile(self._path, self._synchronous)
        try:
            with opening(self._path):
                store.shift_delays(Queue.RETRY, self._clock())
                self._queues = {queue: QueueState.load(queue, store) for queue in Queue}
                self._timer.due = store.next_due(Queue.RETRY)
                self._copier.last_id = store.last_id()
        except BaseException:
            store.close()
            raise
        self._store = store

    async def _finish(self) -> None:
        """Execute the remaining requests; messages whose acks cannot be stored are redelivered."""
        self._run_batch()
        while self._disk is not None:
            await asyncio.wait([self._disk])
            self._run_batch()

    def _wake(self) -> None:
        if not self._is_awake and not self._is_closing:
            self._is_awake = True
            self._loop.call_soon(self._run_batch)

    def _run_batch(self) -> None:
        """Execute all requests; does nothing while the disk is busy, because another batch follows."""
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
        is_disk_test = self._is_disk_test
        try:
            fulfilled = self._transact(store, now)
        except Unavailable as error:
            self._fail_batch(error)
            return
        self._retry_pauses.reset()
        self._is_disk_test = False
        confirms, self._confirms = self._confirms, []
        if store.waits_for_disk and (confirms or fulfilled or is_disk_test):
            self._use_disk(store.sync, lambda error: self._resolve_all(confirms, fulfilled, error))
        else:
            # Acks alone do not wait for the disk: the log is written in order, so at worst a power failure redelivers a message.
            self._resolve_all(confirms, fulfilled, None)

    def _has_work(self, now: int) -> bool:
        return self._is_disk_test or self._timer.is_due(now) or any(state.has_work for state in self._queues.values())

    def _transact(self, store: QueueFile, now: int) -> list[Fulfilled]:
        states = self._queues.values()
        for state in states:
            state.begin()
        next_due = self._timer.due
        delayed = [row.due for row in self._queues[Queue.RETRY].inbox]
        with store.transaction():
            if self._timer.is_due(now):
                next_due = self._move_due(store, now)
            if delayed or self._is_disk_test:
                store.store_clock(now)
            fulfilled = [answer for state in states for answer in state.apply()]
        for state in states:
            state.commit()
        self._timer.set_due(min(delayed if next_due is None else [next_due, *delayed], default=None))
        return fulfilled

    def _move_due(self, store: QueueFile, now: int) -> int | None:
        """Move retries whose delay is over to the tails of their lanes; returns when the next one is due."""
        rows = store.due(Queue.RETRY, now, _MOVES_PER_BATCH, _MOVED_BYTES_PER_BATCH)
        self._queues[Queue.RETRY].remove([row.id for row in rows])
        moved: dict[Queue, list[Row]] = {}
        for row in rows:
            queue, headers = returned(row)
            moved.setdefault(queue, []).append(row._replace(id=self._copier.new_id(), due=0, headers=headers))
        for queue, arrived in moved.items():
            self._queues[queue].append(arrived)
        return store.next_due(Queue.RETRY)

    def _resolve_all(self, confirms: list[Confirm], fulfilled: list[Fulfilled], error: Unavailable | None) -> None:
        """Confirm to publishers, and deliver; a message whose consumer has gone meanwhile is ready again."""
        self._record_result(error)
        for confirm in confirms:
            _resolve(confirm, None, error)
        for answer in fulfilled:
            if not _resolve(answer.pending.answer, answer.taken, error) or error is not None:
                answer.return_unseen()
        self._wake()

    def _fail_batch(self, error: Unavailable) -> None:
        """Nothing of this batch was stored: fail its publishes and gets. Acks and due retries are tried again after a pause."""
        refused = Refused(str(error), error.reason, retry_after=error.retry_after)
        self._record_result(error)
        self._is_disk_test = False
        confirms, self._confirms = self._confirms, []
        pending_gets = [pending for state in self._queues.values() for pending in state.rollback()]
        for confirm in confirms:
            _resolve(confirm, None, refused)
        for pending in pending_gets:
            _resolve(pending.answer, [], error)

    def _record_result(self, error: Unavailable | None) -> None:
        """Keep the result of a write; a failing disk is tested again even without requests."""
        self.trouble = "" if error is None else str(error)
        if error is not None:
            self._timer.schedule_in(self._retry_pauses.next_s())

    def _checkpointed(self, error: Unavailable | None) -> None:
        if error is not None:
            self._fail_batch(error)
            return
        if self._store is not None:
            self._store.trim()
        self._wake()

    def _use_disk(self, job: Callable[[], None], then: Callable[[Unavailable | None], None]) -> None:
        """Run a slow job in the thread, then call `then`; meanwhile no batch touches the store."""

        def finished(disk: asyncio.Future[None]) -> None:
            self._disk = None
            error = disk.exception()
            if error is not None and not isinstance(error, Unavailable):
                raise error
            then(error)

        self._disk = self._loop.run_in_executor(self._thread, job)
        self._disk.add_done_callback(finished)

    def _on_timer(self) -> None:
        """A retry is due, or will be soon (the wall clock may have been set back); or the disk is tested."""
        self._is_disk_test = bool(self.trouble)
        if self._has_work(self._clock()):
            self._wake()
        else:
            self._timer.schedule()


def _resolve(future: asyncio.Future[Answer], answer: Answer, error: Unavailable | None) -> bool:
    """Set the result of a future; False if it is done already."""
    if future.done():
        return False
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)
    return True

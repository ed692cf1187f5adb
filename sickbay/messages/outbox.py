"""Publishes events for the ledger in batches: at most 200 events, a MiB of results, or 50 ms per message.

A delivery added with its event is acknowledged only when the event is durable, so nothing is lost between the two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, count
from time import monotonic
from typing import Final, Self

from sickbay.concurrency.pauses import Backoff
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobState
from sickbay.domain.run_rate import in_ledger_alone
from sickbay.messages.codec import encode_event, encode_events
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import Broker, Delivery, Message

MAX_EVENTS: Final = 200
MAX_RESULT_BYTES: Final = 1024 * 1024
"""Of results in one message, unless a single one has more: 200 of 64 KiB would exceed what a broker accepts."""
LINGER_S: Final = 0.05
RETRY_S: Final = 0.1
MAX_RETRY_S: Final = 2.0
"""When the broker is unavailable."""
MAX_CLOSING_RETRIES: Final = 5
CLOSE_S: Final = 2.0
"""How long closing waits until the last events are published."""
FLUSH_S: Final = 5.0
"""How long another copy of a job waits until the success of the first one is durable."""
REMEMBERED_S: Final = 30.0
MAX_REMEMBERED: Final = 50_000
"""A success is remembered for at least REMEMBERED_S, unless MAX_REMEMBERED come meanwhile, and at most twice that."""

log = logging.getLogger(__name__)


OnRejected = Callable[[JobEvent, Delivery | None, BaseException], None]


def _requeue(_: JobEvent, delivery: Delivery | None, __: BaseException) -> None:
    if delivery:
        delivery.nack()


class _RecentIds:
    """Recent job ids, in two sets of which the older is dropped as a whole: adding one costs next to nothing."""

    def __init__(self) -> None:
        self._new: set[str] = set()
        self._old: set[str] = set()
        self._since = monotonic()

    def add(self, job_ids: Iterable[str]) -> None:
        self._rotate()
        self._new.update(job_ids)

    def __contains__(self, job_id: str) -> bool:
        self._rotate()
        return job_id in self._new or job_id in self._old

    def _rotate(self) -> None:
        passed_s = monotonic() - self._since
        if passed_s >= REMEMBERED_S or len(self._new) >= MAX_REMEMBERED:
            self._old = self._new if passed_s < 2 * REMEMBERED_S else set()
            self._new = set()
            self._since = monotonic()


class EventOutbox:
    """One per service process. `async with` starts it; leaving flushes what is left.

    The observer is notified of each event that ends a run or sets a job aside, in the task that adds it, so in the context of the job.
    """

    def __init__(self, broker: Broker, *, linger_s: float = LINGER_S, observer: Observer = NOBODY) -> None:
        """Publish through `broker`; `linger_s` is the longest time that an event waits for others."""
        self._observer = observer
        self.on_rejected: OnRejected = _requeue
        """Called with an event that cannot be published because of its content; it settles the delivery."""
        self._publisher = Publisher(broker, observer)
        self._linger_s = linger_s
        self._buffer: list[tuple[JobEvent, Delivery | None]] = []
        self._result_bytes = 0
        """Of the results in the buffer."""
        self._started: dict[str, JobEvent] = {}
        self._in_flight: Sequence[tuple[JobEvent, Delivery | None]] = ()
        self._succeeded = _RecentIds()
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = False
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="event stream")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._wake.set()
        self._full.set()
        if self._task:
            done, late = await asyncio.wait({self._task}, timeout=CLOSE_S)
            for task in late:
                log.warning("events could not be published before the end; their jobs will be delivered again")
                task.cancel()
            await asyncio.gather(*done, *late, return_exceptions=not done)

    def add(self, event: JobEvent, delivery: Delivery | None = None) -> None:
        """Publish soon; `delivery` is acknowledged after the confirm. Replaces an unpublished start of the same run."""
        self._started.pop(event.job.job_id, None)
        self._buffer.append((event, delivery))
        self._wake.set()
        self._quiet.clear()
        if event.result is not None:
            self._result_bytes += len(event.result.json)
        if self._is_full:
            self._full.set()
        self._observer.settled(event)

    @property
    def _is_full(self) -> bool:
        return len(self._buffer) >= MAX_EVENTS or self._result_bytes >= MAX_RESULT_BYTES

    async def set_aside(self, event: JobEvent) -> None:
        """Publish the complete job at once, to the ledger and to the quarantine; durable on return.

        Of jobs that wait for the rate of their type the ledger has the only copy: 100,000 of them are no load for the broker.
        """
        self.forget(event.job.job_id)
        key = f"job.waiting.{event.state.lower()}" if in_ledger_alone(event) else f"job.quarantined.{event.state.lower()}"
        await self._publisher.publish([Message(key, encode_event(event))])
        self._observer.settled(event)

    def report_start(self, event: JobEvent) -> None:
        """Report the start of a run, or how far it is, unless it is over before the next batch: then the event of its end has the start.

        Of several reports in one batch the last one counts, and it has the start too.
        """
        self._started[event.job.job_id] = event
        self._wake.set()

    def forget(self, job_id: str) -> None:
        """Do not report the start of a run whose end is reported another way."""
        self._started.pop(job_id, None)

    def is_unreported(self, job_id: str) -> bool:
        """Whether the ledger may not know of the end of a run of this job yet. Searches everything that waits, so call it rarely.

        A success counts for half a minute after it was published: one writer of the ledger may be late with it, while another writes
        that the job is CANCELLED. A dropped copy is not the end of a run.
        """
        waiting = chain(self._buffer, self._in_flight)
        return job_id in self._succeeded or any(event.job.job_id == job_id and not event.duplicate for event, _ in waiting)

    async def has_succeeded(self, job_id: str) -> bool:
        """Whether a run of this job has succeeded here within the last half a minute, and its event is durable.

        One writer of the ledger may be late with it. If it is not durable yet, that is waited for: until then its delivery may come again.
        """
        if any(event.job.job_id == job_id and event.state is JobState.SUCCEEDED for event, _ in chain(self._buffer, self._in_flight)):
            await self.flush(FLUSH_S)
        return job_id in self._succeeded

    async def flush(self, within_s: float | None = None) -> None:
        """Return when everything added so far is durable and acknowledged, or after `within_s`."""
        self._full.set()
        await wait_for_event(self._quiet, within_s)

    async def _run(self) -> None:
        while not (self._closing and not self._buffer and not self._started):
            await self._wake.wait()
            if not self._closing:
                await self._linger()
            self._in_flight = batch = self._take()
            if batch:
                await self._send(batch)
            self._in_flight = ()
            if not self._buffer:
                self._quiet.set()

    async def _linger(self) -> None:
        if not self._is_full:
            await wait_for_event(self._full, self._linger_s)

    def _take(self) -> Sequence[tuple[JobEvent, Delivery | None]]:
        begun: list[tuple[JobEvent, Delivery | None]] = [(event, None) for event in self._started.values()]
        self._started.clear()
        number = self._fitting() if self._result_bytes else MAX_EVENTS
        batch = begun + self._buffer[:number]
        del self._buffer[:number]
        if not self._is_full:
            self._full.clear()
        if not self._buffer and not self._closing:
            self._wake.clear()
        return batch

    def _fitting(self) -> int:
        """How many events of the buffer go into the next message, at least one; their results no longer count."""
        taken = 0
        for number, (event, _) in enumerate(self._buffer[:MAX_EVENTS]):
            size = 0 if event.result is None else len(event.result.json)
            if number and taken + size > MAX_RESULT_BYTES:
                self._result_bytes -= taken
                return number
            taken += size
        self._result_bytes -= taken
        return MAX_EVENTS

    async def _send(self, batch: Sequence[tuple[JobEvent, Delivery | None]]) -> None:
        try:
            published = await self._publish(Message("job.events", encode_events(event for event, _ in batch)))
        except Exception as error:  # noqa: BLE001 - one event must not hold up the others
            return await self._isolate(batch, error)
        if not published:
            log.warning("%d events could not be published before the end; their jobs will be delivered again", len(batch))
            return None
        self._succeeded.add(event.job.job_id for event, _ in batch if event.state is JobState.SUCCEEDED and not event.duplicate)
        for _, delivery in batch:
            if delivery:
                delivery.ack()
        return None

    async def _isolate(self, batch: Sequence[tuple[JobEvent, Delivery | None]], error: Exception) -> None:
        """An event of the batch cannot be published: halve the batch until only that event is left."""
        if len(batch) > 1:
            half = len(batch) // 2
            await self._send(batch[:half])
            await self._send(batch[half:])
            return
        ((event, delivery),) = batch
        log.error("an event of job %s cannot be published: %r", event.job.job_id, error)
        self.on_rejected(event, delivery, error)

    async def _publish(self, message: Message) -> bool:
        """Retry until it is durable; when closing, only a few times more."""
        backoff = Backoff(RETRY_S, MAX_RETRY_S)
        for failures in count(1):
            try:
                await self._publisher.publish([message])
            except Unavailable as error:
                if self._closing and failures >= MAX_CLOSING_RETRIES:
                    return False
                wait_s = round(backoff.next_s(), 2)
                log.warning("events wait, retrying in %g s: %s", wait_s, error)
                await asyncio.sleep(wait_s)
            else:
                return True
        return False

"""The one way of a job through a worker: ask for a permit, run the handler, report the outcome, settle exactly once.

Nothing is lost: a delivery is acknowledged only after its successor (a success event, a retry copy, a quarantine copy) is
durable. Whatever goes wrong on the way gives the delivery back, so that it is delivered again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from sickbay.circuit import Key, Refusal
from sickbay.envelope import Undecodable, decode_job, job_message, undecodable_job
from sickbay.errors import Unavailable
from sickbay.events import EventStream
from sickbay.job import Event, Failure, Job, Reason, State
from sickbay.ports import TO_RETRY, Breakers, Broker, Clock, Consumer, Delivery, Fence, Message, Queue
from sickbay.queries import Entry
from sickbay.routing import Done, GiveBack, Retry, RetryPolicy, Route, SetAside, after_run
from sickbay.sdk import HandlerSpec
from worker.runner import Runs
from worker.slots import MAX_HELD_S, Gates, Slots

SUSPECT: Final = "suspect"
MAX_CRASHES: Final = 3
"""Workers a job may kill before it is quarantined as WORKER_LOST."""
LAST_S: Final = 2.0
"""How long the end waits for handlers that were broken off, and again for events that are not durable; their jobs are delivered again."""

log = logging.getLogger(__name__)


def nobody(_: Delivery) -> None:
    """The hook of whoever wants to hear nothing."""


class Engine:
    """Consumes `jobs.main` until it is drained. One per worker process."""

    def __init__(
        self,
        *,
        broker: Broker,
        breakers: Breakers,
        fence: Fence,
        events: EventStream,
        runner: Runs,
        handlers: Mapping[str, HandlerSpec],
        policy: RetryPolicy,
        concurrency: int,
        clock: Clock,
        name: str,
        pause_s: float = 1.0,
        last_s: float = LAST_S,
        arrived: Callable[[Delivery], None] = nobody,
    ) -> None:
        """Run at most `concurrency` handlers at a time; `name` says who this worker is in a job's history.

        `pause_s` is how long a job is held that could not be settled, before it goes back to the queue; `last_s` is LAST_S. `arrived`
        hears of each message in the task that then treats it, whose context is thus the job's.
        """
        self._arrived = arrived
        self._pause_s = pause_s
        self._last_s = last_s
        self._broker = broker
        self._breakers = breakers
        self._fence = fence
        self._events = events
        self._runner = runner
        self._handlers = handlers
        self._policies = {spec.job_type: replace(policy, retries_by_code=spec.retries) for spec in handlers.values()}
        self._policy = policy
        self._clock = clock
        self._name = name
        self._prefetch = min(2_000, max(10, 2 * concurrency))
        self._slots = Slots(concurrency)
        self._gates = Gates({spec.job_type: spec.concurrency for spec in handlers.values() if spec.concurrency}, self._prefetch // 4)
        self._runs = itertools.count(1)
        self._alone = Gates({SUSPECT: 1}, self._prefetch)
        self._tasks: set[asyncio.Task[None]] = set()
        self._consumer: Consumer | None = None
        self._draining = False
        self._drained = asyncio.Event()

    @property
    def is_stuck(self) -> bool:
        """Whether a handler that was broken off goes on, because it swallows its cancellation."""
        return self._drained.is_set() and bool(self._tasks)

    async def run(self) -> None:
        """Work until `drain` is called."""
        async with self._broker.consume(Queue.MAIN, self._prefetch) as consumer:
            self._consumer = consumer
            while not self._draining and (batch := await self._next(consumer)) is not None:
                for delivery in batch:
                    self._begin(delivery)
            await self._drained.wait()
            await self._events.flush(self._last_s)

    async def drain(self, grace_s: float) -> None:
        """Take no more jobs, let running ones finish for `grace_s` seconds, then break them off; unfinished ones go back."""
        if self._drained.is_set():
            return
        self._draining = True
        self._gates.close()
        self._alone.close()
        try:
            if self._consumer:
                await self._consumer.stop()
            await self._ended(grace_s)
            self._runner.break_off()
            await self._ended(self._last_s)
        finally:
            self._drained.set()
            self._slots.close()

    async def _ended(self, within_s: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    async def _next(self, consumer: Consumer) -> Sequence[Delivery] | None:
        """As many jobs as there are free slots; None once there shall be no more."""
        free = await self._slots.free()
        if self._draining:
            return None
        try:
            return await consumer.get(free) or None
        except Unavailable as error:
            log.warning("no jobs can be taken just now: %s", error)
            await asyncio.sleep(self._pause_s)
            return ()

    def _begin(self, delivery: Delivery) -> None:
        self._slots.take()
        task = asyncio.create_task(self._treat_safely(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._slots.give)

    async def _treat_safely(self, delivery: Delivery) -> None:
        try:
            await self._treat(delivery)
        except Unavailable as error:
            log.warning("a job goes back to the queue: %s", error)
            await self._give_back(delivery)
        except Exception:
            log.exception("a fault of the worker; the job goes back to the queue")
            await self._give_back(delivery)

    async def _give_back(self, delivery: Delivery) -> None:
        """After a pause, for it comes again at once."""
        await asyncio.sleep(self._pause_s)
        delivery.nack()

    async def _treat(self, delivery: Delivery) -> None:
        self._arrived(delivery)
        try:
            job = decode_job(delivery.body, delivery.message_id, self._clock(), delivery.headers)
        except Undecodable as error:
            kept = undecodable_job(delivery.body, delivery.message_id, str(error), self._clock())
            return await self._settle(delivery, SetAside(kept, Reason.UNDECODABLE), self._event(kept, State.QUARANTINED))
        if self._fence.is_cancelled(job):
            return delivery.ack()
        if not delivery.redelivered:
            return await (self._admit(delivery, job) if job.is_fresh else self._examine(delivery, job))
        async with self._isolated(job) as has_come:
            if has_come:
                await self._examine(delivery, job)
            else:
                delivery.nack()  # still a suspect when it comes again
        return None

    @asynccontextmanager
    async def _isolated(self, job: Job) -> AsyncIterator[bool]:
        """A suspect, whose worker may have died of it, runs like any other; if a second worker did, alone among such.

        Most of what a dead worker held is innocent, and mostly it did not die of a job. False if its turn does not come.
        """
        try:
            is_alone = await self._fence.crashes(job) > 0
        except Unavailable:
            is_alone = True
        if is_alone:
            async with self._alone.turn(SUSPECT, self._slots) as has_come:
                yield has_come
        else:
            yield True

    async def _examine(self, delivery: Delivery, job: Job) -> None:
        """Run a copy that may not be the only one, unless there is later news of it, or it has killed too many workers."""
        entry = await self._ask_fence(job, suspect=delivery.redelivered)
        if entry.superseded:
            return self._drop(delivery, job)
        try:
            if entry.crashes + 1 >= MAX_CRASHES:
                await self._quarantine(delivery, job, Reason.WORKER_LOST, f"{MAX_CRASHES} workers died while they ran this job")
            else:
                await self._admit(delivery, job)
        finally:
            if delivery.redelivered:
                await self._leave_fence(job)
        return None

    async def _admit(self, delivery: Delivery, job: Job) -> None:
        """Find the handler, and a turn where its type allows only a few at a time."""
        spec = self._handlers.get(job.job_type)
        if spec is None:
            await self._quarantine(delivery, job, Reason.UNKNOWN_TYPE, f"no worker has a handler for {job.job_type!r}")
        elif self._gates.is_crowded(job.job_type):
            await self._put_off(delivery)
        else:
            async with self._gates.turn(job.job_type, self._slots) as has_come:
                if has_come and delivery.held_s + self._runner.timeout_of(spec) <= MAX_HELD_S:
                    await self._attend(delivery, job, spec)
                elif has_come and delivery.redelivered:
                    delivery.nack()  # still a suspect when it comes again
                else:
                    await self._put_off(delivery)

    async def _put_off(self, delivery: Delivery) -> None:
        """Too many of its type wait already, or it waited too long: it comes again later, and nothing is charged."""
        await self._broker.publish([Message(TO_RETRY, delivery.body, self._policy.delay_ms, headers=delivery.headers)])
        delivery.ack()

    async def _attend(self, delivery: Delivery, job: Job, spec: HandlerSpec) -> None:
        """The heart: permit, run, verdict, route."""
        permit = await self._breakers.admit(Key(job.job_type, job.tenant), job.job_id)
        if isinstance(permit, Refusal):
            return await self._settle(delivery, SetAside(job, Reason.CIRCUIT_OPEN), self._event(job, State.PARKED))
        begun = self._event(job, State.RUNNING, run=f"{self._name}.{next(self._runs)}")
        self._events.started(begun)
        outcome = await self._runner.run(spec, job, permit)
        circuit = await self._breakers.settle(permit, outcome)
        policy = self._policies[job.job_type]
        return await self._settle(delivery, after_run(job, outcome, circuit, policy, self._clock()), begun)

    async def _settle(self, delivery: Delivery, route: Route, begun: Event) -> None:
        """Make the successor durable, then acknowledge; the only place where that happens."""
        match route:
            case Done():
                self._events.add(replace(begun, state=State.SUCCEEDED, at=self._clock()), delivery)
            case Retry(job, delay_ms):
                event = self._told(begun, job, State.RETRYING)  # before the delay begins, so that history never shows a shorter one
                await self._broker.publish([job_message(TO_RETRY, job, delay_ms)])
                self._events.add(event, delivery)
            case SetAside(job, reason):
                await self._events.set_aside(replace(self._told(begun, job, route.state), reason=reason))
                delivery.ack()
            case GiveBack():
                self._events.forget(begun.job.job_id)
                delivery.nack()

    async def _quarantine(self, delivery: Delivery, job: Job, reason: Reason, message: str) -> None:
        failed = job.failed(Failure(self._clock(), job.generation, job.attempt, reason.value, message))
        await self._settle(delivery, SetAside(failed, reason), self._event(job, State.QUARANTINED))

    async def _ask_fence(self, job: Job, *, suspect: bool) -> Entry:
        """What the ledger says of this copy; while it is out of reach, jobs keep flowing."""
        try:
            return await self._fence.enter(job, suspect=suspect)
        except Unavailable:
            return Entry(superseded=False)

    async def _leave_fence(self, job: Job) -> None:
        with contextlib.suppress(Unavailable):
            await self._fence.leave(job)

    def _drop(self, delivery: Delivery, job: Job) -> None:
        self._events.add(replace(self._event(job, State.QUEUED), run=f"{self._name}.{next(self._runs)}", duplicate=True), delivery)

    def _event(self, job: Job, state: State, run: str = "") -> Event:
        now = self._clock()
        return Event(job, state, now, started_at=now if run else None, run=run, actor=self._name)

    def _told(self, begun: Event, job: Job, state: State) -> Event:
        last = job.failures[-1] if job.failures else None
        parked = state is State.PARKED and begun.started_at is None
        code, message = ("CIRCUIT_OPEN", "") if parked or last is None else (last.code, last.message)
        return replace(begun, job=job, state=state, at=self._clock(), code=code, message=message)

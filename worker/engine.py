"""The one way of a job through a worker: ask for a permit, run the handler, report the outcome, settle exactly once.

Nothing is lost: a delivery is acknowledged only after its successor (a success event, a retry copy, a quarantine copy) is
durable. Whatever goes wrong on the way gives the delivery back, so that it is delivered again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from time import perf_counter
from typing import Final

from sickbay.domain.breaker import BreakerKey, Permit, Refusal
from sickbay.domain.encodings import explained
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import Job, JobEvent, Reason
from sickbay.domain.outcome import Outcome
from sickbay.domain.queries import DuplicateCheck
from sickbay.domain.raised import Redact, unchanged
from sickbay.domain.retry import RetryPolicy, after_run
from sickbay.handlers.registry import HandlerSpec
from sickbay.messages.codec import Undecodable, decode_job
from sickbay.messages.outbox import EventOutbox
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import PREFETCH_BYTES, Breakers, Broker, Clock, Consumer, Delivery, DuplicateGuard, Queue
from worker.run import CANCELLED
from worker.runner import Runner
from worker.settler import Settler
from worker.slots import MAX_HELD_S, Gates, Slots

SUSPECT: Final = "suspect"
MAX_CRASHES: Final = 3
"""Workers a job may kill before it is quarantined as WORKER_LOST."""
LAST_S: Final = 2.0
"""How long the end waits for handlers that were broken off, and again for events that are not durable; their jobs are delivered again."""

SURE_MS: Final = 20 * 3_600_000
"""A copy that waited longer is compared with the ledger before it runs: cancellations are kept in memory for 24 hours."""

log = logging.getLogger(__name__)


class Engine:
    """Consumes `jobs.main` until it is drained. One per worker process."""

    def __init__(
        self,
        *,
        broker: Broker,
        breakers: Breakers,
        fence: DuplicateGuard,
        events: EventOutbox,
        runner: Runner,
        handlers: Mapping[str, HandlerSpec],
        policy: RetryPolicy,
        concurrency: int,
        prefetch_bytes: int = PREFETCH_BYTES,
        clock: Clock,
        name: str,
        pause_s: float = 1.0,
        last_s: float = LAST_S,
        observer: Observer = NOBODY,
        redact: Redact = unchanged,
    ) -> None:
        """Run at most `concurrency` handlers at a time; `name` says who this worker is in a job's history.

        `pause_s` is how long a job is held that could not be settled, before it goes back to the queue; `last_s` is LAST_S. The
        observer hears of each message in the task that then treats it, whose context is thus the job's. `redact` takes secrets out of the
        texts of faults.
        """
        self._observer = observer
        self._last_s = last_s
        self._broker = broker
        self._settler = Settler(
            publisher=Publisher(broker, observer),
            fence=fence,
            events=events,
            policy=policy,
            clock=clock,
            name=name,
            pause_s=pause_s,
            redact=redact,
        )
        self._breakers = breakers
        self._fence = fence
        self._events = events
        events.on_refused = self._refused
        self._runner = runner
        self._handlers = handlers
        self._policies = {spec.job_type: replace(policy, retries_by_code=spec.retries) for spec in handlers.values()}
        self._clock = clock
        self._prefetch = min(2_000, max(10, 2 * concurrency))
        self._slots = Slots(concurrency)
        self._gates = Gates(
            {spec.job_type: spec.concurrency for spec in handlers.values() if spec.concurrency}, self._prefetch // 4, prefetch_bytes // 4
        )
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
            self._fence.working(self._events.is_untold, takes_jobs=True)
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
        self._fence.working(self._events.is_untold, takes_jobs=False)
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
            await self._settler.pause()
            return ()

    def _begin(self, delivery: Delivery) -> None:
        self._slots.take()
        task = asyncio.create_task(self._treat_safely(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._slots.give)

    async def _treat_safely(self, delivery: Delivery) -> None:
        """One delivery, which is settled in the end whatever happens."""
        try:
            await self._treat(delivery)
        except Unavailable as error:
            log.warning("a job goes back to the queue: %s", error)
            await self._settler.give_back(delivery)
        except asyncio.CancelledError:
            delivery.nack()
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the delivery is settled
            await self._settler.charge_fault(delivery, error)
        else:
            self._settler.trouble_since = None

    def _refused(self, _: JobEvent, delivery: Delivery | None, error: BaseException) -> None:
        """See `EventOutbox.on_refused`: the job has run, but what became of it cannot be told."""
        if delivery is not None:
            task = asyncio.create_task(self._settler.charge_fault(delivery, error))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _treat(self, delivery: Delivery) -> None:
        self._observer.received(delivery)
        try:
            job = decode_job(delivery.body, delivery.message_id, self._clock(), delivery.headers)
        except Undecodable as error:
            return await self._settler.keep_undecodable(delivery, explained(str(error), delivery.body, delivery.encoding))
        if self._fence.is_cancelled(job):
            return delivery.ack()
        if not delivery.redelivered:
            is_sure = job.is_fresh and self._clock() - job.submitted_at < SURE_MS
            return await (self._admit(delivery, job) if is_sure else self._examine(delivery, job))
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
            return self._settler.drop(delivery, job)
        try:
            if entry.crashes + 1 >= MAX_CRASHES:
                await self._settler.quarantine(delivery, job, Reason.WORKER_LOST, f"{MAX_CRASHES} workers died while they ran this job")
            else:
                await self._admit(delivery, job)
        except Exception:
            await self._leave_fence(delivery, job)
            raise
        return await self._leave_fence(delivery, job)  # not where the process ends in the middle: then it may have died of this job

    async def _admit(self, delivery: Delivery, job: Job) -> None:
        """Find the handler, and a turn where its type allows only a few at a time."""
        spec = self._handlers.get(job.job_type)
        if spec is None:
            await self._settler.quarantine(delivery, job, Reason.UNKNOWN_TYPE, f"no worker has a handler for {job.job_type!r}")
        elif self._gates.is_crowded(job.job_type) or self._runner.is_exhausted(spec):
            await self._settler.put_off(delivery)
        else:
            async with self._gates.turn(job.job_type, self._slots, len(delivery.body)) as has_come:
                if has_come and delivery.held_s + self._runner.timeout_of(spec) <= MAX_HELD_S:
                    await self._attend(delivery, job, spec)
                elif has_come and delivery.redelivered:
                    delivery.nack()  # still a suspect when it comes again
                else:
                    await self._settler.put_off(delivery)

    async def _attend(self, delivery: Delivery, job: Job, spec: HandlerSpec) -> None:
        """Run it, unless it is cancelled at this very moment: who cancels hears of a run from here on."""
        if not await self._fence.begin(job):
            return delivery.ack()
        try:
            await self._run(delivery, job, spec)
        finally:
            self._fence.end(job)
        return None

    async def _run(self, delivery: Delivery, job: Job, spec: HandlerSpec) -> None:
        """The heart: permit, run, verdict, route."""
        longest_ms = round(1000 * self._runner.timeout_of(spec))
        permit = await self._breakers.admit(BreakerKey(job.job_type, job.tenant), job.job_id, longest_ms)
        if isinstance(permit, Refusal):
            return await self._settler.park(delivery, job)
        begun = self._settler.begun(job)
        self._events.started(begun)
        outcome = await self._observed_run(spec, job, permit)
        breaker = await self._breakers.settle(permit, CANCELLED if delivery.is_lost else outcome)
        policy = self._policies[job.job_type]
        return await self._settler.settle(delivery, after_run(job, outcome, breaker, policy, self._clock()), begun)

    async def _observed_run(self, spec: HandlerSpec, job: Job, permit: Permit) -> Outcome:
        self._observer.run_started(job, permit)
        began = perf_counter()
        outcome: Outcome | None = None
        try:
            outcome = await self._runner.run(spec, job, permit)
            return outcome
        finally:
            self._observer.run_ended(job, permit, outcome, perf_counter() - began)

    async def _ask_fence(self, job: Job, *, suspect: bool) -> DuplicateCheck:
        """What the ledger says of this copy; while it is out of reach, jobs keep flowing."""
        try:
            return await self._fence.enter(job, suspect=suspect)
        except Unavailable:
            return DuplicateCheck(superseded=False)

    async def _leave_fence(self, delivery: Delivery, job: Job) -> None:
        if not delivery.redelivered:
            return
        with contextlib.suppress(Unavailable):
            await self._fence.leave(job)

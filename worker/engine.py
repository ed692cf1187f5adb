"""Consumes as many jobs as there are free slots, processes each (`pipeline.py`), and drains at the end.

If processing fails, the delivery is requeued, so that it is delivered again, or the error counts as an attempt of its job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from sickbay.domain.breaker import BreakerRule, BreakerScope
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent
from sickbay.domain.raised import Redact, unchanged
from sickbay.domain.retry import PolicyOf, RetryPolicy, same_for_all
from sickbay.fleet import FleetView
from sickbay.handlers.registry import HandlerSpec
from sickbay.messages.outbox import EventOutbox
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import PREFETCH_BYTES, Breakers, Broker, Clock, Consumer, Delivery, DuplicateGuard, Queue
from worker.crash_isolation import CrashIsolation
from worker.pipeline import Pipeline
from worker.rate_gate import RateGate
from worker.runner import Runner
from worker.settler import Settler
from worker.slots import Gates, Slots
from worker.unhandled import UnhandledJobs

LAST_S: Final = 2.0
"""How long the end waits for cancelled handlers, and again for events that are not durable; their jobs are delivered again."""
CATCH_UP_S: Final = 10.0
"""How long the start waits for the cancellations of before: a fresh copy of a cancelled job is recognised by them alone."""

log = logging.getLogger(__name__)


class Engine:
    """Consumes `jobs.main` until it is drained. One per worker process."""

    def __init__(
        self,
        *,
        broker: Broker,
        breakers: Breakers,
        scope: BreakerRule = BreakerScope.TYPE,
        guard: DuplicateGuard,
        events: EventOutbox,
        runner: Runner,
        handlers: Mapping[str, HandlerSpec],
        policy: RetryPolicy | PolicyOf,
        concurrency: int,
        prefetch_bytes: int = PREFETCH_BYTES,
        clock: Clock,
        name: str,
        fleet: FleetView,
        rates: RateGate | None = None,
        grace_ms: int = 0,
        pause_s: float = 1.0,
        last_s: float = LAST_S,
        catch_up_s: float = CATCH_UP_S,
        observer: Observer = NOBODY,
        redact: Redact = unchanged,
    ) -> None:
        """Run at most `concurrency` handlers at a time; `name` is the name of this worker in a job's history.

        `pause_s` is how long a job that could not be settled is held before it is requeued; `last_s` is LAST_S, `catch_up_s` is
        CATCH_UP_S. The observer is called for each message in the task that processes it, so that task's context is the job's. `redact`
        removes secrets from the texts of faults. `fleet` and `grace_ms` decide about jobs without a handler here (`unhandled.py`), `rates`
        limits the runs of types.
        """
        policy_of = same_for_all(policy) if isinstance(policy, RetryPolicy) else policy
        self._last_s = last_s
        self._catch_up_s = catch_up_s
        self._broker = broker
        self._guard = guard
        self._events = events
        self._runner = runner
        self._prefetch = min(2_000, max(10, 2 * concurrency))
        self._slots = Slots(concurrency)
        limits = {spec.job_type: spec.concurrency for spec in handlers.values() if spec.concurrency}
        self._gates = Gates(limits, self._prefetch // 4, prefetch_bytes // 4)
        self._isolation = CrashIsolation(guard, self._slots, self._prefetch)
        self._settler = Settler(
            publisher=Publisher(broker, observer),
            guard=guard,
            events=events,
            policy=policy_of,
            clock=clock,
            name=name,
            pause_s=pause_s,
            redact=redact,
        )
        self._pipeline = Pipeline(
            guard=guard,
            isolation=self._isolation,
            slots=self._slots,
            gates=self._gates,
            breakers=breakers,
            scope=scope,
            runner=runner,
            settler=self._settler,
            unhandled=UnhandledJobs(fleet, self._settler, grace_ms),
            events=events,
            observer=observer,
            handlers=handlers,
            policy=policy_of,
            rates=rates or RateGate(),
            clock=clock,
        )
        events.on_rejected = self._on_refused
        self._tasks: set[asyncio.Task[None]] = set()
        self._consumer: Consumer | None = None
        self._draining = False
        self._drained = asyncio.Event()

    @property
    def is_stuck(self) -> bool:
        """Whether a cancelled handler is still running, because it swallows its cancellation."""
        return self._drained.is_set() and bool(self._tasks)

    @property
    def slots_in_use(self) -> int:
        """How many of its slots are taken."""
        return self._slots.in_use

    async def run(self) -> None:
        """Work until `drain` is called."""
        await self._catch_up()
        async with self._broker.consume(Queue.MAIN, self._prefetch) as consumer:
            self._consumer = consumer
            self._guard.register_worker(self._events.is_unreported, takes_jobs=True)
            while not self._draining and (batch := await self._next(consumer)) is not None:
                for delivery in batch:
                    self._start(delivery)
            await self._drained.wait()
            await self._events.flush(self._last_s)

    async def drain(self, grace_s: float) -> None:
        """Consume no more jobs, let running ones finish for `grace_s` seconds, then cancel them; unfinished ones are requeued."""
        if self._drained.is_set():
            return
        self._draining = True
        self._guard.register_worker(self._events.is_unreported, takes_jobs=False)
        self._gates.close()
        self._isolation.close()
        try:
            if self._consumer:
                await self._consumer.stop()
            await self._wait_for_tasks(grace_s)
            self._runner.cancel_all()
            await self._wait_for_tasks(self._last_s)
        finally:
            self._drained.set()
            self._slots.close()

    async def _catch_up(self) -> None:
        """Wait until the cancellations of before are known; if the ledger is unavailable for long, jobs run without it."""
        waiting = {asyncio.ensure_future(self._guard.caught_up()), asyncio.ensure_future(self._drained.wait())}
        try:
            done, _ = await asyncio.wait(waiting, timeout=self._catch_up_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        if not done:
            log.warning("the ledger does not answer: this worker starts without knowing which jobs were cancelled before")

    async def _wait_for_tasks(self, within_s: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    async def _next(self, consumer: Consumer) -> Sequence[Delivery] | None:
        """As many jobs as there are free slots; None once draining."""
        free = await self._slots.free()
        if self._draining:
            return None
        try:
            return await consumer.get(free) or None
        except Unavailable as error:
            log.warning("cannot consume jobs, retrying: %s", error)
            await self._settler.pause()
            return ()

    def _start(self, delivery: Delivery) -> None:
        self._slots.take()
        task = asyncio.create_task(self._process_safely(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._slots.give)

    async def _process_safely(self, delivery: Delivery) -> None:
        """Process one delivery and settle it in any case."""
        try:
            await self._pipeline.process(delivery)
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

    def _on_refused(self, _: JobEvent, delivery: Delivery | None, error: BaseException) -> None:
        """See `EventOutbox.on_rejected`: the job has run, but its event cannot be published."""
        if delivery is not None:
            task = asyncio.create_task(self._settler.charge_fault(delivery, error))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

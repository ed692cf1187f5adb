"""Consumes jobs: takes as many as there are free slots, sends each on its way (`pipeline.py`), and drains at the end.

Whatever goes wrong on the way gives the delivery back, so that it is delivered again, or is charged to its job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent
from sickbay.domain.raised import Redact, unchanged
from sickbay.domain.retry import RetryPolicy
from sickbay.handlers.registry import HandlerSpec
from sickbay.messages.outbox import EventOutbox
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import PREFETCH_BYTES, Breakers, Broker, Clock, Consumer, Delivery, DuplicateGuard, Queue
from worker.crash_isolation import CrashIsolation
from worker.pipeline import Pipeline
from worker.runner import Runner
from worker.settler import Settler
from worker.slots import Gates, Slots

LAST_S: Final = 2.0
"""How long the end waits for handlers that were broken off, and again for events that are not durable; their jobs are delivered again."""

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
        self._last_s = last_s
        self._broker = broker
        self._fence = fence
        self._events = events
        self._runner = runner
        self._prefetch = min(2_000, max(10, 2 * concurrency))
        self._slots = Slots(concurrency)
        few = {spec.job_type: spec.concurrency for spec in handlers.values() if spec.concurrency}
        self._gates = Gates(few, self._prefetch // 4, prefetch_bytes // 4)
        self._isolation = CrashIsolation(fence, self._slots, self._prefetch)
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
        self._pipeline = Pipeline(
            guard=fence,
            isolation=self._isolation,
            slots=self._slots,
            gates=self._gates,
            breakers=breakers,
            runner=runner,
            settler=self._settler,
            events=events,
            observer=observer,
            handlers=handlers,
            policy=policy,
            clock=clock,
        )
        events.on_rejected = self._refused
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
            self._fence.register_worker(self._events.is_unreported, takes_jobs=True)
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
        self._fence.register_worker(self._events.is_unreported, takes_jobs=False)
        self._gates.close()
        self._isolation.close()
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
            log.warning("cannot consume jobs, retrying: %s", error)
            await self._settler.pause()
            return ()

    def _begin(self, delivery: Delivery) -> None:
        self._slots.take()
        task = asyncio.create_task(self._process_safely(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._slots.give)

    async def _process_safely(self, delivery: Delivery) -> None:
        """One delivery, which is settled in the end whatever happens."""
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

    def _refused(self, _: JobEvent, delivery: Delivery | None, error: BaseException) -> None:
        """See `EventOutbox.on_rejected`: the job has run, but what became of it cannot be told."""
        if delivery is not None:
            task = asyncio.create_task(self._settler.charge_fault(delivery, error))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

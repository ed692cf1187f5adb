"""Processes each job that `intake.py` starts (`pipeline.py`), and drains at the end.

If processing fails, the delivery is requeued, so that it is delivered again, or the error counts as an attempt of its job.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from sickbay.domain.access import Tenants
from sickbay.domain.breaker import BreakerRule, BreakerScope
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent
from sickbay.domain.lane import Flow, Lane
from sickbay.domain.raised import Redact, unchanged
from sickbay.domain.retry import PolicyOf, RetryPolicy, same_for_all
from sickbay.fleet import FleetView
from sickbay.handlers.registry import HandlerSpec
from sickbay.messages.outbox import EventOutbox
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import LANES, PREFETCH_BYTES, Breakers, Broker, Clock, Delivery, DuplicateGuard, PoolQueue
from worker.crash_isolation import CrashIsolation
from worker.demotion import Demotion
from worker.elsewhere import ElsewhereSpec
from worker.follow_ups import FollowUps, Submitter
from worker.intake import Intake
from worker.pipeline import Pipeline
from worker.pool_roll import PoolRoll
from worker.progress import ProgressReports
from worker.rate_gate import RateGate
from worker.received import Received
from worker.runner import Runner
from worker.settler import Settler
from worker.shares import Shares
from worker.slots import Gate, Gates, Slots
from worker.unhandled import UnhandledJobs

LAST_S: Final = 2.0
"""How long the end waits for cancelled handlers, and again for events that are not durable; their jobs are delivered again."""
CATCH_UP_S: Final = 10.0
"""How long the start waits for the cancellations of before: a fresh copy of a cancelled job is recognised by them alone."""

log = logging.getLogger(__name__)


def _unset(_: str) -> None:
    """No share is set."""


def _own(_: str, own: int | None) -> int | None:
    """What the handler itself says."""
    return own


class Engine:
    """Consumes the queues of all lanes until it is drained. One per worker process."""

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
        share_of: Callable[[str], float | None] = _unset,
        concurrency_of: Callable[[str, int | None], int | None] = _own,
        pool: str = "",
        submitter: Submitter | None = None,
        foreign: Tenants = None,
    ) -> None:
        """Run at most `concurrency` handlers at a time; `name` is the name of this worker in a job's history.

        `pause_s` is how long a job that could not be settled is held before it is requeued; `last_s` is LAST_S, `catch_up_s` is
        CATCH_UP_S. The observer is called for each message in the task that processes it, so that task's context is the job's. `redact`
        removes secrets from the texts of faults. `fleet` and `grace_ms` decide about jobs without a handler here (`unhandled.py`), `rates`
        limits the runs of types. `share_of` is which part of the slots a job type may hold, None if that is not set (`shares.py`).
        `concurrency_of` is how many jobs of a type may run at a time, asked with what its handler says, and again at `handlers_changed`.
        `submitter` submits what handlers ask for; without one they cannot. With a `pool` it takes jobs from the queue of that alone.
        Messages that none of our services has published run for the tenants of `foreign` alone.
        """
        policy_of = same_for_all(policy) if isinstance(policy, RetryPolicy) else policy
        self._last_s = last_s
        self._catch_up_s = catch_up_s
        self._guard = guard
        self._events = events
        self._runner = runner
        prefetch = min(2_000, max(10, 2 * concurrency))
        self._slots = Slots(concurrency)
        self._handlers = handlers
        self._concurrency_of = concurrency_of
        self._gates = Gates(self._limits(), prefetch // 4, prefetch_bytes // 4)
        self._isolation = CrashIsolation(guard, prefetch)
        publisher = Publisher(broker, observer)
        self._settler = Settler(
            publisher=publisher,
            guard=guard,
            events=events,
            policy=policy_of,
            clock=clock,
            name=name,
            pause_s=pause_s,
            redact=redact,
            home=PoolQueue(pool).key if pool else "",
        )
        self._follow_ups = FollowUps(submitter)
        self._pipeline = Pipeline(
            guard=guard,
            isolation=self._isolation,
            gates=self._gates,
            breakers=breakers,
            scope=scope,
            runner=runner,
            settler=self._settler,
            unhandled=UnhandledJobs(fleet, self._settler, grace_ms, pool),
            events=events,
            observer=observer,
            handlers=handlers,
            policy=policy_of,
            rates=rates or RateGate(),
            progress=ProgressReports(events, clock, redact),
            follow_ups=self._follow_ups,
            clock=clock,
            foreign=foreign,
        )
        events.on_rejected = self._on_refused
        runner.is_to_end = guard.is_to_end
        self._tasks: set[asyncio.Task[None]] = set()
        self._demotion: Demotion[Received] = Demotion(publisher)
        self.intake = Intake(
            broker=broker,
            slots=self._slots,
            shares=Shares(concurrency, share_of),
            demotion=self._demotion,
            fleet=fleet,
            concurrency=concurrency,
            prefetch=prefetch,
            clock=clock,
            start=self._start,
            pause=self._settler.pause,
            queues={Lane.MAIN: PoolQueue(pool)} if pool else LANES,
        )
        self._roll = PoolRoll(broker) if pool else None
        self._drained = asyncio.Event()

    @property
    def is_stuck(self) -> bool:
        """Whether a cancelled handler is still running, because it swallows its cancellation."""
        return self._drained.is_set() and bool(self._tasks)

    @property
    def slots_in_use(self) -> int:
        """How many of its slots are taken."""
        return self._slots.in_use

    @property
    def floods(self) -> frozenset[Flow]:
        """The flows that flood this worker now."""
        return self.intake.floods

    @property
    def demoted(self) -> Counter[str]:
        """How many jobs of each type it has moved to the lane of the demoted."""
        return self._demotion.moved

    def handlers_changed(self) -> None:
        """The mapping of handlers has other contents, or other limits hold: jobs that have not begun run by these."""
        self._gates.limit(self._limits())

    def _limits(self) -> Mapping[str, int | Gate]:
        """How many jobs of a type may run at a time, where that is limited; those that run elsewhere have a gate of their own."""
        found: dict[str, int | Gate] = {}
        for spec in self._handlers.values():
            limit = spec.gate if isinstance(spec, ElsewhereSpec) else self._concurrency_of(spec.job_type, spec.concurrency)
            if limit is not None:
                found[spec.job_type] = limit
        return found

    async def run(self) -> None:
        """Work until `drain` is called."""
        await self._catch_up()
        async with self._roll or contextlib.nullcontext():
            await self.intake.run(lambda: self._register(takes_jobs=True), self._ending)

    async def drain(self, grace_s: float) -> None:
        """Consume no more jobs, let running ones finish for `grace_s` seconds, then cancel them; unfinished ones are requeued."""
        if self._drained.is_set():
            return
        self._register(takes_jobs=False)
        self._gates.close()
        self._isolation.close()
        try:
            await self.intake.stop()
            if self._roll is not None:
                await self._roll.leave()
            await self._wait_for_tasks(grace_s)
            self._runner.cancel_all()
            await self._wait_for_tasks(self._last_s)
            await self._follow_ups.close(self._last_s)
        finally:
            self._drained.set()

    def _register(self, *, takes_jobs: bool) -> None:
        self._guard.register_worker(self._events.is_unreported, self._runner.end_run, takes_jobs=takes_jobs)

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

    async def _ending(self) -> None:
        """Wait for the drain, and for the events of what has run."""
        await self._drained.wait()
        await self._events.flush(self._last_s)

    def _start(self, one: Received) -> None:
        task = asyncio.create_task(self._process_safely(one))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(one.end)

    async def _process_safely(self, one: Received) -> None:
        """Process one delivery and settle it in any case."""
        delivery = one.delivery
        try:
            await self._pipeline.process(delivery, one.job, one)
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

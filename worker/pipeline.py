"""Processes a job in a worker, from the bytes of a message to its settlement.

Decode, check for duplicates, find the handler and a slot, ask the breaker, run, report, settle exactly once. Nothing is lost: a delivery
is acknowledged only after its successor (a success event, a retry copy, a quarantine copy) is durable.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from time import perf_counter
from typing import Final

from sickbay.domain.access import Tenants
from sickbay.domain.breaker import BreakerRule, BreakerState, Permit, Refusal
from sickbay.domain.encodings import explain
from sickbay.domain.job import Job, Reason
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.domain.retry import SPREAD, Done, PolicyOf, Route, after_cancel_request, after_run
from sickbay.domain.run_context import RunContext, bind, unbind
from sickbay.handlers.registry import HandlerSpec
from sickbay.messages.codec import Undecodable, decode_job
from sickbay.messages.outbox import EventOutbox
from sickbay.messages.payment import paid_at
from sickbay.observer import Observer
from sickbay.ports import Breakers, Clock, Delivery, DuplicateGuard
from worker.crash_isolation import MAX_CRASHES, CrashIsolation
from worker.demotion import DEMOTED
from worker.follow_ups import FollowUps
from worker.progress import ProgressReports
from worker.rate_gate import Passage, RateGate
from worker.run import CANCELLED
from worker.runner import Runner
from worker.settler import Settler
from worker.slots import MAX_HELD_S, Gates, Seat
from worker.unhandled import UnhandledJobs

_chance: Final = Random()  # noqa: S311 - spreads retries, and asks the kernel once instead of at each run
SURE_MS: Final = 20 * 3_600_000
"""A copy that waited longer is compared with the ledger before it runs: cancellations are kept in memory for 24 hours."""


class Pipeline:
    """One per worker; `process` may run many times concurrently."""

    def __init__(
        self,
        *,
        guard: DuplicateGuard,
        isolation: CrashIsolation,
        gates: Gates,
        breakers: Breakers,
        scope: BreakerRule,
        runner: Runner,
        settler: Settler,
        unhandled: UnhandledJobs,
        events: EventOutbox,
        observer: Observer,
        handlers: Mapping[str, HandlerSpec],
        policy: PolicyOf,
        rates: RateGate,
        progress: ProgressReports,
        follow_ups: FollowUps,
        clock: Clock,
        foreign: Tenants = None,
    ) -> None:
        """Take the worker's parts; `scope` says whose breaker a job asks, `policy` is asked after each failed run.

        Messages that none of our services has published run for the tenants of `foreign` alone.
        """
        self._rates, self._foreign = rates, foreign
        self._guard, self._isolation, self._gates = guard, isolation, gates
        self._breakers, self._scope, self._runner, self._settler, self._events = breakers, scope, runner, settler, events
        self._observer, self._handlers, self._clock = observer, handlers, clock
        self._policy, self._unhandled, self._progress, self._follow_ups = policy, unhandled, progress, follow_ups

    async def process(self, delivery: Delivery, decoded: Job | None, seat: Seat) -> None:
        """Process and settle one delivery. Raises Unavailable if a server is unavailable and the delivery should come again.

        `decoded` is the job in it, None if that could not be read; `seat` is lent to others while the job waits for a turn.
        """
        self._observer.received(delivery)
        try:
            job = decoded or decode_job(delivery.body, delivery.message_id, self._clock(), delivery.headers)
        except Undecodable as error:
            return await self._settler.quarantine_undecodable(delivery, explain(str(error), delivery.body, delivery.encoding))
        if self._foreign is not None and delivery.is_foreign and job.tenant not in self._foreign:
            return await self._settler.quarantine_foreign(delivery, job.tenant)
        return await self._process(delivery, job, seat)

    async def _process(self, delivery: Delivery, job: Job, seat: Seat) -> None:
        if self._guard.is_cancelled(job):
            return delivery.ack()
        if self._guard.is_to_end(job):
            return await self._settler.end(delivery, job)
        if not delivery.redelivered:
            is_only_copy = job.is_fresh and DEMOTED not in delivery.headers and self._clock() - job.submitted_at < SURE_MS
            return await (self._check_limits(delivery, job, seat) if is_only_copy else self._check_duplicates(delivery, job, seat))
        async with self._isolation.turn(job, seat) as has_come:
            if has_come:
                return await self._check_duplicates(delivery, job, seat)
            return delivery.nack()  # still a poison candidate when it comes again

    async def _check_duplicates(self, delivery: Delivery, job: Job, seat: Seat) -> None:
        """Check a copy that may not be the only one: it is dropped if superseded, and quarantined if it killed too many workers."""
        if (job.maybe_duplicate or delivery.redelivered) and await self._events.has_succeeded(job.job_id):
            return self._settler.drop(delivery, job)  # the ledger may be late with it
        found = await self._isolation.check(delivery, job)
        if found.superseded:
            return self._settler.drop(delivery, job)
        if found.is_to_end:
            return await self._settler.end(delivery, job)
        try:
            if found.crashes + 1 >= MAX_CRASHES:
                await self._settler.quarantine(delivery, job, Reason.WORKER_LOST, f"{MAX_CRASHES} workers crashed while running this job")
            else:
                await self._check_limits(delivery, job, seat)
        except Exception:
            await self._isolation.record_survival(delivery, job)
            raise
        return await self._isolation.record_survival(delivery, job)  # not if the process dies in between: it may have died of this job

    async def _check_limits(self, delivery: Delivery, job: Job, seat: Seat) -> None:
        """Find the handler, and wait for a turn if its job type allows only a few at a time."""
        spec = self._handlers.get(job.job_type)
        if spec is None:
            return await self._unhandled.settle(delivery, job)
        if self._gates.is_crowded(job.job_type) or self._runner.is_exhausted(spec):
            return await self._settler.defer(delivery, job)
        async with self._gates.turn(job.job_type, seat, len(delivery.body)) as has_come:
            spec = self._handlers.get(job.job_type)  # after the wait it may be another one
            if spec is None:
                return await self._unhandled.settle(delivery, job)
            if has_come and delivery.held_s + self._runner.timeout_of(spec) <= MAX_HELD_S:
                return await self._check_cancelled(delivery, job, spec)
            if has_come and delivery.redelivered:
                return delivery.nack()  # still a poison candidate when it comes again
            return await self._settler.defer(delivery, job)

    async def _check_cancelled(self, delivery: Delivery, job: Job, spec: HandlerSpec) -> None:
        """Run it, unless it is being cancelled: from here on a cancellation sees the run."""
        if not await self._guard.begin(job):
            return delivery.ack()
        try:
            return await self._run(delivery, job, spec)
        finally:
            self._guard.end(job)

    async def _run(self, delivery: Delivery, job: Job, spec: HandlerSpec) -> None:
        """Get a permit, run, and settle by the outcome."""
        key, longest_ms = self._scope.key_of(job.job_type, job.tenant), round(1000 * self._runner.timeout_of(spec))
        passage = await self._rates.ask(job.job_type, key, paid_at(delivery.headers)) if self._rates.limits(job.job_type) else Passage.FREE
        if passage is Passage.REFUSED:
            return await self._settler.park(delivery, job, Reason.RATE_LIMITED)
        permit = await self._breakers.admit(key, job.job_id, longest_ms, released=job.generation > 0)
        if isinstance(permit, Refusal):
            return await self._settler.park(delivery, job)
        if passage is Passage.OF_BREAKER and not await self._rates.ask_after(job.job_type, permit, paid_at(delivery.headers)):
            await self._breakers.settle(permit, CANCELLED)  # it has closed meanwhile: the job asks for nothing but its turn
            return await self._settler.park(delivery, job, Reason.RATE_LIMITED)
        started = self._settler.running_event(job)
        self._events.report_start(started)
        context = RunContext(
            self._progress.of_run(started), run=started.run, deadline_ms=started.at + longest_ms, submit=self._follow_ups.submit
        )
        bind(job, context)
        began = perf_counter()
        try:
            outcome = await self._run_observed(spec, job, permit)
            if context.follow_ups is not None and outcome.kind is OutcomeKind.SUCCESS:
                outcome = await self._follow_ups.settled(context.follow_ups, outcome, spec)
        finally:
            unbind(job)
            self._progress.end(started)
        took_ms = round(1000 * (perf_counter() - began))
        state = await self._breakers.settle(permit, CANCELLED if delivery.is_lost else outcome, took_ms)
        return await self._settler.settle(delivery, self._route(job, spec, outcome, state), started)

    def _route(self, job: Job, spec: HandlerSpec, outcome: Outcome, state: BreakerState) -> Route:
        """Where the job goes; only after a failure somebody has to know the policy."""
        if outcome.kind is OutcomeKind.SUCCESS:
            return Done(outcome.result)
        if self._guard.is_to_end(job):
            return after_cancel_request(outcome)
        policy = self._policy(job.job_type, spec.retry)
        return after_run(job, outcome, state, policy, self._clock(), spread=_chance.randrange(SPREAD + 1))

    async def _run_observed(self, spec: HandlerSpec, job: Job, permit: Permit) -> Outcome:
        self._observer.run_started(job, permit)
        began, outcome = perf_counter(), None
        try:
            outcome = await self._runner.run(spec, job, permit)
            return outcome
        finally:
            self._observer.run_ended(job, permit, outcome, perf_counter() - began)

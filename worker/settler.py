"""Settles deliveries: makes a job's successor durable and only then acknowledges; the only place where that happens.

A delivery that cannot be settled is requeued after a back-off. An internal error of the worker counts as an attempt of the job.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sickbay.concurrency.pauses import backoff_delay, jitter
from sickbay.domain.errors import Unavailable
from sickbay.domain.failure import MAX_TRACEBACK_BYTES, Failure, last_bytes
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.domain.lane import lane_of
from sickbay.domain.program import MAX_LOST_RUNS
from sickbay.domain.raised import Redact
from sickbay.domain.retry import NO_OPTIONS, Cancelled, Done, GiveBack, HandBack, PolicyOf, Retry, Route, SetAside, after_fault
from sickbay.domain.run_rate import OVER_RATE
from sickbay.handlers.call import error_text
from sickbay.handlers.traceback_text import traceback_of
from sickbay.messages.codec import decode_job, encode_job, job_message
from sickbay.messages.outbox import EventOutbox
from sickbay.messages.publisher import Publisher
from sickbay.messages.undecodable import undecodable_job
from sickbay.ports import TO_RETRY, Clock, Delivery, DuplicateGuard, Message

MAX_PAUSES: Final = 30
DEFERRALS: Final = "put-off"
"""The header that counts how often a message has been deferred; a run, or any other outcome of the job, resets it."""
LACKING_SINCE: Final = "no-worker-since"
"""The header that says since when no worker has handled the job's type, in ms by the registry's clock; absent once one may."""
LOST_RUNS: Final = "runs-lost"
"""The header that counts how often in a row the program that ran the job was lost; a run that ends otherwise resets it."""
LOST_PAUSE_MS: Final = 1_000
"""Before a job runs again whose program was lost for the second time."""
MAX_DEFERRALS: Final = 99
MIN_DEFER_MS: Final = 100
MAX_DEFER_MS: Final = 30_000
"""A longer delay would block shorter ones behind it, and a slot may become free at any time."""

log = logging.getLogger(__name__)


class Settler:
    """One per engine."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        guard: DuplicateGuard,
        events: EventOutbox,
        policy: PolicyOf,
        clock: Clock,
        name: str,
        pause_s: float,
        redact: Redact,
        home: str = "",
    ) -> None:
        """Publish the events of jobs through `events`, as the worker `name`.

        `pause_s` is how long a job that could not be settled is held at first; `redact` removes secrets from the texts of faults.
        `home` is the key of the queue that retries return to; empty for the lane of each job.
        """
        self._home = home
        self._publisher = publisher
        self._guard = guard
        self._events = events
        self._policy = policy
        self._clock = clock
        self._name = name
        self._redact = redact
        self._runs = itertools.count(1)
        self.pause_s = pause_s
        self.trouble_since: float | None = None
        """Since when (in the loop's time) a server has been unavailable; None while all are available."""

    def running_event(self, job: Job) -> JobEvent:
        """The event of a run that starts now."""
        return self.event(job, JobState.RUNNING, run=self._run())

    async def park(self, delivery: Delivery, job: Job, reason: Reason = Reason.CIRCUIT_OPEN) -> None:
        """Park a job that its breaker refuses, or that is over the rate of its type: it is not at fault, and waits in quarantine."""
        await self.settle(delivery, SetAside(job, reason), self.event(job, JobState.PARKED))

    async def end(self, delivery: Delivery, job: Job) -> None:
        """End a job of which somebody asked to cancel a run, in place of running it again."""
        await self.settle(delivery, Cancelled(), self.event(job, JobState.CANCELLED))

    async def quarantine_undecodable(self, delivery: Delivery, why: str) -> None:
        """Put a message that cannot be decoded into quarantine, with its bytes."""
        quarantined = undecodable_job(delivery.body, delivery.message_id, why, self._clock())
        await self.settle(delivery, SetAside(quarantined, Reason.UNDECODABLE), self.event(quarantined, JobState.QUARANTINED))

    async def quarantine_foreign(self, delivery: Delivery, tenant: str) -> None:
        """Put a foreign message for a tenant that takes none into quarantine, with its bytes.

        Under an id of its own: the one that it claims may be that of a job of somebody else.
        """
        why = f"published by a RabbitMQ user that is none of TRUSTED_USERS, for the tenant {tenant}, which is none of FOREIGN_TENANTS"
        quarantined = undecodable_job(delivery.body, "", why, self._clock())
        await self.settle(delivery, SetAside(quarantined, Reason.UNDECODABLE), self.event(quarantined, JobState.QUARANTINED))

    async def give_back(self, delivery: Delivery) -> None:
        """Requeue it after a pause, because it is redelivered at once."""
        try:
            await self.pause()
        finally:
            delivery.nack()

    async def pause(self) -> None:
        """Wait half as long as servers have been unavailable, from `pause_s` to 30 times that: a back-off."""
        now = asyncio.get_running_loop().time()
        if self.trouble_since is None:
            self.trouble_since = now
        seconds = min(max(self.pause_s, (now - self.trouble_since) / 2), MAX_PAUSES * self.pause_s)
        await asyncio.sleep(seconds * jitter())

    async def charge_fault(self, delivery: Delivery, error: BaseException) -> None:
        """Count an internal error of this worker as an attempt of the job, which is quarantined after a few."""
        log.error("internal error while processing a message: %s", error_text(error, self._redact), exc_info=error)
        settled = False
        try:
            await self._settle_fault(delivery, error)
            settled = True
        except Unavailable as away:
            log.warning("a job goes back to the queue: %s", away)
        except Exception:
            log.exception("the internal error could not be counted; the job goes back to the queue")
        finally:
            if not settled:
                await self.give_back(delivery)

    async def _settle_fault(self, delivery: Delivery, error: BaseException) -> None:
        now, text = self._clock(), error_text(error, self._redact)
        traceback = last_bytes(self._redact(traceback_of(error, self._redact)), MAX_TRACEBACK_BYTES)
        try:
            job = decode_job(delivery.body, delivery.message_id, now, delivery.headers)
            route = after_fault(job, text, self._policy(job.job_type, NO_OPTIONS), now, traceback)
            await self.settle(delivery, route, self.event(job, route.state))
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - even that failed: keep the bytes
            quarantined = undecodable_job(delivery.body, delivery.message_id, text, now, traceback)
            await self.settle(delivery, SetAside(quarantined, Reason.WORKER_FAULT), self.event(quarantined, JobState.QUARANTINED))

    async def defer(self, delivery: Delivery, job: Job) -> None:
        """Defer a job of which too many wait or hang here, or that waited too long: it is redelivered later, and no attempt is counted."""
        await self._defer(delivery, delivery.body, self._defer_ms(deferrals(delivery)), {}, self._home or lane_of(job.priority))

    async def hand_on(self, delivery: Delivery, job: Job, delay_ms: int, lacking_since: int | None, to: str = "") -> None:
        """The same with a job that another worker may handle, by the copy `job`; see LACKING_SINCE. `to` is the key of its queue."""
        headers = {LACKING_SINCE: str(lacking_since)} if lacking_since else {}
        await self._defer(delivery, encode_job(job), delay_ms, headers, to or self._home or lane_of(job.priority))

    async def _defer(self, delivery: Delivery, body: bytes, delay_ms: int, headers: Mapping[str, str], to: str) -> None:
        kept = {name: value for name, value in delivery.headers.items() if name != LACKING_SINCE}
        counted = {**kept, **headers, DEFERRALS: str(min(deferrals(delivery) + 1, MAX_DEFERRALS))}
        await self._publisher.publish([Message(TO_RETRY, body, delay_ms, to, headers=counted)])
        delivery.ack()

    def _defer_ms(self, times: int) -> int:
        """`RETRY_DELAY_MS`, doubled each time up to 30 s."""
        first = max(self._policy("", NO_OPTIONS).delay_ms, MIN_DEFER_MS)
        longest = max(first, MAX_DEFER_MS)
        return int(min(backoff_delay(first, longest, times) * jitter(), longest))

    async def settle(self, delivery: Delivery, route: Route, running_event: JobEvent) -> None:
        """Make the successor durable, then acknowledge; the only place where that happens. A cancelled job does not run again."""
        if isinstance(route, Retry | SetAside | HandBack) and self._guard.is_cancelled(running_event.job):
            self._events.forget(running_event.job.job_id)
            return delivery.ack()
        if isinstance(route, Retry | SetAside | GiveBack | HandBack) and self._guard.is_to_end(running_event.job):
            route = Cancelled()
        match route:
            case Cancelled(message):
                code, now = JobState.CANCELLED.value, self._clock()
                ended = replace(running_event, state=JobState.CANCELLED, at=now, code=code, message=message)
                self._events.add(ended, delivery)
            case Done(result):
                self._events.add(replace(running_event, state=JobState.SUCCEEDED, at=self._clock(), result=result), delivery)
            case Retry(job, delay_ms, beyond_limit):
                # Before the delay begins, so that the history never shows a shorter one.
                event = replace(self._with_outcome(running_event, job, JobState.RETRYING), beyond_limit=beyond_limit)
                await self._publisher.publish([job_message(TO_RETRY, job, delay_ms, self._home)])
                self._events.add(event, delivery)
            case SetAside(job, reason):
                await self._events.set_aside(replace(self._with_outcome(running_event, job, route.state, reason), reason=reason))
                delivery.ack()
            case GiveBack():
                self._events.forget(running_event.job.job_id)
                delivery.nack()
            case HandBack(job):
                await self._hand_back(delivery, job, running_event)
        return None

    async def _hand_back(self, delivery: Delivery, job: Job, running_event: JobEvent) -> None:
        """Let another program run it: the first time at once. One that may be the cause of it is quarantined after a few times.

        It is not requeued as it is: RabbitMQ would deliver it again at once, for ever, and nobody would count.
        """
        lost = _number(delivery, LOST_RUNS) + 1
        if lost >= MAX_LOST_RUNS:
            why = f"{lost} programs were lost while running this job: their streams broke, or nothing was heard of them"
            failure = Failure(self._clock(), job.generation, job.attempt, Reason.WORKER_LOST.value, why)
            return await self.settle(delivery, SetAside(job.failed(failure), Reason.WORKER_LOST), running_event)
        self._events.forget(job.job_id)
        delay_ms = 0 if lost == 1 else round(LOST_PAUSE_MS * jitter())
        # If this process dies before the acknowledgement, there are two copies.
        copy = replace(job, maybe_duplicate=True)
        return await self._defer(delivery, encode_job(copy), delay_ms, {LOST_RUNS: str(lost)}, self._home or lane_of(job.priority))

    async def quarantine(self, delivery: Delivery, job: Job, reason: Reason, message: str) -> None:
        """Quarantine a job that needs a person."""
        failed = job.failed(Failure(self._clock(), job.generation, job.attempt, reason.value, message))
        await self.settle(delivery, SetAside(failed, reason), self.event(job, JobState.QUARANTINED))

    def drop(self, delivery: Delivery, job: Job) -> None:
        """Drop a superseded copy and count it as a duplicate."""
        self._events.add(replace(self.event(job, JobState.QUEUED), run=self._run(), duplicate=True), delivery)

    def event(self, job: Job, state: JobState, run: str = "") -> JobEvent:
        """An event of this worker about a job."""
        now = self._clock()
        return JobEvent(job, state, now, started_at=now if run else None, run=run, actor=self._name)

    def _with_outcome(self, running_event: JobEvent, job: Job, state: JobState, reason: Reason | None = None) -> JobEvent:
        last = job.failures[-1] if job.failures else None
        parked = state is JobState.PARKED and running_event.started_at is None
        code = OVER_RATE if reason is Reason.RATE_LIMITED else Reason.CIRCUIT_OPEN.value
        code, message = (code, "") if parked or last is None else (last.code, last.message)
        return replace(running_event, job=job, state=state, at=self._clock(), code=code, message=message)

    def _run(self) -> str:
        return f"{self._name}.{next(self._runs)}"


def deferrals(delivery: Delivery) -> int:
    """How often the message has been deferred, at most MAX_DEFERRALS; 0 if the header is invalid."""
    return _number(delivery, DEFERRALS)


def _number(delivery: Delivery, header: str) -> int:
    text = delivery.headers.get(header, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 2 else 0  # noqa: PLR2004 - digits

"""Settles deliveries: makes a job's successor durable and only then acknowledges; the one place where that happens.

What cannot be settled goes back to the queue, after a pause that grows with the trouble. What the worker itself fails at is charged to the
job.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import replace
from typing import Final

from sickbay.concurrency.pauses import grown, spread
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import MAX_TRACEBACK_BYTES, Failure, Job, JobEvent, JobState, Reason, last_bytes
from sickbay.domain.raised import Redact
from sickbay.domain.retry import Done, GiveBack, Retry, RetryPolicy, Route, SetAside, after_fault
from sickbay.handlers.traceback_text import traceback_of
from sickbay.messages.codec import decode_job, job_message, undecodable_job
from sickbay.messages.outbox import EventOutbox
from sickbay.messages.publisher import Publisher
from sickbay.ports import TO_RETRY, Clock, Delivery, DuplicateGuard, Message
from worker.call import error_text

MAX_PAUSES: Final = 30
PUT_OFF: Final = "put-off"
"""The header that says how often a message has been put off; a run, or whatever else becomes of the job, begins anew."""
MOST_TOLD: Final = 99
MIN_PUT_OFF_MS: Final = 100
MAX_PUT_OFF_MS: Final = 30_000
"""A longer delay waits in front of shorter ones, and a turn may come at any time."""

log = logging.getLogger(__name__)


class Settler:
    """One per engine."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        fence: DuplicateGuard,
        events: EventOutbox,
        policy: RetryPolicy,
        clock: Clock,
        name: str,
        pause_s: float,
        redact: Redact,
    ) -> None:
        """Tell of jobs through `events`, as the worker `name`.

        `pause_s` is how long a job that could not be settled is held at first; `redact` takes secrets out of faults' texts.
        """
        self._publisher = publisher
        self._fence = fence
        self._events = events
        self._policy = policy
        self._clock = clock
        self._name = name
        self._redact = redact
        self._runs = itertools.count(1)
        self.pause_s = pause_s
        self.trouble_since: float | None = None
        """Since when (the loop's seconds) something has been away; None while all is well."""

    def begun(self, job: Job) -> JobEvent:
        """The event of a run that begins now."""
        return self.event(job, JobState.RUNNING, run=self._run())

    async def park(self, delivery: Delivery, job: Job) -> None:
        """Its circuit refuses it: blameless, it waits in quarantine."""
        await self.settle(delivery, SetAside(job, Reason.CIRCUIT_OPEN), self.event(job, JobState.PARKED))

    async def keep_undecodable(self, delivery: Delivery, why: str) -> None:
        """Nobody can read it: its bytes go to a person."""
        kept = undecodable_job(delivery.body, delivery.message_id, why, self._clock())
        await self.settle(delivery, SetAside(kept, Reason.UNDECODABLE), self.event(kept, JobState.QUARANTINED))

    async def give_back(self, delivery: Delivery) -> None:
        """After a pause, for it comes again at once."""
        try:
            await self.pause()
        finally:
            delivery.nack()

    async def pause(self) -> None:
        """Half as long as the trouble has lasted, from `pause_s` to 30 times that, so that what is away is not asked for ever as often."""
        now = asyncio.get_running_loop().time()
        if self.trouble_since is None:
            self.trouble_since = now
        seconds = min(max(self.pause_s, (now - self.trouble_since) / 2), MAX_PAUSES * self.pause_s)
        await asyncio.sleep(seconds * spread())

    async def charge_fault(self, delivery: Delivery, error: BaseException) -> None:
        """A fault of this worker while it treated the job: charged, and with a person after a few times."""
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
            route = after_fault(job, text, self._policy, now, traceback)
            await self.settle(delivery, route, self.event(job, route.state))
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - not even that works: keep the bytes
            kept = undecodable_job(delivery.body, delivery.message_id, text, now, traceback)
            await self.settle(delivery, SetAside(kept, Reason.WORKER_FAULT), self.event(kept, JobState.QUARANTINED))

    async def put_off(self, delivery: Delivery) -> None:
        """Too many of its type wait or hang here already, or it waited too long: it comes again later, and nothing is charged."""
        times = _times_put_off(delivery)
        headers = {**delivery.headers, PUT_OFF: str(min(times + 1, MOST_TOLD))}
        await self._publisher.publish([Message(TO_RETRY, delivery.body, self._put_off_ms(times), headers=headers)])
        delivery.ack()

    def _put_off_ms(self, times: int) -> int:
        """`RETRY_DELAY_MS`, doubled each time up to 30 s."""
        first = max(self._policy.delay_ms, MIN_PUT_OFF_MS)
        longest = max(first, MAX_PUT_OFF_MS)
        return int(min(grown(first, longest, times) * spread(), longest))

    async def settle(self, delivery: Delivery, route: Route, begun: JobEvent) -> None:
        """Make the successor durable, then acknowledge; the only place where that happens. A job that was called off has no other run."""
        if isinstance(route, Retry | SetAside) and self._fence.is_cancelled(begun.job):
            self._events.forget(begun.job.job_id)
            return delivery.ack()
        match route:
            case Done():
                self._events.add(replace(begun, state=JobState.SUCCEEDED, at=self._clock()), delivery)
            case Retry(job, delay_ms):
                event = self._told(begun, job, JobState.RETRYING)  # before the delay begins, so that history never shows a shorter one
                await self._publisher.publish([job_message(TO_RETRY, job, delay_ms)])
                self._events.add(event, delivery)
            case SetAside(job, reason):
                await self._events.set_aside(replace(self._told(begun, job, route.state), reason=reason))
                delivery.ack()
            case GiveBack():
                self._events.forget(begun.job.job_id)
                delivery.nack()
        return None

    async def quarantine(self, delivery: Delivery, job: Job, reason: Reason, message: str) -> None:
        """A person has to look at it."""
        failed = job.failed(Failure(self._clock(), job.generation, job.attempt, reason.value, message))
        await self.settle(delivery, SetAside(failed, reason), self.event(job, JobState.QUARANTINED))

    def drop(self, delivery: Delivery, job: Job) -> None:
        """There is later news of it: counted as a duplicate."""
        self._events.add(replace(self.event(job, JobState.QUEUED), run=self._run(), duplicate=True), delivery)

    def event(self, job: Job, state: JobState, run: str = "") -> JobEvent:
        """What this worker tells of a job."""
        now = self._clock()
        return JobEvent(job, state, now, started_at=now if run else None, run=run, actor=self._name)

    def _told(self, begun: JobEvent, job: Job, state: JobState) -> JobEvent:
        last = job.failures[-1] if job.failures else None
        parked = state is JobState.PARKED and begun.started_at is None
        code, message = ("CIRCUIT_OPEN", "") if parked or last is None else (last.code, last.message)
        return replace(begun, job=job, state=state, at=self._clock(), code=code, message=message)

    def _run(self) -> str:
        return f"{self._name}.{next(self._runs)}"


def _times_put_off(delivery: Delivery) -> int:
    """How often the message has been put off, at most MOST_TOLD; whatever else somebody wrote there is 0."""
    text = delivery.headers.get(PUT_OFF, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 2 else 0  # noqa: PLR2004 - digits

"""Takes jobs in: reserve the idempotency key, publish, and only after the broker's confirm say "accepted"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from jobapi.recent import Recent
from sickbay.envelope import encode_events, job_message
from sickbay.errors import SickbayError, Unavailable
from sickbay.job import Event, Job, Record, State, new_job_id
from sickbay.ports import TO_MAIN, Broker, Clock, IdempotencyKeys, Message
from sickbay.wire_requests import Submission


@dataclass(frozen=True, slots=True)
class Accepted:
    """A durable job; `duplicate` if its idempotency key had been accepted before."""

    job: Job
    duplicate: bool = False


class TakesIn(Protocol):
    """What the service needs of an intake."""

    async def accept(self, submissions: Sequence[Submission]) -> Sequence[Accepted | SickbayError]:
        """One result for each submission, in order; never raises a SickbayError."""


class Intake:
    """The one way in, for single jobs and batches alike."""

    def __init__(self, broker: Broker, keys: IdempotencyKeys, recent: Recent, clock: Clock) -> None:
        """Accepted jobs are remembered in `recent` until the ledger knows them."""
        self._broker = broker
        self._keys = keys
        self._recent = recent
        self._clock = clock

    async def accept(self, submissions: Sequence[Submission]) -> Sequence[Accepted | SickbayError]:
        """One result for each submission, in order; those that go in are published together, with the event that tells the ledger.

        While the broker is away every one of them is Unavailable: it may or may not have arrived. A repeat under the same
        idempotency key goes on under the same job id.
        """
        results = [await self._reserve(submission) for submission in submissions]
        fresh = [result.job for result in results if isinstance(result, Accepted) and not result.duplicate]
        try:
            if fresh:
                await self._broker.publish([*(job_message(TO_MAIN, job) for job in fresh), _told(fresh)])
        except Unavailable as error:
            return [error if isinstance(result, Accepted) and not result.duplicate else result for result in results]
        for job in fresh:
            self._recent.add(Record(replace(job, payload_json=b""), State.QUEUED, job.submitted_at))
        for submission, result in zip(submissions, results, strict=True):
            if submission.request_id and isinstance(result, Accepted) and not result.duplicate:
                await self._keys.confirm(submission.tenant, submission.request_id)
        return results

    async def _reserve(self, submission: Submission) -> Accepted | SickbayError:
        now = self._clock()
        job = submission.job(new_job_id(now), now)
        if not submission.request_id:
            return Accepted(job)
        try:
            held = await self._keys.reserve(submission.tenant, submission.request_id, submission.digest, job.job_id)
        except SickbayError as error:
            return error
        kept = replace(job, job_id=held.job_id, submitted_at=held.submitted_at, maybe_duplicate=held.retaken)
        return Accepted(kept, held.duplicate)


def _told(jobs: Sequence[Job]) -> Message:
    return Message("job.accepted", encode_events(Event(job, State.QUEUED, job.submitted_at) for job in jobs))

"""Submits jobs: reserve the idempotency key, publish, and return "accepted" only after the broker's confirm."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from sickbay.concurrency.slices import Slices
from sickbay.concurrency.tasks import DetachedTasks
from sickbay.contract.requests import Submission
from sickbay.domain.errors import Refused, SickbayError, Unavailable
from sickbay.domain.job import Job, JobEvent, JobRecord, JobState, new_job_id
from sickbay.domain.queries import Accepted, KeyClaim, Reservation
from sickbay.domain.trace import no_trace
from sickbay.job_types.view import JobTypeView
from sickbay.messages.codec import encode_events, job_message
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import Broker, Clock, IdempotencyKeys, Message
from sickbay.submission.circuits import Circuits
from sickbay.submission.door import Door
from sickbay.submission.keys import SubmissionKeys
from sickbay.submission.lanes import LaneChoice
from sickbay.submission.names import NameLimits, Names
from sickbay.submission.recent import RecentJobs

MAX_EVENT_BYTES: Final = 256 * 1024
MAX_EVENT_JOBS: Final = 100
"""Jobs in one message to the ledger, so that it is decoded quickly."""


class JobSubmitter:
    """Submits single jobs and batches."""

    def __init__(
        self,
        broker: Broker,
        keys: IdempotencyKeys,
        recent: RecentJobs,
        clock: Clock,
        *,
        names: Names | None = None,
        circuits: Circuits | None = None,
        door: Door | None = None,
        lanes: LaneChoice | None = None,
        types: JobTypeView | None = None,
        slices: Slices | None = None,
        kept_bytes: int = 0,
        observer: Observer = NOBODY,
        trace: Callable[[], str] = no_trace,
    ) -> None:
        """Accepted jobs are remembered in `recent` until they are in the ledger, which also gets payloads of up to `kept_bytes`.

        `names` limits job types and tenants, `circuits` says which jobs would be parked, `door` limits rates and waiting jobs,
        `lanes` says in which lane a job waits, `types` what a payload must be, `slices` when work on a list of jobs goes on, `trace` the
        context of the call, in which a SCHEDULED job continues: others get theirs when they are published.
        """
        self._slices = slices or Slices()
        self._lanes = lanes or LaneChoice(None)
        self._circuits = circuits or Circuits()
        self._types = types or JobTypeView(None, None)
        self._door = door
        self._names = names or Names(NameLimits())
        self._kept_bytes = kept_bytes
        self._publisher = Publisher(broker, observer)
        self._observer = observer
        self._trace = trace
        self._recent = recent
        self._clock = clock
        self.detached = DetachedTasks()
        self._keys = SubmissionKeys(keys, self.detached)

    async def accept(self, submissions: Sequence[Submission]) -> Sequence[Accepted | SickbayError]:
        """One result for each submission, in order; valid ones are published together, with their events for the ledger.

        If the publish fails every one of them is Unavailable: it may or may not have been published. A repeat with the same
        idempotency key gets the same job id; if the broker has certainly accepted nothing, the key is released.
        """
        first = _first_of_key(submissions)
        results = await self._accept([submissions[place] for place in sorted(set(first))])
        by_place = dict(zip(sorted(set(first)), results, strict=True))
        answers = [by_place[place] if place == mine else _as_duplicate(by_place[mine]) for place, mine in enumerate(first)]
        self._observer.submitted([submission.job_type for submission in submissions], answers)
        return answers

    async def _accept(self, submissions: Sequence[Submission]) -> Sequence[Accepted | SickbayError]:
        """The same for submissions without repeats among them: first those over the rates of principals are rejected."""
        if self._door is None or not self._door.limits_principals:
            return await self._accept_admitted(submissions)
        verdicts = await self._door.admit([one.principal for one in submissions])
        admitted = [one for one, verdict in zip(submissions, verdicts, strict=True) if verdict is None]
        results = iter(await self._accept_admitted(admitted) if admitted else ())
        return [next(results) if verdict is None else verdict for verdict in verdicts]

    async def _accept_admitted(self, submissions: Sequence[Submission]) -> Sequence[Accepted | SickbayError]:
        """The same for those that may go on."""
        results = await self._reserve(submissions)
        if self._door is not None and self._door.has_limits:
            results = await self._limit(self._door, submissions, results)
        fresh = [result.job for result in results if isinstance(result, Accepted) and not result.duplicate]
        try:
            if fresh:
                now = [job for job in fresh if job.first_state is JobState.QUEUED]
                routed = zip(self._lanes.keys(now), now, strict=True)
                messages = [job_message(key, job) async for key, job in self._slices.over(routed)]
                messages += [message async for message in self._slices.over(_ledger_messages(fresh, self._kept_bytes, self._trace()))]
                await self._publisher.publish(messages)
        except (Refused, ValueError) as error:
            self._give_back(fresh)
            # The key of one that may be a duplicate stays: the earlier request may have been published.
            self._keys.forget([_claim(submission, job) for submission, job in _keyed(submissions, results) if not job.maybe_duplicate])
            if isinstance(error, ValueError):
                raise
            return _none_accepted(results, error)
        except Unavailable as error:
            self._give_back(fresh)
            return _none_accepted(results, error)
        for job in fresh:
            self._recent.add(JobRecord(replace(job, payload_json=b""), job.first_state, job.submitted_at))
        await self._keys.confirm([_claim(submission, job) async for submission, job in self._slices.over(_keyed(submissions, results))])
        return results

    async def _reserve(self, submissions: Sequence[Submission]) -> list[Accepted | SickbayError]:
        """The results after the keys, the limits of names and open circuits."""
        results = [self._new(submission) async for submission in self._slices.over(submissions)]
        claims = {
            place: _claim(submissions[place], result.job)
            async for place, result in self._slices.over(enumerate(results))
            if submissions[place].request_id and isinstance(result, Accepted)
        }
        reserved = await self._keys.reserve(list(claims.values()))
        rejected = []
        async for place, held in self._slices.over(zip(claims, reserved, strict=True)):
            results[place] = result = self._joined(submissions[place], results[place], held)
            if isinstance(held, Reservation) and isinstance(result, SickbayError):
                rejected.append(claims[place])
        await self._keys.release(rejected)
        return results

    def _new(self, submission: Submission) -> Accepted | SickbayError:
        refusal = self._names.use(submission.job_type, submission.tenant) or self._circuits.blindness(submission)
        if refusal is None and not submission.request_id:
            refusal = self._rejection(submission)
        now = self._clock()
        return refusal or Accepted(submission.job(new_job_id(now), now))

    def _rejection(self, submission: Submission) -> SickbayError | None:
        """Why a new job is not accepted: its payload does not fit its type, or its circuit is open."""
        return self._types.rejection(submission.job_type, submission.payload_json) or self._circuits.rejection(submission)

    def _joined(self, submission: Submission, new: Accepted | SickbayError, held: Reservation | SickbayError) -> Accepted | SickbayError:
        """The result after the key was looked up; a new job may be rejected because of its payload, or because its circuit is open.

        Not so a repeat, which gets its first answer; and if the first request has died half-way, its job may be in the queue already.
        """
        if isinstance(held, SickbayError) or isinstance(new, SickbayError):
            return held if isinstance(held, SickbayError) else new
        if not held.duplicate and not held.retaken and (rejected := self._rejection(submission)):
            return rejected
        job = submission.job(held.job_id, held.submitted_at)
        return Accepted(replace(job, maybe_duplicate=True) if held.retaken else job, held.duplicate)

    async def _limit(
        self, door: Door, submissions: Sequence[Submission], results: Sequence[Accepted | SickbayError]
    ) -> list[Accepted | SickbayError]:
        """The results after the limits of the door, which are for new jobs alone: a repeat gets its first answer, and costs nothing."""
        judged = list(results)
        new = {place: result.job for place, result in enumerate(results) if isinstance(result, Accepted) and _is_new(result)}
        verdicts = await door.judge(list(new.values()))
        rejected = []
        async for place, verdict in self._slices.over(zip(new, verdicts, strict=True)):
            if verdict is not None:
                judged[place] = verdict
                if submissions[place].request_id:
                    rejected.append(_claim(submissions[place], new[place]))
        await self._keys.release(rejected)
        return judged

    def _give_back(self, jobs: Sequence[Job]) -> None:
        if self._door is not None:
            self._door.give_back(jobs)


def _first_of_key(submissions: Sequence[Submission]) -> list[int]:
    """For each submission the index of the first one with the same idempotency key and request: its own if there is none."""
    places: dict[tuple[str, str, str, bytes], int] = {}
    return [
        places.setdefault((one.principal, one.tenant, one.request_id, one.digest), place) if one.request_id else place
        for place, one in enumerate(submissions)
    ]


def _is_new(accepted: Accepted) -> bool:
    """Whether no earlier request has submitted it, as far as is known."""
    return not accepted.duplicate and not accepted.job.maybe_duplicate


def _as_duplicate(result: Accepted | SickbayError) -> Accepted | SickbayError:
    """The result of a repeat in the same call."""
    return replace(result, duplicate=True) if isinstance(result, Accepted) else result


def _keyed(submissions: Sequence[Submission], results: Sequence[Accepted | SickbayError]) -> Iterator[tuple[Submission, Job]]:
    """The new jobs with an idempotency key that they have reserved."""
    for submission, result in zip(submissions, results, strict=True):
        if submission.request_id and isinstance(result, Accepted) and not result.duplicate:
            yield submission, result.job


def _claim(submission: Submission, job: Job) -> KeyClaim:
    return KeyClaim(submission.tenant, _key_of(submission), submission.digest, job.job_id)


def _key_of(submission: Submission) -> str:
    """The idempotency key in the namespace of its principal; the client's as it is while access control is off.

    A client's key has printable characters only, so that none can look like one of a namespace.
    """
    if not submission.principal:
        return submission.request_id
    return f"{hashlib.blake2b(submission.principal.encode('utf-8', 'replace'), digest_size=16).hexdigest()}\x1f{submission.request_id}"


def _none_accepted(results: Sequence[Accepted | SickbayError], error: Unavailable) -> Sequence[Accepted | SickbayError]:
    return [error if isinstance(result, Accepted) and not result.duplicate else result for result in results]


def _ledger_messages(jobs: Sequence[Job], kept_bytes: int, trace: str) -> Iterator[Message]:
    """Messages for the ledger, each with at most MAX_EVENT_JOBS jobs and MAX_EVENT_BYTES of payloads, except a single larger one.

    A SCHEDULED job is in no other message, so it always has its payload, and continues in `trace`.
    """
    events: list[JobEvent] = []
    size = 0
    for job in jobs:
        length = len(job.payload_json)
        if job.first_state is JobState.SCHEDULED:
            job = replace(job, trace=trace)  # noqa: PLW2901 - the same job with its trace
        elif length > kept_bytes:
            job, length = replace(job, payload_json=b""), 0  # noqa: PLW2901 - the same job without its payload
        if len(events) == MAX_EVENT_JOBS or (events and size + length > MAX_EVENT_BYTES):
            yield Message("job.accepted", encode_events(events))
            events, size = [], 0
        events.append(JobEvent(job, job.first_state, job.submitted_at))
        size += length
    yield Message("job.accepted", encode_events(events))

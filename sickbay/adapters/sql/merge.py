"""Reduces batches of events by the order of truth, and determines the changes that events make.

Pure. The order itself is in `truth.py`. A job that is being released leaves its generation for good, so nothing is added to that
generation meanwhile. The same order is implemented again in SQL (`writer.py`), where it guards every write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sickbay.domain.job import Job, JobEvent, JobRecord, JobState, StateChange
from sickbay.domain.progress import is_later
from sickbay.domain.truth import Truth, truth

_QUIET: Final = {JobState.RUNNING, JobState.SUCCEEDED}


def truth_of(event: JobEvent) -> Truth:
    """The key of an event in the order of truth."""
    return truth(event.state, event.job.generation, event.job.attempt)


def leaves_happy_path(event: JobEvent) -> bool:
    """Whether the history needs this event; the others can be reconstructed from the job's row."""
    return event.state not in _QUIET and not (event.state is JobState.QUEUED and event.job.generation == 0)


def began_at_attempt(state: JobState, attempt: int) -> int:
    """The attempt whose run ended in `state`: a RETRYING copy already has the next one."""
    return max(0, attempt - 1) if state is JobState.RETRYING else attempt


@dataclass(slots=True)
class Folded:
    """A batch: the latest event of each job, and what else must be stored."""

    latest: dict[str, JobEvent] = field(default_factory=dict)
    changes: list[JobEvent] = field(default_factory=list)
    losers: list[JobEvent] = field(default_factory=list)
    """Successes superseded by another event of the batch: perhaps second runs."""
    dropped: list[JobEvent] = field(default_factory=list)
    progress: dict[str, JobEvent] = field(default_factory=dict)
    """The latest report of each job that has one."""


def fold(events: Iterable[JobEvent]) -> Folded:
    """Reduce a batch to what must be written."""
    folded = Folded()
    latest = folded.latest
    for event in events:
        if event.duplicate:
            folded.dropped.append(event)
            continue
        if leaves_happy_path(event):
            folded.changes.append(event)
        job_id = event.job.job_id
        if event.progress is not None:
            said = folded.progress.get(job_id)
            if said is None or _report_order(event) >= _report_order(said):
                folded.progress[job_id] = event
        best = latest.get(job_id)
        if best is None:
            latest[job_id] = event
            continue
        winner, loser = (event, best) if truth_of(event) > truth_of(best) else (best, event)
        if loser.state is JobState.SUCCEEDED:
            folded.losers.append(loser)
        latest[job_id] = _completed(winner, loser.job)
    return folded


def _report_order(event: JobEvent) -> tuple[int, int, int, int]:
    """Of two reports about one job the greater one is the later."""
    return (event.job.generation, event.job.attempt, event.started_at or 0, event.progress.at if event.progress else 0)


def _completed(event: JobEvent, other: Job) -> JobEvent:
    """The event, with missing fields of its job taken from another event."""
    job = completed(event.job, other)
    if other.payload_json and not job.payload_json and not event.state.is_final:
        job = replace(job, payload_json=other.payload_json)
    return event if job is event.job else replace(event, job=job)


def completed(job: Job, other: Job) -> Job:
    """The job, with missing type, tenant and time of submission taken from `other`; without a type, its priority is missing too.

    Only the event of the submission says when it was to run, and of which schedule it is.
    """
    if other.run_at and not job.run_at:
        job = replace(job, run_at=other.run_at, schedule_id=other.schedule_id, tick_at=other.tick_at)
    if job.submitted_at and job.job_type and job.tenant:
        return job
    return replace(
        job,
        submitted_at=job.submitted_at or other.submitted_at,
        job_type=job.job_type or other.job_type,
        tenant=job.tenant or other.tenant,
        priority=job.priority if job.job_type else other.priority,
    )


def changes_from(prior: JobRecord | None, events: Sequence[JobEvent]) -> Iterator[tuple[JobRecord, StateChange | None]]:
    """The changes that events of one job make to its record, one by one, as watchers get them; None for progress.

    A run without an event of its start is reported at its end: RUNNING, then the final state. Etags are set by the caller.
    """
    for event in events:
        if event.cancel_requested:
            if prior is not None and prior.state.rank < JobState.PARKED.rank and not prior.cancel_requested_at:
                prior = replace(prior, cancel_requested_at=event.at)
                yield prior, None
            continue
        if event.duplicate or (prior and truth_of(event) <= truth(prior.state, prior.job.generation, prior.job.attempt)):
            if prior is not None and _is_news(event, prior):
                prior = replace(prior, progress=event.progress)
                yield prior, None
            continue
        job = completed(event.job, prior.job) if prior else event.job
        if event.started_at is not None and event.state is not JobState.RUNNING and not (prior and prior.state is JobState.RUNNING):
            running = replace(job, attempt=began_at_attempt(event.state, job.attempt), payload_json=b"")
            change = StateChange(event.started_at, JobState.RUNNING, running.generation, running.attempt, actor=event.actor)
            began = JobRecord(running, JobState.RUNNING, event.started_at, event.started_at, prior.duplicates if prior else 0)
            yield replace(began, cancel_requested_at=prior.cancel_requested_at if prior else 0), change
        prior = record_after(prior, event, job)
        yield prior, change_of(event)


def _is_news(event: JobEvent, prior: JobRecord) -> bool:
    """Whether an event that changes no state says how far the run is, and later than what is known."""
    if prior.state is not JobState.RUNNING or (event.job.generation, event.job.attempt) != (prior.job.generation, prior.job.attempt):
        return False
    return is_later(event.progress, prior.progress)


def record_after(prior: JobRecord | None, event: JobEvent, job: Job) -> JobRecord:
    """The record once the event has been applied."""
    aside = event.state.in_quarantine
    return JobRecord(
        job=job if event.state.is_in_ledger_alone else replace(job, payload_json=b""),
        state=event.state,
        updated_at=event.at,
        started_at=event.started_at,
        duplicates=prior.duplicates if prior else 0,
        reason=event.reason if aside else None,
        result=event.result,
        progress=event.progress,
        cancel_requested_at=prior.cancel_requested_at if prior else 0,
    )


def change_of(event: JobEvent) -> StateChange:
    """The history entry of an event."""
    return StateChange(event.at, event.state, event.job.generation, event.job.attempt, event.code, event.message, event.actor)

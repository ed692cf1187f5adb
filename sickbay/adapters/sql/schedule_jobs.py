"""Writes runs of schedules and their jobs, which are SCHEDULED jobs that no message has brought."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sickbay.adapters.sql.change_feed import Write
from sickbay.adapters.sql.chunks import MAX_VALUES
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.merge import change_of, record_after
from sickbay.adapters.sql.rows import change_values
from sickbay.adapters.sql.schedule_rows import kind_of, run_values
from sickbay.adapters.sql.schedule_schema import schedule_runs
from sickbay.adapters.sql.schema import job_changes, jobs
from sickbay.domain.job import Job, JobEvent, JobState
from sickbay.domain.schedule import NewRun, RunOutcome, Schedule, ScheduleKey, ScheduleRun, job_id_of

_PIECE_BYTES: Final = 8 * 1024 * 1024
"""Payloads in one statement."""
_VALUES: Final = {
    *("job_id", "job_type", "tenant", "state", "generation", "attempt", "rank", "submitted_at", "updated_at", "run", "code"),
    *("payload", "priority", "run_at", "schedule_id", "tick_at"),
}
_COLUMNS: Final = [name for name in jobs.c.keys() if name in _VALUES]  # noqa: SIM118 - in the order of the table


@dataclass(frozen=True, slots=True)
class RunJob:
    """A run with its job; `request` distinguishes MANUAL ones."""

    key: ScheduleKey
    run: ScheduleRun
    job: Job
    request: str = ""


def run_job(schedule: Schedule, new: NewRun, now: int, request: str = "") -> RunJob:
    """The run and the job of a time of a schedule."""
    key, spec = schedule.key, schedule.spec
    job = Job(
        job_id_of(key, new.tick_at, request),
        spec.job_type,
        spec.payload_json,
        tenant=key.tenant,
        submitted_at=now,
        priority=spec.priority,
        run_at=new.run_at,
        schedule_id=key.schedule_id,
        tick_at=new.tick_at,
    )
    run = ScheduleRun(new.tick_at, new.trigger, RunOutcome.SUBMITTED, job.job_id, JobState.SCHEDULED, now, actor=new.actor)
    return RunJob(key, run, job, request)


class RunWriter:
    """Writes them in a transaction in which their schedules are locked."""

    def __init__(self, store: Database) -> None:
        self._add_runs = store.bulk(store.insert(schedule_runs).on_conflict_do_nothing(), schedule_runs.c.keys())
        self._add_jobs = store.bulk(store.insert(jobs).on_conflict_do_nothing(), _COLUMNS)
        self._add_changes = store.bulk(store.insert(job_changes).on_conflict_do_nothing(), job_changes.c.keys())

    async def write(self, write: Write, started: Sequence[RunJob], others: Sequence[tuple[ScheduleKey, ScheduleRun]] = ()) -> None:
        """Write runs with their jobs, and others without; what is there already stays as it is."""
        runs = [run_values(one.key, one.run, kind_of(one.run, one.request)) for one in started]
        runs += [run_values(key, run, kind_of(run)) for key, run in others]
        await self._add_runs.run(write.connection, runs)
        events = [JobEvent(one.job, JobState.SCHEDULED, one.run.handled_at, actor=one.run.actor) for one in started]
        for piece in _pieces(sorted(events, key=lambda event: event.job.job_id)):
            await self._add_jobs.run(write.connection, [_job_values(event) for event in piece])
            await self._add_changes.run(write.connection, [change_values(event) for event in piece])
        write.record((record_after(None, event, event.job), change_of(event)) for event in events)


def _pieces(events: Sequence[JobEvent]) -> Iterator[Sequence[JobEvent]]:
    """In order, each with as many payloads as fit; a larger one comes alone."""
    piece: list[JobEvent] = []
    size = 0
    for event in events:
        length = len(event.job.payload_json)
        if piece and (len(piece) == MAX_VALUES or size + length > _PIECE_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(event)
        size += length
    if piece:
        yield piece


def _job_values(event: JobEvent) -> tuple[object, ...]:
    job, state = event.job, event.state
    values = {
        "job_id": job.job_id,
        "job_type": job.job_type,
        "tenant": job.tenant,
        "state": state.value,
        "generation": job.generation,
        "attempt": job.attempt,
        "rank": state.rank,
        "submitted_at": job.submitted_at,
        "updated_at": event.at,
        "run": "",
        "code": "",
        "payload": job.payload_json,
        "priority": job.priority.value,
        "run_at": job.run_at,
        "schedule_id": job.schedule_id,
        "tick_at": job.tick_at,
    }
    return tuple(values[name] for name in _COLUMNS)

"""Converts rows of `schedules` and `schedule_runs` to schedules and runs, and back.

The whole schedule is JSON in one column: a newer version may add fields, an older one ignores them. What queries need is in columns of its
own, and those count.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec

from sickbay.adapters.sql.rows import AnyRow
from sickbay.domain.job import JobState
from sickbay.domain.schedule import Origin, RunOutcome, Schedule, ScheduleKey, ScheduleRun, ScheduleState, Trigger

WITH_JOB: Final = ""
"""The kind of the run of a time that has a job."""

_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Schedule)
_run_decoder: Final = msgspec.json.Decoder(ScheduleRun)


def schedule_of(row: AnyRow) -> Schedule:
    """The schedule of a row."""
    return replace(
        _decoder.decode(row.body),
        key=ScheduleKey(row.tenant, row.schedule_id),
        state=ScheduleState(row.state),
        origin=Origin(row.origin),
        next_at=row.next_at or 0,
        buffered_at=row.buffered_at or 0,
        last_run=_run_decoder.decode(row.last_run) if row.last_run is not None else None,
        revision=row.revision,
    )


def schedule_values(schedule: Schedule, looked_at: int) -> dict[str, Any]:
    """The row of a schedule; `looked_at` is the time at which its `next_at` was found."""
    return {
        "tenant": schedule.key.tenant,
        "schedule_id": schedule.key.schedule_id,
        "job_type": schedule.spec.job_type,
        "state": schedule.state.value,
        "origin": schedule.origin.value,
        "revision": schedule.revision,
        "body": _encode(replace(schedule, last_run=None)),
        **progress_values(schedule, looked_at),
    }


def progress_values(schedule: Schedule, looked_at: int) -> dict[str, Any]:
    """The columns that change at each of its times."""
    return {
        "next_at": schedule.next_at or None,
        "looked_at": looked_at,
        "buffered_at": schedule.buffered_at or None,
        "last_run": _encode(schedule.last_run) if schedule.last_run is not None else None,
    }


def run_of(row: AnyRow) -> ScheduleRun:
    """The run of a row."""
    return ScheduleRun(
        tick_at=row.tick_at,
        trigger=Trigger(row.trigger),
        outcome=RunOutcome(row.outcome),
        job_id=row.job_id,
        job_state=JobState(row.job_state) if row.job_state else None,
        handled_at=row.handled_at,
        ended_at=row.ended_at,
        count=row.times,
        actor=row.actor,
    )


def run_values(key: ScheduleKey, run: ScheduleRun, kind: str) -> tuple[object, ...]:
    """The row of a run, in the order of the table."""
    state = run.job_state.value if run.job_state is not None else ""
    settled = int(not run.job_id or (run.job_state is not None and run.job_state.is_final))
    place = (*key, run.tick_at, kind, run.trigger.value, run.outcome.value)
    return (*place, run.job_id, state, settled, run.handled_at, run.ended_at, run.count, run.actor)


def kind_of(run: ScheduleRun, request: str = "") -> str:
    """What else a run is distinguished by than its time; of a MANUAL one it is its request."""
    if run.trigger is Trigger.MANUAL:
        return f"{Trigger.MANUAL.value}:{request}"
    return WITH_JOB if run.job_id else run.outcome.value

"""What a person, a program or code changes of a schedule: pure functions from one to the next. `now` is in milliseconds since the epoch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sickbay.domain.errors import InvalidArgument
from sickbay.domain.schedule import MAX_BACKFILL, Schedule, ScheduleKey, ScheduleSpec, ScheduleState, Timing
from sickbay.domain.schedule_times import count_between, next_time, times_between


def new_schedule(key: ScheduleKey, spec: ScheduleSpec, now: int, *, paused_by: str | None = None) -> Schedule:
    """A schedule that begins now; `paused_by` (also if empty) creates it paused."""
    made = Schedule(key=key, spec=spec, created_at=now, updated_at=now)
    return _running(made, now) if paused_by is None else replace(made, state=ScheduleState.PAUSED, paused_by=paused_by)


def with_spec(schedule: Schedule, spec: ScheduleSpec, now: int) -> Schedule:
    """It does something else from now on; the same spec changes nothing.

    A PAUSED one stays paused, an ENDED one runs again if there are times. With other times it goes on with the first after now; with the
    same ones what is due stays due. A time that waits for a job to end does so no longer if the times or the overlap policy are others.
    """
    if spec == schedule.spec:
        return schedule
    same_times = spec.timing == schedule.spec.timing
    waits = same_times and spec.overlap is schedule.spec.overlap
    changed = replace(schedule, spec=spec, buffered_at=schedule.buffered_at if waits else 0)
    if schedule.state is ScheduleState.PAUSED or (same_times and schedule.state is ScheduleState.ACTIVE):
        return changed
    return _running(changed, now)


def paused(schedule: Schedule, note: str, by: str) -> Schedule:
    """It submits nothing until it is resumed. Of a paused one only the note changes, unless there is none."""
    if schedule.state is ScheduleState.PAUSED:
        return replace(schedule, pause_note=note) if note else schedule
    return replace(schedule, state=ScheduleState.PAUSED, pause_note=note, paused_by=by, next_at=0, buffered_at=0)


def resumed(schedule: Schedule, now: int) -> Schedule:
    """It goes on with its first time after now; it has ENDED if there is none. One that is not paused goes on as it is."""
    if schedule.state is not ScheduleState.PAUSED:
        return schedule
    return _running(replace(schedule, pause_note="", paused_by="", buffered_at=0), now)


def backfill_times(timing: Timing, start: int, end: int) -> list[int]:
    """The times from `start` to before `end` (ms); InvalidArgument if they are more than MAX_BACKFILL: it says how to split."""
    found = times_between(timing, start, end, MAX_BACKFILL + 1)
    if len(found) <= MAX_BACKFILL:
        return found
    count, split = count_between(timing, start, end), utc(found[MAX_BACKFILL])
    raise InvalidArgument(
        f"there are {count:,} times from {utc(start)} to {utc(end)}, and at most {MAX_BACKFILL:,} can be made up for in a call; "
        f"ask for those up to end_time {split} first, then go on with start_time {split}"
    )


def utc(ms: int) -> str:
    """A time for an error, such as `2027-01-01T08:00:00Z`."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds").removesuffix("+00:00") + "Z"


def _running(schedule: Schedule, now: int) -> Schedule:
    next_at = next_time(schedule.spec.timing, now)
    return replace(schedule, state=ScheduleState.ACTIVE if next_at else ScheduleState.ENDED, next_at=next_at)

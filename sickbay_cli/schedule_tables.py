"""Output of schedules and their runs for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from sickbay.jobs.v1.job_pb2 import PRIORITY_NORMAL
from sickbay.schedules.v1.schedule_pb2 import OVERLAP_SKIP, WHILE_OPEN_RUN, Overlap, Schedule, ScheduleRun, ScheduleSpec, WhileOpen
from sickbay_cli.durations import relative, span
from sickbay_cli.format import job_state, join_nonempty, ms, name, other_tenant, priority, run_outcome, schedule_state, when
from sickbay_cli.moments import at, at_and_when
from sickbay_cli.output import Cell, Column, details, line, plain, table
from sickbay_cli.payload import pretty
from sickbay_cli.tables import HIDDEN

_SCHEDULES: Final = (
    Column("SCHEDULE"),
    Column("TYPE", least=62),
    Column("WHEN", least=74),
    Column("STATE"),
    Column("NEXT", right=True),
    Column("LAST RUN", least=90),
    Column("DESCRIPTION", least=110, loose=True),
)
_TENANT: Final = Column("TENANT", least=62)
_RUNS: Final = (
    Column("FOR THE TIME"),
    Column("OUTCOME"),
    Column("JOB", least=90),
    Column("JOB STATE"),
    Column("TRIGGER", least=74),
    Column("HANDLED", least=100, right=True),
    Column("BY", least=110),
)


def show_schedules(schedules: Sequence[Schedule], now: int) -> None:
    """Print a table of schedules; tenants are a column of it where there are other than the default one."""
    columns: tuple[Column, ...] = _SCHEDULES
    rows: list[list[Cell]] = [_row(one, now) for one in schedules]
    if any(other_tenant(one.tenant) for one in schedules):
        columns = (columns[0], _TENANT, *columns[1:])
        rows = [[row[0], one.tenant, *row[1:]] for one, row in zip(schedules, rows, strict=True)]
    table(columns, rows)


def _row(one: Schedule, now: int) -> list[Cell]:
    return [one.schedule_id, one.spec.job_type, _when(one.spec), _state(one), _next(one, now), _last(one, now), one.spec.description]


def show_schedule(one: Schedule, runs: Sequence[ScheduleRun], now: int) -> None:
    """Print the details of one schedule, and its latest runs."""
    spec, zone = one.spec, zone_of(one.spec)
    details(
        [
            ("schedule", one.schedule_id),
            ("tenant", other_tenant(one.tenant)),
            ("description", spec.description),
            ("state", _state(one)),
            ("paused", join_nonempty("  ", one.pause_note, f"by {one.paused_by}" if one.paused_by else "") if one.pause_note else ""),
            ("from", _origin(one)),
            ("type", spec.job_type),
            ("when", join_nonempty(", ", _when(spec), spec.timezone if spec.cron else "")),
            ("start", at(ms(spec, "start_time"), zone)),
            ("end", at(ms(spec, "end_time"), zone)),
            ("jitter", span(spec.jitter.ToMilliseconds()) if spec.jitter.ToMilliseconds() else ""),
            ("priority", priority(spec.priority) if spec.priority != PRIORITY_NORMAL else ""),
            *_policies(spec),
            ("created", when(ms(one, "create_time"), now)),
            ("updated", when(ms(one, "update_time"), now)),
            ("etag", one.etag),
            ("payload", HIDDEN if one.payload_hidden else "\n".join(map(plain, pretty(spec.payload_json).split("\n")))),
            ("next times", next_times(one, now)),
            ("buffered", at_and_when(ms(one, "buffered_time"), now, zone)),
            ("last run", _last(one, now)),
        ]
    )
    if runs:
        line("")
        show_runs(runs, now, zone)


def next_times(one: Schedule, now: int) -> str:
    """The next times in its zone, each with how far away it is, a line for each."""
    zone = zone_of(one.spec)
    return "\n".join(at_and_when(time.ToMilliseconds(), now, zone) for time in one.next_times)


def show_runs(runs: Sequence[ScheduleRun], now: int, zone: tzinfo | None) -> None:
    """Print a table of runs, in the given order: the newest first."""
    table(_RUNS, [_run(one, now, zone) for one in runs])


def _run(run: ScheduleRun, now: int, zone: tzinfo | None) -> list[Cell]:
    times = f" ({run.count:,} times until then)" if run.count > 1 else ""
    state: Cell = job_state(run.job_state) if run.job_state else ""
    trigger = name(ScheduleRun.Trigger, run.trigger, "TRIGGER_").lower()
    handled = relative(ms(run, "handle_time"), now)
    return [f"{at(ms(run, 'tick_time'), zone)}{times}", run_outcome(run.outcome), run.job_id, state, trigger, handled, run.actor]


def zone_of(spec: ScheduleSpec) -> tzinfo | None:
    """The zone in which its times are shown: its own, or this machine's for an interval, and if its own is not known here."""
    try:
        return ZoneInfo(spec.timezone or "UTC") if spec.cron else None
    except (KeyError, ValueError, OSError):
        return None


def _when(spec: ScheduleSpec) -> str:
    return spec.cron or f"every {span(spec.interval.ToMilliseconds())}"


def _state(one: Schedule) -> Cell:
    cell = schedule_state(one.state)
    text, style = cell if isinstance(cell, tuple) else (cell, "")
    return (f"{text} (orphaned)", "yellow") if one.orphaned else (text, style)


def _origin(one: Schedule) -> str:
    if one.origin != Schedule.ORIGIN_CODE:
        return ""
    gone = "; no live worker has it any more, delete the schedule if it is no longer wanted" if one.orphaned else ""
    return f"code: @handler(schedule=...) of {one.spec.job_type}{gone}"


def _next(one: Schedule, now: int) -> str:
    return relative(one.next_times[0].ToMilliseconds(), now) if one.next_times else ""


def _last(one: Schedule, now: int) -> str:
    if not one.HasField("last_run"):
        return ""
    run = one.last_run
    outcome = name(ScheduleRun.Outcome, run.outcome, "OUTCOME_")
    state = job_state(run.job_state)[0] if run.job_state else outcome
    return join_nonempty("  ", relative(ms(run, "tick_time"), now), state)


def _policies(spec: ScheduleSpec) -> list[tuple[str, Cell]]:
    """What happens out of the ordinary, where it is not the default."""
    return [
        ("overlap", name(Overlap, spec.overlap, "OVERLAP_") if spec.overlap != OVERLAP_SKIP else ""),
        ("catch-up", span(spec.catch_up_window.ToMilliseconds()) if spec.HasField("catch_up_window") else ""),
        ("on failure", "paused" if spec.pause_on_failure else ""),
        ("circuit open", name(WhileOpen, spec.while_open, "WHILE_OPEN_") if spec.while_open != WHILE_OPEN_RUN else ""),
    ]

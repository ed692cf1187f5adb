"""Output of jobs, quarantined jobs and groups for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sickbay.jobs.v1.job_pb2 import PRIORITY_NORMAL, PRIORITY_UNSPECIFIED, AttemptError, Job, StateChange
from sickbay.jobs.v1.quarantine_service_pb2 import FailureGroup, PayloadRevision, QuarantinedJob
from sickbay.jobs.v1.scheduled_job_service_pb2 import ScheduledJob
from sickbay_cli.durations import clock, moment, relative
from sickbay_cli.format import job_state, join_nonempty, ms, other_tenant, priority, reason, when
from sickbay_cli.moments import at, at_and_when
from sickbay_cli.output import Cell, Column, details, line, plain, table
from sickbay_cli.payload import pretty

HIDDEN: Final = "hidden (needs the right to read payloads)"
_JOBS: Final = (
    Column("JOB ID"),
    Column("TYPE", least=62),
    Column("STATE"),
    Column("AGE", least=74, right=True),
    Column("ATTEMPT", least=90, right=True),
    Column("LAST ERROR", least=100, loose=True),
)
_PRIORITY: Final = Column("PRIORITY", least=82)
_RUNS_AT: Final = Column("RUNS AT", least=82)
_SCHEDULED: Final = (
    Column("JOB ID"),
    Column("TYPE", least=62),
    Column("RUNS AT"),
    Column("DUE", least=74, right=True),
    Column("SCHEDULE", least=90),
    Column("TENANT", least=100),
)
_ENDED: Final = frozenset({Job.STATE_SUCCEEDED, Job.STATE_DISCARDED, Job.STATE_CANCELLED})
_QUARANTINED: Final = (
    Column("JOB ID"),
    Column("TYPE", least=62),
    Column("STATE"),
    Column("SINCE", least=74, right=True),
    Column("REASON", least=94),
    Column("LAST ERROR", least=110, loose=True),
)
_GROUPS: Final = (
    Column("JOBS", right=True),
    Column("TYPE"),
    Column("ERROR"),
    Column("LATEST", least=50, right=True),
    Column("FINGERPRINT", least=70),
    Column("SAMPLE", least=90, loose=True),
)


def show_jobs(jobs: Sequence[Job], now: int) -> None:
    """Print a table of jobs."""
    _table(_JOBS, jobs, [_row(job, ms(job, "submit_time"), str(job.attempt), now) for job in jobs])


def show_quarantined_jobs(cases: Sequence[QuarantinedJob], now: int) -> None:
    """Print a table of jobs in quarantine."""
    jobs = [case.job for case in cases]
    _table(_QUARANTINED, jobs, [_row(case.job, ms(case, "quarantine_time"), reason(case), now) for case in cases])


def _table(columns: Sequence[Column], jobs: Sequence[Job], rows: Sequence[list[Cell]]) -> None:
    """Print a table; priorities are a column of it where they differ from the default, and so are the times of jobs that run later."""
    if any(job.priority not in {PRIORITY_UNSPECIFIED, PRIORITY_NORMAL} for job in jobs):
        columns = (*columns[:3], _PRIORITY, *columns[3:])
        rows = [[*row[:3], priority(job.priority), *row[3:]] for job, row in zip(jobs, rows, strict=True)]
    if any(job.state == Job.STATE_SCHEDULED for job in jobs):
        columns = (*columns[:3], _RUNS_AT, *columns[3:])
        rows = [[*row[:3], _runs_at(job), *row[3:]] for job, row in zip(jobs, rows, strict=True)]
    table(columns, rows)


def _runs_at(job: Job) -> str:
    return at(ms(job, "run_time")) if job.state == Job.STATE_SCHEDULED else ""


def show_scheduled_jobs(jobs: Sequence[Job], now: int) -> None:
    """Print a table of jobs that are to run later."""
    rows: list[list[Cell]] = []
    for job in jobs:
        due = ms(job, "run_time")
        rows.append([job.job_id, job.job_type, at(due), relative(due, now), job.schedule_id, other_tenant(job.tenant)])
    columns: tuple[Column, ...] = _SCHEDULED
    if any(job.priority not in {PRIORITY_UNSPECIFIED, PRIORITY_NORMAL} for job in jobs):
        columns = (*columns[:4], _PRIORITY, *columns[4:])
        rows = [[*row[:4], priority(job.priority), *row[4:]] for job, row in zip(jobs, rows, strict=True)]
    table(columns, rows)


def _row(job: Job, time: int, fifth: str, now: int) -> list[Cell]:
    last = _error(job.errors[-1]) if job.errors else ""
    return [job.job_id, job.job_type, _state(job), relative(time, now), fifth, last]


def is_to_end(job: Job) -> bool:
    """Whether somebody asked to cancel a run of it, and it has not ended."""
    return job.HasField("cancel_request_time") and job.state not in _ENDED


def _state(job: Job) -> Cell:
    """Its state, and whether it is to end."""
    cell = job_state(job.state)
    text, style = cell if isinstance(cell, tuple) else (cell, "")
    return (f"{text} (cancel requested)", style) if is_to_end(job) else cell


def show_groups(groups: Sequence[FailureGroup], now: int) -> None:
    """Print a table of groups, in the given order: the largest first."""
    table(_GROUPS, [_group_row(group, now) for group in groups])


def _group_row(group: FailureGroup, now: int) -> list[Cell]:
    code, latest = group.error_code or "(never ran)", relative(ms(group, "last_time"), now)
    return [f"{group.count:,}", group.job_type, code, latest, group.fingerprint, group.sample_message]


def show_job(job: Job, now: int, more: Sequence[tuple[str, Cell]] = ()) -> None:
    """Print the details of one job; `more` comes before its errors."""
    details(
        [
            ("job", job.job_id),
            ("type", job.job_type),
            ("tenant", other_tenant(job.tenant)),
            ("state", _state(job)),
            ("cancel requested", when(ms(job, "cancel_request_time"), now)),
            ("priority", priority(job.priority)),
            ("attempt", f"{job.attempt}" + (f", generation {job.generation}" if job.generation else "")),
            ("submitted", when(ms(job, "submit_time"), now)),
            ("updated", when(ms(job, "update_time"), now)),
            ("last run", when(ms(job, "start_time"), now)),
            ("next run", when(ms(job, "next_attempt_time"), now)),
            ("runs at" if job.state == Job.STATE_SCHEDULED else "was due at", at_and_when(ms(job, "run_time"), now)),
            ("schedule", job.schedule_id),
            ("for the time", at(ms(job, "tick_time"))),
            ("duplicates", str(job.duplicates or "")),
            ("progress", _progress(job)),
            *more,
            ("result", _result(job, pretty)),
            ("errors", "\n".join(_error_with_traceback(error) for error in job.errors)),
            ("history", "\n".join(f"{moment(ms(step, 'time'))}  {_step(step)}" for step in job.history)),
        ]
    )


def show_quarantined_job(case: QuarantinedJob, payload: str, now: int) -> None:
    """Print the details of a job in quarantine; `payload` is printed as it is."""
    edits = [_edit(edit, hidden=case.payload_hidden) for edit in case.revisions]
    more: list[tuple[str, Cell]] = [
        ("set aside", when(ms(case, "quarantine_time"), now)),
        ("reason", reason(case)),
        ("group", case.fingerprint),
        ("etag", case.etag),
        ("payload", HIDDEN if case.payload_hidden else payload),
        ("edits", "\n".join(edits)),
    ]
    show_job(case.job, now, more)


def show_scheduled_job(found: ScheduledJob, payload: str, now: int) -> None:
    """Print the details of a job that is to run later; `payload` is printed as it is."""
    edits = [_edit(edit, hidden=found.payload_hidden) for edit in found.revisions]
    payload = HIDDEN if found.payload_hidden else payload
    show_job(found.job, now, [("etag", found.etag), ("payload", payload), ("edits", "\n".join(edits))])


def _edit(edit: PayloadRevision, *, hidden: bool) -> str:
    who = f"{moment(ms(edit, 'time'))}  {plain(edit.actor)}"
    return f"{who}\n{HIDDEN}" if hidden else f"{who}\n- {edit.before_json}\n+ {edit.after_json}"


def show_change(job: Job, change: StateChange | None) -> None:
    """Print one line of a watch, and one with the result if there is one; without a change, the current state and progress."""
    attempt = f"attempt {job.attempt}" if job.attempt else ""
    if change is None:
        time = ms(job.progress, "update_time") if job.HasField("progress") else ms(job, "update_time")
        line((clock(time), "dim"), _state(job), attempt, _progress(job))
    else:
        line((clock(ms(change, "time")), "dim"), job_state(change.state), attempt, join_nonempty(" ", change.code, change.message))
        for one in _lines(change.traceback):
            line(one)
    if result := _result(job, str):
        line(("result", "dim"), result)


def _progress(job: Job) -> str:
    """How far its run is; empty if that is not known. It is untrusted."""
    return f"{job.progress.fraction:.0%}  {plain(job.progress.message)}".rstrip() if job.HasField("progress") else ""


def _result(job: Job, shown: Callable[[str], str]) -> str:
    """What the handler returned, or why that was not kept; it is untrusted."""
    if job.result_hidden:
        return HIDDEN
    if job.result_note:
        return f"({plain(job.result_note)})"
    return "\n".join(map(plain, shown(job.result_json).split("\n")))


def _error_with_traceback(error: AttemptError) -> str:
    return "\n".join([f"{moment(ms(error, 'time'))}  {_error(error)}", *_lines(error.traceback)])


def _lines(traceback: str) -> list[str]:
    """The lines of a traceback, indented; they are untrusted."""
    return [f"  {plain(one)}" for one in traceback.split("\n")] if traceback else []


def _error(error: AttemptError) -> str:
    return plain(join_nonempty(": ", error.code, error.message))


def _step(step: StateChange) -> str:
    attempt, by = f"attempt {step.attempt}" if step.attempt else "", f"by {step.actor}" if step.actor else ""
    return plain(join_nonempty("  ", job_state(step.state)[0], attempt, step.code, step.message, by))

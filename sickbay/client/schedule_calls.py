"""The calls about schedules, as `client.schedules` has them; the control plane answers them.

A schedule belongs to a tenant; without `tenant` to the default one. What changes one with its `etag` is not sent again by itself, because a
repeat would be a Conflict although the first one took effect: get the schedule if no answer came.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sickbay.client.calls import MAX_PAGE, Call, Pages, Rpc, enum_number
from sickbay.client.errors import invalid
from sickbay.client.job_calls import new_key
from sickbay.client.payload import named
from sickbay.client.reading import read
from sickbay.client.schedules import Backfill, Schedule, ScheduleRun, ScheduleSpec, sendable
from sickbay.client.when import span, timestamp
from sickbay.domain.schedule import Origin, RunOutcome, ScheduleState
from sickbay.jobs.v1 import job_pb2
from sickbay.schedules.v1 import schedule_pb2
from sickbay.schedules.v1 import schedule_service_pb2 as pb


def create(
    schedule_id: str,
    spec: ScheduleSpec,
    *,
    tenant: str = "",
    paused: bool = False,
    validate_only: bool = False,
    actor: str = "",
    timeout: float | None = None,
) -> Call[Schedule]:
    """Create a schedule; with `validate_only` only check it, and return it as it would be, with its next times.

    InvalidRequest says what is wrong, Conflict that the tenant has one with this id. It is not sent again by itself, because a repeat would
    be a Conflict although the first one took effect.
    """
    request = pb.CreateScheduleRequest(
        schedule_id=schedule_id, tenant=tenant, spec=spec_message(spec), paused=paused, validate_only=validate_only, actor=actor
    )
    return _call("CreateSchedule", request, timeout, is_safe=validate_only)


def get(schedule_id: str, *, tenant: str = "", timeout: float | None = None) -> Call[Schedule]:
    """Get a schedule with its payload. NotFound if the tenant has none with this id."""
    return _call("GetSchedule", pb.GetScheduleRequest(schedule_id=schedule_id, tenant=tenant), timeout)


def list_schedules(
    *,
    tenant: str = "",
    job_type: str = "",
    state: ScheduleState | str | None = None,
    origin: Origin | str | None = None,
    limit: int | None = None,
    page_size: int = MAX_PAGE,
    timeout: float | None = None,
) -> Pages[Schedule]:
    """Iterate over schedules by tenant and id, without payloads. Empty filters do not filter."""
    request = pb.ListSchedulesRequest(
        tenant=tenant,
        job_type=job_type,
        state=enum_number(schedule_pb2.Schedule.State, state, "state"),
        origin=enum_number(schedule_pb2.Schedule.Origin, origin, "origin"),
        page_size=page_size,
    )
    method = Rpc.of_schedules("ListSchedules")
    return Pages(method, request, lambda reply: (read(one, Schedule) for one in reply.schedules), timeout, limit)


def update(
    schedule_id: str,
    spec: ScheduleSpec,
    *,
    tenant: str = "",
    etag: str = "",
    validate_only: bool = False,
    actor: str = "",
    timeout: float | None = None,
) -> Call[Schedule]:
    """Replace what a schedule does by another spec, as a whole; with `validate_only` only check it.

    Conflict if `etag` is given and the schedule has changed since; FailedPrecondition if it comes from code. NotFound if the tenant has
    none with this id.
    """
    request = pb.UpdateScheduleRequest(
        schedule_id=schedule_id, tenant=tenant, spec=spec_message(spec), etag=etag, validate_only=validate_only, actor=actor
    )
    return _call("UpdateSchedule", request, timeout, is_safe=validate_only or not etag)


def delete(schedule_id: str, *, tenant: str = "", etag: str = "", timeout: float | None = None) -> Call[None]:
    """Delete a schedule and its runs; jobs that it has submitted stay.

    FailedPrecondition if live workers announce it, Conflict if `etag` is given and the schedule has changed since, NotFound if the tenant
    has none with this id. It is not sent again by itself, because a repeat would be NotFound although the first one took effect.
    """
    request = pb.DeleteScheduleRequest(schedule_id=schedule_id, tenant=tenant, etag=etag)
    return Call(Rpc.of_schedules("DeleteSchedule"), request, lambda _: None, timeout, is_safe=False)


def pause(
    schedule_id: str, *, note: str = "", tenant: str = "", etag: str = "", actor: str = "", timeout: float | None = None
) -> Call[Schedule]:
    """Pause a schedule: it submits no job until it is resumed. `note` says why, and is shown to everybody."""
    request = pb.PauseScheduleRequest(schedule_id=schedule_id, tenant=tenant, note=note, etag=etag, actor=actor)
    return _call("PauseSchedule", request, timeout, is_safe=not etag)


def resume(schedule_id: str, *, tenant: str = "", etag: str = "", actor: str = "", timeout: float | None = None) -> Call[Schedule]:
    """Resume a paused schedule, from now on: what it would have run meanwhile is not made up for."""
    request = pb.ResumeScheduleRequest(schedule_id=schedule_id, tenant=tenant, etag=etag, actor=actor)
    return _call("ResumeSchedule", request, timeout, is_safe=not etag)


def trigger(
    schedule_id: str, *, tenant: str = "", request_id: str = "", actor: str = "", timeout: float | None = None
) -> Call[ScheduleRun]:
    """Submit a job of a schedule now, whatever its times, its state and its overlap policy.

    `request_id` is the idempotency key: a repeat returns the first run. The client makes one if you give none.
    """
    request = pb.TriggerScheduleRequest(schedule_id=schedule_id, tenant=tenant, request_id=request_id or new_key(), actor=actor)
    return Call(Rpc.of_schedules("TriggerSchedule"), request, lambda reply: read(reply.run, ScheduleRun), timeout)


def backfill(
    schedule_id: str,
    start_time: datetime,
    end_time: datetime,
    *,
    tenant: str = "",
    validate_only: bool = False,
    actor: str = "",
    timeout: float | None = None,
) -> Call[Backfill]:
    """Submit a job for each time from `start_time` to before `end_time`, both in the past, except where there was one already.

    At most 1,000 in a call. With `validate_only` only say which there are. Repeating it is harmless.
    """
    request = pb.BackfillScheduleRequest(
        schedule_id=schedule_id,
        tenant=tenant,
        start_time=timestamp(start_time, "start_time"),
        end_time=timestamp(end_time, "end_time"),
        validate_only=validate_only,
        actor=actor,
    )
    return Call(Rpc.of_schedules("BackfillSchedule"), request, lambda reply: read(reply, Backfill), timeout)


def runs(
    schedule_id: str,
    *,
    tenant: str = "",
    outcome: RunOutcome | str | None = None,
    limit: int | None = None,
    page_size: int = MAX_PAGE,
    timeout: float | None = None,
) -> Pages[ScheduleRun]:
    """Iterate over the runs of a schedule, newest first; they are kept for 30 days. NotFound if the tenant has none with this id."""
    request = pb.ListScheduleRunsRequest(
        schedule_id=schedule_id,
        tenant=tenant,
        outcome=enum_number(schedule_pb2.ScheduleRun.Outcome, outcome, "outcome"),
        page_size=page_size,
    )
    method = Rpc.of_schedules("ListScheduleRuns")
    return Pages(method, request, lambda reply: (read(one, ScheduleRun) for one in reply.runs), timeout, limit)


def spec_message(spec: ScheduleSpec) -> schedule_pb2.ScheduleSpec:
    """The spec as a message. InvalidRequest if it cannot even be written; the service checks everything else."""
    given: object = spec  # of programs without a type checker
    if not isinstance(given, ScheduleSpec):
        raise invalid(f'the spec must be one such as ScheduleSpec("report", cron="0 3 * * *"), not {type(spec).__name__}')
    job_type, payload = named(spec.job_type, {} if spec.payload is None and isinstance(spec.job_type, str) else spec.payload)
    return schedule_pb2.ScheduleSpec(
        job_type=job_type,
        payload_json=sendable(payload),
        priority=enum_number(job_pb2.Priority, spec.priority, "priority"),
        cron=spec.cron,
        interval=span(spec.interval, "interval"),
        timezone=spec.timezone,
        start_time=timestamp(spec.start_time, "start_time"),
        end_time=timestamp(spec.end_time, "end_time"),
        jitter=span(spec.jitter, "jitter"),
        overlap=enum_number(schedule_pb2.Overlap, spec.overlap, "overlap"),
        catch_up_window=span(spec.catch_up_window, "catch_up_window"),
        pause_on_failure=spec.pause_on_failure,
        while_open=enum_number(schedule_pb2.WhileOpen, spec.while_open, "while_open"),
        description=spec.description,
    )


def _call(method: str, request: Any, timeout: float | None, *, is_safe: bool = True) -> Call[Schedule]:
    """Most of them have the same answer."""
    return Call(Rpc.of_schedules(method), request, lambda reply: read(reply.schedule, Schedule), timeout, is_safe=is_safe)

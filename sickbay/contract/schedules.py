"""ScheduleService: validation of its requests, and conversion of schedules and their runs to protobuf and back."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration

from sickbay.contract import requests as parse
from sickbay.contract.payload import checked_text, struct_text
from sickbay.contract.responses import duration, job_state, priority, text, timestamp
from sickbay.contract.times import moment_ms, span_ms
from sickbay.domain.access import ANYBODY, Principal
from sickbay.domain.errors import Aborted, ErrorReason, InvalidArgument, NotFound
from sickbay.domain.job import DEFAULT_TENANT, NAME_PATTERN, is_name
from sickbay.domain.priority import Priority
from sickbay.domain.schedule import (
    DEFAULT_CATCH_UP_MS,
    MAX_CATCH_UP_MS,
    MAX_DESCRIPTION_CHARS,
    MAX_JITTER_MS,
    MIN_EVERY_MS,
    NewRun,
    Origin,
    Overlap,
    RunOutcome,
    Schedule,
    ScheduleKey,
    ScheduleQuery,
    ScheduleRun,
    ScheduleSpec,
    ScheduleState,
    Timing,
    Trigger,
    WhileOpen,
)
from sickbay.domain.schedule_checks import MAX_EVERY_MS
from sickbay.jobs.v1.job_pb2 import Job
from sickbay.schedules.v1 import schedule_pb2
from sickbay.schedules.v1 import schedule_service_pb2 as pb

T = TypeVar("T")

MAX_NOTE_CHARS: Final = 500
MAX_CRON_CHARS: Final = 256
MAX_ZONE_CHARS: Final = 64
_EMPTY: Final = b"{}"

_OVERLAPS: Final = {one: schedule_pb2.Overlap.Value(f"OVERLAP_{one.value}") for one in Overlap}
_WHILE_OPEN: Final = {one: schedule_pb2.WhileOpen.Value(f"WHILE_OPEN_{one.value}") for one in WhileOpen}
_STATES: Final = {one: schedule_pb2.Schedule.State.Value(f"STATE_{one.value}") for one in ScheduleState}
_ORIGINS: Final = {one: schedule_pb2.Schedule.Origin.Value(f"ORIGIN_{one.value}") for one in Origin}
_TRIGGERS: Final = {one: schedule_pb2.ScheduleRun.Trigger.Value(f"TRIGGER_{one.value}") for one in Trigger}
_OUTCOMES: Final = {one: schedule_pb2.ScheduleRun.Outcome.Value(f"OUTCOME_{one.value}") for one in RunOutcome}


class Named(Protocol):
    """A request that names a schedule."""

    schedule_id: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reply says of a schedule beside what is stored: its next times (ms), when it runs in words, and whether its code is gone."""

    next_times: Sequence[int] = ()
    description_of_times: str = ""
    is_orphaned: bool = False


def new_key(request: pb.CreateScheduleRequest, principal: Principal = ANYBODY) -> ScheduleKey:
    """The name of a new schedule; PermissionDenied if it is to have a tenant that is not the principal's."""
    return ScheduleKey(principal.tenant(parse.tenant_filter(request.tenant)), schedule_id(request.schedule_id))


def key_of(request: Named, principal: Principal = ANYBODY) -> ScheduleKey:
    """Which schedule; without a tenant it is of the principal's own. NotFound for another tenant's, whether it exists or not."""
    name, asked = schedule_id(request.schedule_id), parse.tenant_filter(request.tenant)
    if asked and not principal.sees(asked):
        raise not_found(name)
    return ScheduleKey(asked or (DEFAULT_TENANT if principal.tenants is None else principal.tenant()), name)


def not_found(name: str) -> NotFound:
    """There is no such schedule."""
    return NotFound(f"there is no schedule {name!r}", ErrorReason.SCHEDULE_NOT_FOUND)


def schedule_id(name: str) -> str:
    """A required name of a schedule."""
    if not name:
        raise InvalidArgument("the schedule id is missing; give the schedule a name, for example nightly-report")
    if not is_name(name):
        rule = f"it must match {NAME_PATTERN} (lower-case letters, digits, '.', '_' and '-', at most 64)"
        raise InvalidArgument(f"the schedule id {parse.shown(name)} is invalid; {rule}")
    return name


def schedule_query(request: pb.ListSchedulesRequest, principal: Principal = ANYBODY) -> ScheduleQuery:
    """Which schedules to list, of the principal's tenants."""
    return ScheduleQuery(
        tenants=parse.tenants(request.tenant, principal),
        job_type=parse.job_type_filter(request.job_type),
        state=_value(_STATES, request.state, "state"),
        origin=_value(_ORIGINS, request.origin, "origin"),
    )


def outcome_filter(request: pb.ListScheduleRunsRequest) -> RunOutcome | None:
    """The outcome of the runs to list; None does not filter."""
    return _value(_OUTCOMES, request.outcome, "outcome")


def check_etag(found: Schedule, etag: str) -> None:
    """Aborted if the schedule is another one than the client has read; empty skips the check."""
    if etag and etag != found.etag:
        raise Aborted("the schedule has changed since you read it")


def note(words: str) -> str:
    """Why a schedule is paused; may be empty."""
    return parse.line(words, "note", MAX_NOTE_CHARS)


def spec(message: schedule_pb2.ScheduleSpec) -> ScheduleSpec:
    """What a schedule is to do; each field for itself: whether its times make sense is for `check_spec` to say."""
    catches_up = message.HasField("catch_up_window")
    return ScheduleSpec(
        job_type=parse.job_type(message.job_type),
        timing=_timing(message),
        payload_json=_payload(message),
        priority=parse.priority(message.priority) or Priority.NORMAL,
        overlap=_value(_OVERLAPS, message.overlap, "overlap", "OVERLAP_") or Overlap.SKIP,
        while_open=_value(_WHILE_OPEN, message.while_open, "while_open", "WHILE_OPEN_") or WhileOpen.RUN,
        catch_up_ms=span_ms(message.catch_up_window, "catch_up_window", 0, MAX_CATCH_UP_MS) if catches_up else DEFAULT_CATCH_UP_MS,
        pause_on_failure=message.pause_on_failure,
        description=parse.line(message.description, "description", MAX_DESCRIPTION_CHARS),
    )


def required_spec(request: pb.CreateScheduleRequest | pb.UpdateScheduleRequest) -> ScheduleSpec:
    """The spec that a request must have."""
    if not request.HasField("spec"):
        raise InvalidArgument("the spec is missing; say what the schedule is to do, at least its job type and its times")
    return spec(request.spec)


def manual_run(request: pb.TriggerScheduleRequest, now: int, principal: Principal = ANYBODY) -> NewRun:
    """The run that is asked for, now. An idempotency key belongs to its principal, as those of jobs do."""
    key = parse.request_id(request.request_id)
    own = hashlib.blake2b(f"{principal.name}\0{key}".encode(), digest_size=16).hexdigest() if key else uuid.uuid4().hex
    return NewRun(now, now, Trigger.MANUAL, own, parse.actor(request.actor, principal))


def backfill_window(request: pb.BackfillScheduleRequest, now: int) -> tuple[int, int]:
    """From when to before when times are to be made up for (ms), both in the past."""
    if not request.HasField("start_time") or not request.HasField("end_time"):
        raise InvalidArgument("start_time and end_time are required: times from the first to before the second are made up for")
    start, end = moment_ms(request.start_time, "start_time"), moment_ms(request.end_time, "end_time")
    if start >= end:
        raise InvalidArgument("start_time must be before end_time")
    if end > now:
        raise InvalidArgument("end_time must be in the past; later times are still to come, and need no backfill")
    return start, end


def schedule(found: Schedule, beside: Shown, *, has_payload: bool = True, hides_payload: bool = False) -> schedule_pb2.Schedule:
    """A schedule. Lists leave out its payload (`has_payload`); `hides_payload`: it is left out, and the reply says so."""
    return schedule_pb2.Schedule(
        schedule_id=text(found.key.schedule_id),
        tenant=text(found.key.tenant),
        spec=spec_message(found.spec, has_payload=has_payload and not hides_payload),
        state=_STATES[found.state],
        origin=_ORIGINS[found.origin],
        orphaned=beside.is_orphaned,
        pause_note=text(found.pause_note),
        paused_by=text(found.paused_by),
        create_time=timestamp(found.created_at),
        update_time=timestamp(found.updated_at),
        next_times=[time for at in beside.next_times if (time := timestamp(at)) is not None],
        description_of_times=text(beside.description_of_times),
        last_run=run(found.last_run) if found.last_run is not None else None,
        buffered_time=timestamp(found.buffered_at),
        etag=found.etag,
        payload_hidden=hides_payload,
    )


def spec_message(known: ScheduleSpec, *, has_payload: bool = True) -> schedule_pb2.ScheduleSpec:
    """What a schedule does; every field with a default is set."""
    timing = known.timing
    message = schedule_pb2.ScheduleSpec(
        job_type=text(known.job_type),
        priority=priority(known.priority),
        cron=text(timing.cron),
        interval=duration(timing.every_ms),
        timezone=text(timing.timezone),
        start_time=timestamp(timing.start_at),
        end_time=timestamp(timing.end_at),
        jitter=duration(timing.jitter_ms),
        overlap=_OVERLAPS[known.overlap],
        catch_up_window=duration(known.catch_up_ms) or Duration(),
        pause_on_failure=known.pause_on_failure,
        while_open=_WHILE_OPEN[known.while_open],
        description=text(known.description),
    )
    if has_payload:
        message.payload_json = known.payload_json.decode("utf-8", "replace")
    return message


def run(found: ScheduleRun) -> schedule_pb2.ScheduleRun:
    """What became of a time of a schedule."""
    return schedule_pb2.ScheduleRun(
        tick_time=timestamp(found.tick_at),
        trigger=_TRIGGERS[found.trigger],
        outcome=_OUTCOMES[found.outcome],
        job_id=text(found.job_id),
        job_state=job_state(found.job_state) if found.job_state is not None else Job.STATE_UNSPECIFIED,
        handle_time=timestamp(found.handled_at),
        end_time=timestamp(found.ended_at),
        count=found.count,
        actor=text(found.actor),
    )


def would_run(tick_at: int) -> schedule_pb2.ScheduleRun:
    """A time that a backfill would make up for."""
    return schedule_pb2.ScheduleRun(tick_time=timestamp(tick_at), trigger=_TRIGGERS[Trigger.BACKFILL], count=1)


def _timing(message: schedule_pb2.ScheduleSpec) -> Timing:
    end_at = moment_ms(message.end_time, "end_time") if message.HasField("end_time") else 0
    if message.HasField("end_time") and not end_at:
        raise InvalidArgument("the end_time is the beginning of 1970; leave it out for a schedule without an end")
    return Timing(
        cron=parse.line(message.cron, "cron expression", MAX_CRON_CHARS).strip(),
        every_ms=span_ms(message.interval, "interval", MIN_EVERY_MS, MAX_EVERY_MS) if message.HasField("interval") else 0,
        timezone=parse.line(message.timezone, "time zone", MAX_ZONE_CHARS) or "UTC",
        start_at=moment_ms(message.start_time, "start_time") if message.HasField("start_time") else 0,
        end_at=end_at,
        jitter_ms=span_ms(message.jitter, "jitter", 0, MAX_JITTER_MS) if message.HasField("jitter") else 0,
    )


def _payload(message: schedule_pb2.ScheduleSpec) -> bytes:
    match message.WhichOneof("content"):
        case "payload_json":
            return checked_text(message.payload_json)
        case "payload":
            return struct_text(message.payload)
        case _:
            return _EMPTY


def _value(table: Mapping[T, Any], number: int, what: str, prefix: str = "") -> T | None:
    """The value of a number of an enum, None for 0; InvalidArgument for one that the contract does not have."""
    found = next((value for value, known in table.items() if known == number), None)
    if found is None and number:
        use = ", ".join(f"{prefix}{value}" for value in table) if prefix else "one of the contract's"
        raise InvalidArgument(f"the {what} {number} is unknown; use {use}")
    return found

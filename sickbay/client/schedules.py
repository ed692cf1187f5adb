"""Schedules as frozen dataclasses; the contract's `schedule.proto` explains each field."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sickbay.client.errors import invalid
from sickbay.client.payload import Payload, payload_text, read_payload
from sickbay.client.when import Span
from sickbay.domain.errors import ErrorReason
from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority
from sickbay.domain.schedule import Origin, Overlap, RunOutcome, ScheduleState, Trigger, WhileOpen
from sickbay.handlers.payloads.typing import PayloadObject

LEFT_OUT: Final = ""
"""The payload of a spec that was read without it."""


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What a schedule does: write one to create or change it; the service answers with one, too.

    Either `cron`, in the time zone `timezone` (its name, such as Europe/Berlin; the default is UTC), or `interval` says when. Spans are
    seconds or timedeltas, and timedeltas when they are read; times are aware datetimes. What is None is the service's default.

    `payload` is that of `submit`, by default {}; `job_type` and `payload` may be one object, too, whose class says its job type. When it is
    read it is JSON text, byte for byte; it is "" in lists and for those who may not read payloads, and such a spec cannot be sent:
    `dataclasses.replace(spec, payload=...)` gives it one.
    """

    job_type: str | PayloadObject
    payload: Payload | None = None
    priority: Priority | str | None = None
    cron: str = ""
    interval: Span | None = None
    timezone: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    jitter: Span | None = None
    overlap: Overlap | str | None = None
    catch_up_window: Span | None = None
    pause_on_failure: bool = False
    while_open: WhileOpen | str | None = None
    description: str = ""


def sendable(payload: Payload) -> str:
    """The payload as JSON text. InvalidRequest if it was left out when its spec was read, or is no payload."""
    if payload == LEFT_OUT:
        raise invalid(
            "the payload is missing in this spec, as in all that a list has and where payloads may not be read; get the schedule,"
            " or give the payload: dataclasses.replace(spec, payload={...})",
            ErrorReason.INVALID_PAYLOAD,
        )
    return payload_text(payload)


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """What became of one time of a schedule, or of `count` consecutive ones, of which `tick_time` is the last.

    `job_id` is empty and `job_state` None if there is no job. `actor` is who asked for it, empty if its time had come.
    """

    tick_time: datetime
    trigger: Trigger
    outcome: RunOutcome
    job_id: str
    job_state: JobState | None
    handle_time: datetime | None
    end_time: datetime | None
    count: int
    actor: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule. `next_times` are its next times, without jitter, at most five; empty unless it is ACTIVE. Send `etag` with a change.

    `orphaned`: it comes from code that no live worker has any more. `payload_hidden`: this principal may not read payloads.
    """

    schedule_id: str
    tenant: str
    spec: ScheduleSpec
    state: ScheduleState
    origin: Origin
    orphaned: bool
    pause_note: str
    paused_by: str
    create_time: datetime | None
    update_time: datetime | None
    next_times: tuple[datetime, ...]
    description_of_times: str
    last_run: ScheduleRun | None
    buffered_time: datetime | None
    etag: str
    payload_hidden: bool = False
    _payload: dict[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of its jobs, decoded at first use; ValueError if it was left out, as in lists."""
        if self._payload is None:
            object.__setattr__(self, "_payload", read_payload(str(self.spec.payload).encode()))
        return self._payload  # type: ignore[return-value]  # set just above


@dataclass(frozen=True, slots=True)
class Backfill:
    """What a backfill has submitted: the runs that are new, oldest first, and how many of the times had a job already."""

    runs: tuple[ScheduleRun, ...]
    existing: int

"""Formatting of table cells: states in their colours, times, and tenants."""

from __future__ import annotations

from typing import Any, Final

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.incident_pb2 import IncidentEntry
from sickbay.domain.job import DEFAULT_TENANT
from sickbay.jobs.v1.job_pb2 import Job, Priority
from sickbay.jobs.v1.quarantine_service_pb2 import QuarantinedJob
from sickbay.schedules.v1.schedule_pb2 import Schedule, ScheduleRun
from sickbay.server.rest.views import millis
from sickbay_cli.durations import moment, relative
from sickbay_cli.output import Cell

_STYLES: Final = {
    "SCHEDULED": "dim cyan",
    "QUEUED": "cyan",
    "RUNNING": "blue",
    "RETRYING": "yellow",
    "PARKED": "magenta",
    "QUARANTINED": "bold red",
    "SUCCEEDED": "green",
    "DISCARDED": "dim",
    "CANCELLED": "dim",
    "CLOSED": "green",
    "OPEN": "bold red",
    "HALF_OPEN": "yellow",
    "FORCED_OPEN": "bold red",
    "DISABLED": "dim",
    "METRICS_ONLY": "blue",
    "ACTIVE": "green",
    "PAUSED": "yellow",
    "ENDED": "dim",
    "MISSED": "bold red",
    "SKIPPED_OVERLAP": "yellow",
    "SKIPPED_CIRCUIT_OPEN": "yellow",
}


def job_state(number: int) -> Cell:
    """A job's state in its colour."""
    return _coloured(name(Job.State, number, "STATE_"))


def schedule_state(number: int) -> Cell:
    """A schedule's state in its colour."""
    return _coloured(name(Schedule.State, number, "STATE_"))


def run_outcome(number: int) -> Cell:
    """What became of a time of a schedule, in its colour."""
    return _coloured(name(ScheduleRun.Outcome, number, "OUTCOME_"))


def breaker_state(number: int) -> Cell:
    """A breaker's state in its colour."""
    return _coloured(name(Breaker.State, number, "STATE_"))


def incident_kind(number: int) -> str:
    """What a line of an incident's timeline is about, in words."""
    return name(IncidentEntry.Kind, number, "KIND_").lower().replace("_", " ")


def reason(case: QuarantinedJob) -> str:
    """Why a job is in quarantine."""
    return name(QuarantinedJob.Reason, case.reason, "REASON_") if case.reason else ""


def ms(message: Any, field: str) -> int:
    """A Timestamp field in milliseconds, 0 if it is not set."""
    return millis(getattr(message, field)) if message.HasField(field) else 0


def when(time: int, now: int) -> str:
    """`3 m ago (2024-01-01 00:00:00)`; empty for 0."""
    return f"{relative(time, now)} ({moment(time)})" if time else ""


def priority(number: int) -> str:
    """The name of a priority; empty if a service of an earlier version does not say it."""
    return name(Priority, number, "PRIORITY_") if number else ""


REDACTED: Final = "what may be from other tenants, since they share this breaker (needs all tenants)"


def other_tenant(tenant: str) -> str:
    """The tenant; empty for the default one."""
    return "" if tenant == DEFAULT_TENANT else tenant


def join_nonempty(separator: str, *parts: str) -> str:
    """The parts that are not empty, joined."""
    return separator.join(filter(None, parts))


def name(enum: Any, number: int, prefix: str) -> str:
    """The name of an enum's value in the contract without prefix; the number itself if it is unknown, from a newer service."""
    return str(enum.Name(number)).removeprefix(prefix) if number in enum.values() else str(number)


def _coloured(state: str) -> Cell:
    return state, _STYLES.get(state, "")

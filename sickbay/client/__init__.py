"""The client library: `from sickbay.client import Client, AsyncClient`.

It needs grpcio and protobuf alone: no web framework, no drivers, no telemetry. docs/clients.md explains it.
"""

from sickbay.client.aio import AsyncClient
from sickbay.client.breakers import Breaker, BreakerExplanation
from sickbay.client.errors import (
    CircuitOpen,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    JobNotSucceeded,
    LimitReached,
    NoResult,
    NotFound,
    PermissionDenied,
    ResultNotKept,
    ServerFault,
    SickbayError,
    Unauthenticated,
    Unavailable,
)
from sickbay.client.jobs import (
    AttemptError,
    BatchResult,
    BreakerNotice,
    Job,
    JobExplanation,
    JobUpdate,
    NewJob,
    OnOpen,
    Progress,
    StateChange,
    SubmittedJob,
)
from sickbay.client.quarantine import FailureGroup, PayloadRevision, QuarantinedJob
from sickbay.client.scheduled import ScheduledJob
from sickbay.client.schedules import Backfill, Schedule, ScheduleRun, ScheduleSpec
from sickbay.client.sync import Client
from sickbay.client.transport import TLS
from sickbay.client.types import JobType
from sickbay.domain.breaker import BreakerState
from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority
from sickbay.domain.schedule import Origin, Overlap, RunOutcome, ScheduleState, Trigger, WhileOpen

__all__ = [
    "TLS",
    "AsyncClient",
    "AttemptError",
    "Backfill",
    "BatchResult",
    "Breaker",
    "BreakerExplanation",
    "BreakerNotice",
    "BreakerState",
    "CircuitOpen",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FailureGroup",
    "InvalidRequest",
    "Job",
    "JobExplanation",
    "JobNotSucceeded",
    "JobState",
    "JobType",
    "JobUpdate",
    "LimitReached",
    "NewJob",
    "NoResult",
    "NotFound",
    "OnOpen",
    "Origin",
    "Overlap",
    "PayloadRevision",
    "PermissionDenied",
    "Priority",
    "Progress",
    "QuarantinedJob",
    "ResultNotKept",
    "RunOutcome",
    "Schedule",
    "ScheduleRun",
    "ScheduleSpec",
    "ScheduleState",
    "ScheduledJob",
    "ServerFault",
    "SickbayError",
    "StateChange",
    "SubmittedJob",
    "Trigger",
    "Unauthenticated",
    "Unavailable",
    "WhileOpen",
]

"""Protobuf to domain: all validation of requests in one place; a violation is InvalidArgument, whose message says what to correct.

Servicers call these first, so the core can trust its arguments.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from sickbay.breakers.v1 import breaker_service_pb2 as breakers
from sickbay.contract.payload import checked_text, struct_text
from sickbay.contract.times import run_time, span_ms
from sickbay.domain.access import ANYBODY, Principal, Tenants
from sickbay.domain.breaker import DEPENDENCY, Action, BreakerKey, Command
from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.job import CODE_PATTERN, DEFAULT_TENANT, NAME_PATTERN, Job, JobState, Reason, is_code, is_name
from sickbay.domain.priority import Priority
from sickbay.domain.queries import JobEdit, JobQuery, QuarantineQuery
from sickbay.jobs.v1 import job_pb2, job_service_pb2
from sickbay.jobs.v1 import quarantine_service_pb2 as quarantine
from sickbay.jobs.v1.scheduled_job_service_pb2 import UpdateScheduledJobRequest

T = TypeVar("T")

MAX_BATCH: Final = 1000
MAX_ID_CHARS: Final = 64
MAX_REQUEST_ID_CHARS: Final = 128
MAX_ETAG_CHARS: Final = 128
MAX_ACTOR_CHARS: Final = 128
MAX_WHY_CHARS: Final = 500
MAX_HOLD_MS: Final = 30 * 86_400_000
_SHOWN_CHARS: Final = 80

_REQUEST_ID: Final = re.compile(rf"[ -~]{{1,{MAX_REQUEST_ID_CHARS}}}")
_STATES: Final[dict[int, JobState]] = {
    number: JobState(name.removeprefix("STATE_")) for name, number in job_pb2.Job.State.items() if number
}
_PRIORITIES: Final[dict[int, Priority]] = {
    number: Priority(name.removeprefix("PRIORITY_")) for name, number in job_pb2.Priority.items() if number
}
_REASONS: Final[dict[int, Reason]] = {
    number: Reason(name.removeprefix("REASON_")) for name, number in quarantine.QuarantinedJob.Reason.items() if number
}


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to accept; `request_id` is the idempotency key, empty if there is none. `rejects`: not to be parked, but rejected.

    `principal` is the name of who submits it, empty while access control is off and for jobs that handlers submit. `tenants` are those of
    which the principal may know. It is to run `delay_ms` later or at `run_at` (ms), at once if both are 0. `is_follow_up`: a handler
    submits it, whose next run may say another time and means the same job.
    """

    job_type: str
    tenant: str
    payload_json: bytes
    request_id: str = ""
    rejects: bool = False
    priority: Priority = Priority.NORMAL
    principal: str = ""
    tenants: Tenants = None
    delay_ms: int = 0
    run_at: int = 0
    is_follow_up: bool = False

    @property
    def digest(self) -> bytes:
        """Equal for equal requests: distinguishes a repeat from a reused idempotency key.

        The defaults add nothing, so keys that an earlier version has reserved stay valid; a payload begins with a brace.
        """
        urgency = "" if self.priority is Priority.NORMAL else f"{self.priority}\n"
        later = f"{self.delay_ms}\n{self.run_at}\n" if (self.delay_ms or self.run_at) and not self.is_follow_up else ""
        head = f"{self.tenant}\n{self.job_type}\n{urgency}{later}".encode()
        return hashlib.blake2b(head + self.payload_json, digest_size=16).digest()

    def job(self, job_id: str, now: int) -> Job:
        """The job to create; `now` in ms."""
        return Job(
            job_id=job_id,
            job_type=self.job_type,
            payload_json=self.payload_json,
            tenant=self.tenant,
            submitted_at=now,
            priority=self.priority,
            run_at=now + self.delay_ms if self.delay_ms else self.run_at,
        )


def submission(request: job_service_pb2.SubmitJobRequest, principal: Principal = ANYBODY) -> Submission:
    """A job to submit; PermissionDenied if it is to have a tenant that is not the principal's."""
    kind = job_type(request.job_type)
    owner = principal.tenant(tenant_filter(request.tenant))
    payload = content(request)
    if payload is None:
        raise InvalidArgument("the payload is missing; send a JSON object, {} for an empty one", ErrorReason.INVALID_PAYLOAD)
    key = request_id(request.request_id)
    if request.on_open not in job_service_pb2.OnOpen.values():
        raise InvalidArgument(f"on_open {request.on_open} is unknown; use ON_OPEN_PARK or ON_OPEN_REJECT")
    rejects = request.on_open == job_service_pb2.ON_OPEN_REJECT
    urgency = priority(request.priority) or Priority.NORMAL
    delay_ms, run_at = run_time(request)
    if rejects and (delay_ms or run_at):
        raise InvalidArgument("on_open REJECT is for a job that is to run now; a later one is parked if its circuit is open when it is due")
    return Submission(kind, owner, payload, key, rejects, urgency, principal.name, principal.tenants, delay_ms or 0, run_at or 0)


def batch(request: job_service_pb2.BatchSubmitJobsRequest) -> list[job_service_pb2.SubmitJobRequest]:
    """The items of a batch, each still to be validated by `submission`."""
    count = len(request.requests)
    if not 1 <= count <= MAX_BATCH:
        raise InvalidArgument(f"a batch may have 1 to {MAX_BATCH:,} jobs, not {count:,}; split it")
    return list(request.requests)


def job_query(request: job_service_pb2.ListJobsRequest, principal: Principal = ANYBODY) -> JobQuery:
    """Which jobs to list, of those that the principal sees."""
    numbers = {number for number in request.states if number}
    states = frozenset(_known(_STATES, number, "state") for number in numbers)
    if len(numbers) != len(set(request.states)):  # "any state" among them
        states = frozenset()
    return JobQuery(job_type_filter(request.job_type), tenants(request.tenant, principal), states, priority(request.priority))


def quarantine_query(request: quarantine.ListQuarantinedJobsRequest, now: int, principal: Principal = ANYBODY) -> QuarantineQuery:
    """Which jobs in quarantine to list, of those that the principal sees; `now` in ms."""
    code = request.error_code
    if code and not is_code(code):
        raise InvalidArgument(f"the error code {shown(code)} is invalid; it must match {CODE_PATTERN}")
    return QuarantineQuery(
        job_type=job_type_filter(request.job_type),
        tenants=tenants(request.tenant, principal),
        state=_known(_STATES, request.state, "state") if request.state else None,
        reason=_known(_REASONS, request.reason, "reason") if request.reason else None,
        error_code=code,
        fingerprint=line(request.fingerprint, "fingerprint", MAX_ID_CHARS),
        set_aside_before=now - span_ms(request.min_age, "minimal age", 0, now) if request.HasField("min_age") else None,
        priority=priority(request.priority),
    )


def edit(request: quarantine.ResubmitJobRequest) -> JobEdit:
    """The changes of a resubmitted job."""
    kind = job_type(request.job_type) if request.job_type else None
    return JobEdit(payload_json=content(request), job_type=kind, priority=priority(request.priority))


_ACTIONS: Final[dict[type, Action]] = {
    breakers.ResetBreakerRequest: Action.RESET,
    breakers.ForceOpenBreakerRequest: Action.FORCE_OPEN,
    breakers.DisableBreakerRequest: Action.DISABLE,
    breakers.SetBreakerMetricsOnlyRequest: Action.METRICS_ONLY,
    breakers.SetBreakerAutoRequest: Action.AUTO,
    breakers.ProbeBreakerRequest: Action.PROBE,
}

CommandRequest = (
    breakers.ResetBreakerRequest
    | breakers.ForceOpenBreakerRequest
    | breakers.DisableBreakerRequest
    | breakers.SetBreakerMetricsOnlyRequest
    | breakers.SetBreakerAutoRequest
    | breakers.ProbeBreakerRequest
)
"""The requests that change a breaker."""


def command(request: CommandRequest, principal: Principal = ANYBODY) -> tuple[BreakerKey, Command]:
    """Which breaker, and what to do with it."""
    key = breaker_key(request.job_type, request.tenant)
    action = _ACTIONS[type(request)]
    if isinstance(request, breakers.ResetBreakerRequest | breakers.SetBreakerAutoRequest | breakers.ProbeBreakerRequest):
        return key, Command(action)
    hold = None
    if isinstance(request, breakers.ForceOpenBreakerRequest) and request.HasField("duration"):
        hold = span_ms(request.duration, "duration", 1, MAX_HOLD_MS)
    return key, Command(action, hold, actor(request.actor, principal), line(request.why, "reason (why)", MAX_WHY_CHARS))


def breaker_key(kind: str, owner: str) -> BreakerKey:
    """Which breaker: that of a job type, or of a dependency, by the name that lists give it."""
    if kind.startswith(DEPENDENCY) and is_name(kind.removeprefix(DEPENDENCY)):
        return BreakerKey(kind, tenant(owner))
    return BreakerKey(job_type(kind), tenant(owner))


def breaker_filter(text: str) -> str:
    """The job type or dependency to filter breakers by; empty does not filter."""
    return breaker_key(text, "").job_type if text else ""


def content(request: job_service_pb2.SubmitJobRequest | quarantine.ResubmitJobRequest | UpdateScheduledJobRequest) -> bytes | None:
    """The payload as JSON text, None if the request carries none."""
    match request.WhichOneof("content"):
        case "payload_json":
            return checked_text(request.payload_json)
        case "payload":
            return struct_text(request.payload)
        case _:
            return None


def full_view(view: int, *, default: bool) -> bool:
    """Whether the history is requested; `default` is that of the method."""
    if view not in job_pb2.JobView.values():
        raise InvalidArgument(f"the view {view} is unknown; use JOB_VIEW_BASIC or JOB_VIEW_FULL")
    return default if view == job_pb2.JOB_VIEW_UNSPECIFIED else view == job_pb2.JOB_VIEW_FULL


def job_type(text: str) -> str:
    """A required job type."""
    if not text:
        raise InvalidArgument("the job type is missing; name the handler that should run the job", ErrorReason.INVALID_JOB_TYPE)
    if not is_name(text):
        rule = f"it must match {NAME_PATTERN} (lower-case letters, digits, '.', '_' and '-', at most 64)"
        raise InvalidArgument(f"the job type {shown(text)} is invalid; {rule}", ErrorReason.INVALID_JOB_TYPE)
    return text


def job_type_filter(text: str) -> str:
    """A job type to filter by; empty does not filter."""
    return job_type(text) if text else ""


def tenant(text: str) -> str:
    """A tenant; empty means `default`."""
    return tenant_filter(text) or DEFAULT_TENANT


def tenant_filter(text: str) -> str:
    """A tenant to filter by; empty does not filter."""
    if text and not is_name(text):
        raise InvalidArgument(f"the tenant {shown(text)} is invalid; it must match {NAME_PATTERN}")
    return text


def tenants(text: str, principal: Principal) -> Tenants:
    """The tenants whose objects a list may have: those of the principal, or one of them; none of them for a foreign one."""
    return principal.filter(tenant_filter(text))


def priority(number: int) -> Priority | None:
    """A priority; None if the request does not say one."""
    found = _PRIORITIES.get(number)
    if found is None and number:
        raise InvalidArgument(f"the priority {number} is unknown; use PRIORITY_HIGH, PRIORITY_NORMAL or PRIORITY_LOW")
    return found


def job_id(text: str) -> str:
    """A required job id."""
    if not text:
        raise InvalidArgument("the job id is missing")
    return line(text, "job id", MAX_ID_CHARS)


def request_id(text: str) -> str:
    """An idempotency key; empty means none."""
    if text and _REQUEST_ID.fullmatch(text) is None:
        raise InvalidArgument(
            f"the request id (idempotency key) must be 1 to {MAX_REQUEST_ID_CHARS} printable ASCII characters, for example a UUID"
        )
    return text


def etag(text: str) -> str:
    """An etag; empty skips the check."""
    return line(text, "etag", MAX_ETAG_CHARS)


def actor(text: str, principal: Principal = ANYBODY) -> str:
    """Who makes the change: the principal, and what the request says only while nobody is known; may be empty then."""
    return principal.actor(line(text, "actor", MAX_ACTOR_CHARS))


def line(text: str, what: str, limit: int) -> str:
    """One line of plain text of at most `limit` characters; `what` names it in an error."""
    if len(text) > limit:
        raise InvalidArgument(f"the {what} is {len(text):,} characters long; at most {limit} are allowed")
    if not text.isprintable():
        raise InvalidArgument(f"the {what} has an unprintable character; send one line of plain text")
    return text


def _known(table: Mapping[int, T], number: int, what: str) -> T:
    found = table.get(number)
    if found is None:
        raise InvalidArgument(f"the {what} {number} is unknown; use one of the contract's")
    return found


def shown(text: str) -> str:
    """A text in an error, not at any length."""
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "...")

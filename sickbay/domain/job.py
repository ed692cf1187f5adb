"""A job, the states it goes through, and the order in which copies of it supersede each other.

Pure: frozen values and functions that take `now`. All times are integer milliseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import GenericAlias
from typing import Any, ClassVar, Final, Generic

from sickbay.domain.failure import Failure, bounded_failures
from sickbay.domain.payload import P_co, PayloadUnreadable, read_payload
from sickbay.domain.priority import Priority
from sickbay.domain.progress import Progress
from sickbay.domain.result import Result
from sickbay.domain.run_context import InRun

NAME_PATTERN: Final = r"[a-z0-9][a-z0-9._-]{0,63}"
CODE_PATTERN: Final = r"[A-Z0-9_]{1,48}"
DEFAULT_TENANT: Final = "default"
MAX_PAYLOAD_BYTES: Final = 1024 * 1024
MAX_DIGITS: Final = 4_300
"""The digits of an integer in a payload: what Python reads by default (`sys.set_int_max_str_digits`)."""

_NAME: Final = re.compile(NAME_PATTERN)
_CODE: Final = re.compile(CODE_PATTERN)
_HEX: Final = frozenset("0123456789abcdef")
_UUID_DIGITS: Final = 32


class JobState(StrEnum):
    """The state of a job; the names of the contract's `Job.State`."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    PARKED = "PARKED"
    QUARANTINED = "QUARANTINED"
    SUCCEEDED = "SUCCEEDED"
    DISCARDED = "DISCARDED"
    CANCELLED = "CANCELLED"
    SCHEDULED = "SCHEDULED"

    @property
    def rank(self) -> int:
        """Third part of the order of truth: 0 waiting, 1 running, 5 set aside, 9 final."""
        return _RANKS[self]

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.rank == _FINAL

    @property
    def in_quarantine(self) -> bool:
        """Whether the job is in quarantine, parked or quarantined."""
        return self.rank == _SET_ASIDE

    @property
    def is_in_ledger_alone(self) -> bool:
        """Whether no queue for workers holds the job: the ledger has its payload, and whoever publishes it takes it from there."""
        return self.rank == _SET_ASIDE or self is JobState.SCHEDULED


_SET_ASIDE: Final = 5
_FINAL: Final = 9
_RANKS: Final = {
    **dict.fromkeys((JobState.SCHEDULED, JobState.QUEUED, JobState.RETRYING), 0),
    JobState.RUNNING: 1,
    JobState.PARKED: _SET_ASIDE,
    JobState.QUARANTINED: _SET_ASIDE,
    JobState.SUCCEEDED: _FINAL,
    JobState.DISCARDED: _FINAL,
    JobState.CANCELLED: _FINAL,
}


class Reason(StrEnum):
    """Why a job was set aside; the names of the contract's `QuarantinedJob.Reason`."""

    CIRCUIT_OPEN = "CIRCUIT_OPEN"
    RETRIES_EXHAUSTED = "RETRIES_EXHAUSTED"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    UNDECODABLE = "UNDECODABLE"
    WORKER_LOST = "WORKER_LOST"
    BROKER = "BROKER"
    WORKER_FAULT = "WORKER_FAULT"
    RATE_LIMITED = "RATE_LIMITED"


@dataclass(frozen=True, slots=True)
class Job(InRun, Generic[P_co]):
    """One unit of work, as a handler receives it; a handler of `Job[Email]` gets the payload as an `Email`.

    Handlers run at least once: use `idempotency_key` when an effect must not happen twice. `trace` is the context of the trace that the
    job belongs to (see `trace.py`), empty without tracing.

    `run_at` is when it was to run (ms), 0 if that was at once. A job of a schedule has its `schedule_id`, and in `tick_at` the time of the
    schedule (ms) for which it is, without jitter: a report of a night is of this one, however late it runs.
    """

    job_id: str
    job_type: str
    payload_json: bytes = b"{}"
    tenant: str = DEFAULT_TENANT
    attempt: int = 0
    generation: int = 0
    failures: tuple[Failure, ...] = ()
    submitted_at: int = 0
    maybe_duplicate: bool = False
    trace: str = ""
    priority: Priority = Priority.NORMAL
    run_at: int = 0
    schedule_id: str = ""
    tick_at: int = 0
    _payload: Any = field(default=None, init=False, repr=False, compare=False)
    _unreadable: str = field(default="", init=False, repr=False, compare=False)

    # `typing`'s alias would set an attribute on each job that `Job[Email](...)` makes, which a frozen class refuses.
    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)

    @property
    def payload(self) -> P_co:
        """The content: a dictionary, decoded at first use, or for a handler of `Job[Email]` an `Email`, decoded before its run.

        Raises PayloadUnreadable if the bytes are not a JSON object, which the Job API does not accept. A run that fails after that has
        the code PAYLOAD_UNREADABLE, whatever the handler raises.
        """
        if self._payload is None:
            try:
                object.__setattr__(self, "_payload", read_payload(self.payload_json))
            except PayloadUnreadable as error:
                object.__setattr__(self, "_unreadable", str(error))
                raise
        return self._payload  # type: ignore[no-any-return]  # set just above, or by `set_payload`

    @property
    def unreadable(self) -> str:
        """Why reading `payload` failed; empty if it did not, or was not tried."""
        return self._unreadable

    @property
    def idempotency_key(self) -> str:
        """The same for every run of this job in this generation; pass it to the service you call."""
        return f"{self.job_id}.{self.generation}"

    @property
    def is_fresh(self) -> bool:
        """Whether, by its own fields, no other copy of this job can have run."""
        return self.attempt == 0 and self.generation == 0 and not self.maybe_duplicate

    @property
    def first_state(self) -> JobState:
        """The state in which it is accepted: SCHEDULED if it is to run later."""
        return JobState.SCHEDULED if self.run_at > self.submitted_at else JobState.QUEUED

    @property
    def blameless(self) -> int:
        """How many of its attempts do not count against the job: failures of what it depends on."""
        return min(self.attempt, self.failures[-1].blameless) if self.failures else 0

    @property
    def failed_blamelessly(self) -> bool:
        """Whether its last failed run does not count against it; False if that is unknown."""
        if not self.failures:
            return False
        before = min(self.failures[-1].attempt, self.failures[-2].blameless) if len(self.failures) > 1 else 0
        return self.failures[-1].blameless > before

    def failed(self, failure: Failure, *, blameless: bool = False) -> Job[P_co]:
        """The job with one more failure, beyond ten the first three and the newest; the attempt stays the same."""
        counted = replace(failure, blameless=self.blameless + blameless)
        return replace(self, failures=bounded_failures((*self.failures, counted)))

    def charged(self) -> Job[P_co]:
        """The copy for the next attempt."""
        return replace(self, attempt=self.attempt + 1)


def set_payload(job: Job[Any], payload: object) -> None:
    """From now on `job.payload` is this object, which was decoded from its JSON text."""
    object.__setattr__(job, "_payload", payload)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """An event for the ledger: since `at` the job is in `state`.

    `job` has its payload when it is set aside or SCHEDULED, and may have it when it is accepted. `run` names one execution (two
    different runs that both succeed are a duplicate; one run reported twice is a replay). `started_at` is the start of that run, None
    if there was none. `duplicate` marks a copy that was dropped because a later one exists: it is counted and changes nothing else.
    `beyond_limit` is for observers, not for the ledger: a job that is at fault would have been quarantined instead of retried. `result`
    is what a run that SUCCEEDED returned, `progress` how far one is that is RUNNING. `cancel_requested` marks the request to cancel a
    job whose run has begun: it changes no state, and `job` and `state` are what is known of the job.
    """

    job: Job
    state: JobState
    at: int
    started_at: int | None = None
    run: str = ""
    actor: str = ""
    reason: Reason | None = None
    code: str = ""
    message: str = ""
    duplicate: bool = False
    beyond_limit: bool = False
    result: Result | None = None
    progress: Progress | None = None
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class StateChange:
    """One entry of a job's history."""

    at: int
    state: JobState
    generation: int
    attempt: int
    code: str = ""
    message: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as stored in the ledger. `job.payload_json` is empty unless the job is set aside or SCHEDULED.

    `result` is what the run returned with which the job SUCCEEDED, `progress` how far a run is that is RUNNING; lists of records have
    neither. `cancel_requested_at` is when somebody asked to cancel it after a run had begun (ms), 0 if nobody did.
    """

    job: Job
    state: JobState
    updated_at: int
    started_at: int | None = None
    duplicates: int = 0
    reason: Reason | None = None
    etag: str = ""
    fingerprint: str = ""
    result: Result | None = None
    progress: Progress | None = None
    cancel_requested_at: int = 0

    @property
    def next_attempt_at(self) -> int:
        """When a RETRYING job is to run again (ms); 0 in other states, and if that is not known."""
        return self.job.failures[-1].retry_at if self.state is JobState.RETRYING and self.job.failures else 0


def is_name(text: str) -> bool:
    """Whether `text` can be a job type or a tenant: `[a-z0-9][a-z0-9._-]{0,63}`."""
    return _NAME.fullmatch(text) is not None


def is_code(text: str) -> bool:
    """Whether `text` can be an error code: `[A-Z0-9_]{1,48}`."""
    return _CODE.fullmatch(text) is not None


def new_job_id(now: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7), so ids sort by time; `now` in ms. No two calls give the same."""
    rand = int.from_bytes(os.urandom(10), "big")
    value = (now & (1 << 48) - 1) << 80 | 0x7 << 76 | (rand >> 68 & 0xFFF) << 64 | 0b10 << 62 | rand & (1 << 62) - 1
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def time_of_id(job_id: str) -> int | None:
    """When `new_job_id` made it (ms); None if it is no UUID of version 7."""
    digits = job_id.replace("-", "")
    if len(digits) != _UUID_DIGITS or digits[12] != "7" or not _HEX.issuperset(digits):
        return None
    return int(digits[:12], 16)

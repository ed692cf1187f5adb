"""Queries to the ledger and their answers; the methods are in `ports`.

Pure. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from sickbay.domain.access import Tenants
from sickbay.domain.job import Job, JobRecord, JobState, Reason, StateChange
from sickbay.domain.priority import Priority

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs to list; empty fields do not filter. `tenants` None: of all."""

    job_type: str = ""
    tenants: Tenants = None
    states: frozenset[JobState] = frozenset()
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class QuarantineQuery:
    """Which set-aside jobs to list; empty fields do not filter. `tenants` None: of all. `set_aside_before` is in ms."""

    job_type: str = ""
    tenants: Tenants = None
    state: JobState | None = None
    reason: Reason | None = None
    error_code: str = ""
    fingerprint: str = ""
    set_aside_before: int | None = None
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of an answer; `cursor` continues it, empty on the last page. `total` counts all matches where requested."""

    items: Sequence[T]
    cursor: str = ""
    total: int = 0


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Set-aside jobs with one type, code and shape of message; times in ms."""

    job_type: str
    error_code: str
    fingerprint: str
    sample_message: str
    sample_job_id: str
    count: int
    first_at: int
    last_at: int


@dataclass(frozen=True, slots=True)
class PayloadRevision:
    """One edit of a payload."""

    at: int
    actor: str
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class QuarantinedJob:
    """A set-aside job with everything a person needs to decide about it."""

    record: JobRecord
    revisions: Sequence[PayloadRevision]
    history: Sequence[StateChange]


@dataclass(frozen=True, slots=True)
class ReleaseLease:
    """A job leased from quarantine, to be published. `job` already has its payload and the next generation.

    `message` is for its history: what `actor` changed.
    """

    job: Job
    actor: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class JobEdit:
    """Changes to a job on resubmit; None keeps the value."""

    payload_json: bytes | None = None
    job_type: str | None = None
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class ScheduledJobQuery:
    """Which SCHEDULED jobs to list; empty fields do not filter. `tenants` None: of all. `before` is in ms: only jobs due before it."""

    job_type: str = ""
    tenants: Tenants = None
    schedule_id: str = ""
    before: int | None = None


@dataclass(frozen=True, slots=True)
class ScheduledJobEdit:
    """Changes to a SCHEDULED job; None keeps the value. It is to run at `run_at` (ms), or `delay_ms` from now."""

    run_at: int | None = None
    delay_ms: int | None = None
    payload_json: bytes | None = None
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class DuplicateCheck:
    """What the ledger knows about a copy that may not be the only one.

    `superseded`: a later copy exists, drop this one. `crashes`: how many workers died while they ran this copy as a suspect.
    `is_to_end`: somebody asked to cancel the job after a run of it had begun, so this copy must not run.
    """

    superseded: bool
    crashes: int = 0
    is_to_end: bool = False


@dataclass(frozen=True, slots=True)
class LostQuery:
    """Which unfinished jobs to look at: those without an event since `before` (ms), or those named, whatever their state.

    Other empty fields do not filter. `tenants` (None: all) holds for named jobs, too: one of another tenant is not found.
    """

    before: int = 0
    job_type: str = ""
    tenants: Tenants = None
    job_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LostCandidate:
    """A job that may be lost; whether the ledger has its payload, and whether it is already being requeued."""

    record: JobRecord
    has_payload: bool
    is_leased: bool


@dataclass(frozen=True, slots=True)
class OldestJob:
    """The time (ms) of the last event of the job, of this state and type, whose last event is the oldest."""

    state: JobState
    job_type: str
    since: int


@dataclass(frozen=True, slots=True)
class RequeueOrder:
    """How to treat jobs that may be lost.

    `validate_only`: only report what would be done. `even_if_waiting`: also those whose copy may still be in a queue.
    `discard_without_payload`: discard those that cannot be requeued.
    """

    actor: str = ""
    validate_only: bool = False
    even_if_waiting: bool = False
    discard_without_payload: bool = False


class Verdict(StrEnum):
    """The result for a job that may have been lost; the names of the contract's `RequeuedJob.Outcome`."""

    REQUEUED = "REQUEUED"
    DISCARDED = "DISCARDED"
    REQUEUEABLE = "REQUEUEABLE"
    TOO_RECENT = "TOO_RECENT"
    MAY_WAIT = "MAY_WAIT"
    MAY_RUN = "MAY_RUN"
    NO_PAYLOAD = "NO_PAYLOAD"
    CHANGED = "CHANGED"


@dataclass(frozen=True, slots=True)
class Requeued:
    """A job, the result for it, and the reason in a sentence."""

    record: JobRecord
    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, slots=True)
class HoldAnswer:
    """What workers answered about held jobs: those of which a run has `begun`, and how many consumers of jobs have answered.

    `can_cancel`: whether all that answered can cancel a run that has begun; workers of before cannot.
    """

    begun: frozenset[str]
    workers: int
    can_cancel: bool = True


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """The claim of a job to an idempotency key of its tenant. `digest` is of the request: another one under the same key is rejected.

    Known principals have keys of their own: then `key` has more in it than the client's (`submit.py`).
    """

    tenant: str
    key: str
    digest: bytes
    job_id: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """The owner of an idempotency key. `job_id` and `submitted_at` are those of the first request."""

    job_id: str
    submitted_at: int
    duplicate: bool
    retaken: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """A durable job; `duplicate` if its idempotency key had been accepted before."""

    job: Job
    duplicate: bool = False


@dataclass(slots=True)
class ReconcileResult:
    """The result of one round; `number` grows from round to round, and is about the time of its start (ms)."""

    number: int
    ghosts: int = 0
    kept: int = 0
    adopted: int = 0
    recreated: int = 0
    skipped: int = 0
    """Copies that cannot be processed: checked in vain, or not checked again yet."""
    wrapped: bool = False
    highest_mark: int = 0
    """The latest round that moved one of the copies."""
    seen: set[tuple[str, int, int]] = field(default_factory=set)

    @property
    def passed(self) -> int:
        """Copies that were processed."""
        return self.ghosts + self.kept

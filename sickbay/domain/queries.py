"""What is asked of the ledger and what it answers; the verbs are in `ports.py`.

Pure. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from sickbay.domain.job import Job, JobRecord, JobState, Reason, StateChange

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs to list; empty fields do not filter."""

    job_type: str = ""
    tenant: str = ""
    states: frozenset[JobState] = frozenset()


@dataclass(frozen=True, slots=True)
class QuarantineQuery:
    """Which set-aside jobs to list; empty fields do not filter. `set_aside_before` is in ms."""

    job_type: str = ""
    tenant: str = ""
    state: JobState | None = None
    reason: Reason | None = None
    error_code: str = ""
    fingerprint: str = ""
    set_aside_before: int | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of an answer; `cursor` continues it, empty on the last page. `total` counts all matches where it is asked for."""

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
    """A set-aside job with everything a person needs to judge it."""

    record: JobRecord
    revisions: Sequence[PayloadRevision]
    history: Sequence[StateChange]


@dataclass(frozen=True, slots=True)
class ReleaseLease:
    """A job taken out of quarantine, to be published. `job` has its payload and the next generation already."""

    job: Job
    actor: str = ""


@dataclass(frozen=True, slots=True)
class JobEdit:
    """What a person changes on the way back; None keeps."""

    payload_json: bytes | None = None
    job_type: str | None = None


@dataclass(frozen=True, slots=True)
class DuplicateCheck:
    """What the ledger says to a copy that may not be the only one.

    `superseded`: a later copy exists, drop this one. `crashes`: how many workers died while they ran this copy as a suspect.
    """

    superseded: bool
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class LostQuery:
    """Which unfinished jobs to look at: those of which nothing was heard since `before` (ms), or those named, whatever their state.

    Other empty fields do not filter.
    """

    before: int = 0
    job_type: str = ""
    tenant: str = ""
    job_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unheard:
    """A job that may be lost; whether the ledger has its payload, and whether it is just being brought back."""

    record: JobRecord
    has_payload: bool
    is_leased: bool


@dataclass(frozen=True, slots=True)
class Oldest:
    """Since when (ms) nothing was heard of the job of this state and type that was heard of longest ago."""

    state: JobState
    job_type: str
    since: int


@dataclass(frozen=True, slots=True)
class RequeueOrder:
    """How to treat jobs that may be lost.

    `validate_only`: only say what would be done. `even_if_waiting`: also those whose copy may still wait in a queue.
    `discard_without_payload`: close those that cannot be brought back.
    """

    actor: str = ""
    validate_only: bool = False
    even_if_waiting: bool = False
    discard_without_payload: bool = False


class Verdict(StrEnum):
    """What became of a job that may have been lost; the names of the contract's `RequeuedJob.Outcome`."""

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
    """A job, what became of it, and why, in a sentence."""

    record: JobRecord
    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What those who run jobs said of held ones: of which a run has `begun`, and how many consumers of jobs have answered."""

    begun: frozenset[str]
    workers: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """What became of an idempotency key. `job_id` and `submitted_at` are those of the first request."""

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
    """What one round did; `number` grows from round to round, and is about the time of its begin (ms)."""

    number: int
    ghosts: int = 0
    kept: int = 0
    told: int = 0
    remade: int = 0
    left: int = 0
    """Copies that make trouble and were not looked at, or in vain."""
    around: bool = False
    highest_mark: int = 0
    """Of the copies met: the round that moved one of them last."""
    seen: set[tuple[str, int, int]] = field(default_factory=set)

    @property
    def passed(self) -> int:
        """Copies that were looked at and made no trouble."""
        return self.ghosts + self.kept

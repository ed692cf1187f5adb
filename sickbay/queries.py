"""What is asked of the ledger and what it answers; the verbs are in `ports.py`.

Pure. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sickbay.job import Change, Job, Reason, Record, State

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs to list; empty fields do not filter."""

    job_type: str = ""
    tenant: str = ""
    states: frozenset[State] = frozenset()


@dataclass(frozen=True, slots=True)
class QuarantineQuery:
    """Which set-aside jobs to list; empty fields do not filter. `set_aside_before` is in ms."""

    job_type: str = ""
    tenant: str = ""
    state: State | None = None
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
class Revision:
    """One edit of a payload."""

    at: int
    actor: str
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Case:
    """A set-aside job with everything a person needs to judge it."""

    record: Record
    revisions: Sequence[Revision]
    history: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Claim:
    """A job taken out of quarantine, to be published. `job` has its payload and the next generation already."""

    job: Job
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Edit:
    """What a person changes on the way back; None keeps."""

    payload_json: bytes | None = None
    job_type: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says to a copy that may not be the only one.

    `superseded`: a later copy exists, drop this one. `crashes`: how many workers died while they ran this copy as a suspect.
    """

    superseded: bool
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """What became of an idempotency key. `job_id` and `submitted_at` are those of the first request."""

    job_id: str
    submitted_at: int
    duplicate: bool
    retaken: bool = False

"""A job, the states it goes through, and the order in which copies of it supersede each other.

Pure: frozen values and functions that take `now`. All times are integer milliseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

NAME_PATTERN: Final = r"[a-z0-9][a-z0-9._-]{0,63}"
CODE_PATTERN: Final = r"[A-Z0-9_]{1,48}"
DEFAULT_TENANT: Final = "default"
MAX_PAYLOAD_BYTES: Final = 1024 * 1024
MAX_FAILURES: Final = 10
MAX_MESSAGE_CHARS: Final = 500

_NAME: Final = re.compile(NAME_PATTERN)
_CODE: Final = re.compile(CODE_PATTERN)


class State(StrEnum):
    """Where a job is on its way; the names of the contract's `Job.State`."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    PARKED = "PARKED"
    QUARANTINED = "QUARANTINED"
    SUCCEEDED = "SUCCEEDED"
    DISCARDED = "DISCARDED"
    CANCELLED = "CANCELLED"

    @property
    def rank(self) -> int:
        """Third part of the order of truth: 0 waiting, 1 running, 5 set aside, 9 final."""
        return _RANKS[self]

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.rank == _FINAL

    @property
    def is_set_aside(self) -> bool:
        """Whether the job lies in quarantine, parked or quarantined."""
        return self.rank == _SET_ASIDE


_SET_ASIDE: Final = 5
_FINAL: Final = 9
_RANKS: Final = {
    State.QUEUED: 0,
    State.RETRYING: 0,
    State.RUNNING: 1,
    State.PARKED: _SET_ASIDE,
    State.QUARANTINED: _SET_ASIDE,
    State.SUCCEEDED: _FINAL,
    State.DISCARDED: _FINAL,
    State.CANCELLED: _FINAL,
}


class Reason(StrEnum):
    """Why a job was set aside; the names of the contract's `QuarantinedJob.Reason`."""

    CIRCUIT_OPEN = "CIRCUIT_OPEN"
    RETRIES_EXHAUSTED = "RETRIES_EXHAUSTED"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    UNDECODABLE = "UNDECODABLE"
    WORKER_LOST = "WORKER_LOST"
    BROKER = "BROKER"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed run: when (ms), in which generation and attempt, with which code, and what the handler said."""

    at: int
    generation: int
    attempt: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """One unit of work, as a handler receives it.

    Handlers run at least once: use `idempotency_key` when an effect must not happen twice. `trace` is the context of the trace that the
    job belongs to (see `trace.py`), empty if nobody traces.
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
    _payload: dict[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def payload(self) -> dict[str, Any]:
        """The content as a dictionary, decoded at the first use; ValueError if the bytes are no JSON object."""
        if self._payload is None:
            decoded = json.loads(self.payload_json)
            if not isinstance(decoded, dict):
                msg = "the payload is not a JSON object"
                raise ValueError(msg)
            object.__setattr__(self, "_payload", decoded)
        return self._payload  # type: ignore[return-value]  # set just above

    @property
    def idempotency_key(self) -> str:
        """The same for every run of this job in this generation; hand it to the service you call."""
        return f"{self.job_id}.{self.generation}"

    @property
    def is_fresh(self) -> bool:
        """Whether no other copy of this job can have run, as far as the copy itself can tell."""
        return self.attempt == 0 and self.generation == 0 and not self.maybe_duplicate

    def failed(self, failure: Failure) -> Job:
        """The job with one more failure remembered, the oldest dropped beyond ten; the attempt is not charged."""
        return replace(self, failures=(*self.failures, failure)[-MAX_FAILURES:])

    def charged(self) -> Job:
        """The copy that goes to its next attempt."""
        return replace(self, attempt=self.attempt + 1)


@dataclass(frozen=True, slots=True)
class Event:
    """What a service tells the ledger about a job: it is now in `state`, since `at`.

    `job` carries its payload only when it is set aside. `run` names one execution (two different runs that both succeed are a
    duplicate; one run told twice is a replay). `started_at` is the begin of that run, None if there was none.
    `duplicate` marks a copy that was dropped because a later one exists: it is counted and changes nothing else.
    """

    job: Job
    state: State
    at: int
    started_at: int | None = None
    run: str = ""
    actor: str = ""
    reason: Reason | None = None
    code: str = ""
    message: str = ""
    duplicate: bool = False

    @property
    def order(self) -> tuple[int, int, int]:
        """`(generation, attempt, rank)`: of two events the one with the greater order is the later truth."""
        return (self.job.generation, self.job.attempt, self.state.rank)


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a job's history."""

    at: int
    state: State
    generation: int
    attempt: int
    code: str = ""
    message: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A job as the ledger knows it. `job.payload_json` is empty unless the job is set aside."""

    job: Job
    state: State
    updated_at: int
    started_at: int | None = None
    duplicates: int = 0
    reason: Reason | None = None
    etag: str = ""
    fingerprint: str = ""


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

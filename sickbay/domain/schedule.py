"""Schedules: what they are, and what becomes of each of their times.

Pure, and without cron: `schedule_times.py` finds the times. All times are milliseconds since the epoch, all spans milliseconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from sickbay.domain.access import Tenants
from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority

MIN_EVERY_MS: Final = 1_000
DEFAULT_CATCH_UP_MS: Final = 86_400_000
LEAST_CATCH_UP_MS: Final = 60_000
"""A time that passed so recently is never missed: a control plane may just have been replaced."""
MAX_CATCH_UP_MS: Final = 366 * 86_400_000
MAX_JITTER_MS: Final = 86_400_000
MAX_BACKFILL: Final = 1_000
MAX_DESCRIPTION_CHARS: Final = 500
RUN_RETENTION_MS: Final = 30 * 86_400_000
UNFINISHED: Final = frozenset({JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING, JobState.RETRYING, JobState.PARKED})
"""The states in which the job of a run holds up the next one. A QUARANTINED one needs a person, and does not."""
FAILED: Final = frozenset({JobState.QUARANTINED, JobState.DISCARDED})
"""The states of its job with which a run has failed. A person who cancels one does not make it fail."""


class ScheduleKey(NamedTuple):
    """Names a schedule: its id is unique in its tenant."""

    tenant: str
    schedule_id: str


class Overlap(StrEnum):
    """What happens if the job of the run before has not ended; the names of the contract's `Overlap`."""

    SKIP = "SKIP"
    BUFFER_ONE = "BUFFER_ONE"
    ALLOW = "ALLOW"


class WhileOpen(StrEnum):
    """What happens if the circuit of the job type is open; the names of the contract's `WhileOpen`."""

    RUN = "RUN"
    SKIP = "SKIP"


class ScheduleState(StrEnum):
    """The names of the contract's `Schedule.State`."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ENDED = "ENDED"


class Origin(StrEnum):
    """Where a schedule comes from; the names of the contract's `Schedule.Origin`."""

    API = "API"
    CODE = "CODE"


class Trigger(StrEnum):
    """What led to a run; the names of the contract's `ScheduleRun.Trigger`."""

    TICK = "TICK"
    MANUAL = "MANUAL"
    BACKFILL = "BACKFILL"


class RunOutcome(StrEnum):
    """What became of a time of a schedule; the names of the contract's `ScheduleRun.Outcome`."""

    SUBMITTED = "SUBMITTED"
    SKIPPED_OVERLAP = "SKIPPED_OVERLAP"
    SKIPPED_CIRCUIT_OPEN = "SKIPPED_CIRCUIT_OPEN"
    MISSED = "MISSED"


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule runs: by `cron` in its time zone, or `every_ms`, counted from `start_at` or else from the epoch.

    Not before `start_at` and not at or after `end_at`; 0: no such bound. Each job runs at most `jitter_ms` later.
    """

    cron: str = ""
    every_ms: int = 0
    timezone: str = "UTC"
    start_at: int = 0
    end_at: int = 0
    jitter_ms: int = 0


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """Everything that a person writes of a schedule: when it runs, what its jobs are, and its policies."""

    job_type: str
    timing: Timing
    payload_json: bytes = b"{}"
    priority: Priority = Priority.NORMAL
    overlap: Overlap = Overlap.SKIP
    while_open: WhileOpen = WhileOpen.RUN
    catch_up_ms: int = DEFAULT_CATCH_UP_MS
    pause_on_failure: bool = False
    description: str = ""

    @property
    def catches_up_ms(self) -> int:
        """How long ago a time may be that is made up for."""
        return max(self.catch_up_ms, LEAST_CATCH_UP_MS)


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """What became of one time of a schedule, or of `count` consecutive ones, of which `tick_at` is the last.

    `job_state` is None if there is no job; `ended_at` is 0 while it has not ended. `actor` is who asked for it, empty for a TICK.
    """

    tick_at: int
    trigger: Trigger
    outcome: RunOutcome
    job_id: str = ""
    job_state: JobState | None = None
    handled_at: int = 0
    ended_at: int = 0
    count: int = 1
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule. `next_at` is its next time, without jitter, 0 unless it is ACTIVE; `buffered_at` the one that waits for a job to end.

    `handler` is where the code of an origin CODE is (`module.name`), `code_since` when the worker started that announced it (ms).
    """

    key: ScheduleKey
    spec: ScheduleSpec
    state: ScheduleState = ScheduleState.ACTIVE
    origin: Origin = Origin.API
    pause_note: str = ""
    paused_by: str = ""
    created_at: int = 0
    updated_at: int = 0
    next_at: int = 0
    buffered_at: int = 0
    last_run: ScheduleRun | None = None
    revision: int = 0
    handler: str = ""
    code_since: int = 0

    @property
    def etag(self) -> str:
        """Short, opaque, different after every change of its spec and its state."""
        text = f"{self.key.tenant}/{self.key.schedule_id}/{self.created_at}/{self.revision}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def is_failing(self) -> bool:
        """Whether the job of its latest run has failed."""
        return self.last_run is not None and self.last_run.job_state in FAILED


@dataclass(frozen=True, slots=True)
class ScheduleQuery:
    """Which schedules to list; empty fields do not filter. `tenants` None: of all."""

    tenants: Tenants = None
    job_type: str = ""
    state: ScheduleState | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What a schedule finds when its time has come, `now`: whether the job of its latest run has not ended, and the circuit is open."""

    now: int
    is_running: bool = False
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class NewRun:
    """A job to submit for a time of a schedule; it is due at `run_at`, which has the jitter."""

    tick_at: int
    run_at: int
    trigger: Trigger = Trigger.TICK
    request_id: str = ""
    """Of a MANUAL run: distinguishes those of one time."""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a schedule does now: the jobs it submits, what became of its other times, and the times that it goes on with.

    `next_at` 0: there is no further time, and it has ENDED. `pauses`: why it is paused instead, empty if it is not.
    """

    runs: tuple[NewRun, ...] = ()
    others: tuple[ScheduleRun, ...] = ()
    next_at: int = 0
    buffered_at: int = 0
    pauses: str = ""


def job_id_of(key: ScheduleKey, tick_at: int, request_id: str = "") -> str:
    """The id of the job for a time of a schedule: always the same, so that there is only one. A UUID of version 8 that sorts by time."""
    text = f"{key.tenant}\0{key.schedule_id}\0{tick_at}\0{request_id}"
    rand = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=10).digest())
    value = (tick_at & (1 << 48) - 1) << 80 | 0x8 << 76 | (rand >> 68 & 0xFFF) << 64 | 0b10 << 62 | rand & (1 << 62) - 1
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def jitter_of(key: ScheduleKey, tick_at: int, jitter_ms: int) -> int:
    """How much later the job for a time runs: a part of the jitter, always the same for that time."""
    if jitter_ms <= 0:
        return 0
    text = f"jitter\0{key.tenant}\0{key.schedule_id}\0{tick_at}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % (jitter_ms + 1)

"""Breakers as frozen dataclasses; the contract's `breaker.proto` explains each field."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sickbay.domain.breaker import BreakerState


@dataclass(frozen=True, slots=True)
class Breaker:
    """The circuit breaker of a job type, or of a dependency that several job types share."""

    job_type: str
    tenant: str
    state: BreakerState
    open_time: datetime | None
    probe_time: datetime | None
    cooldown_elapsed: bool
    cooldown: timedelta | None
    trips: int
    reason_code: str
    reason_count: int
    reason_message: str
    failures_in_row: int
    failures_in_row_code: str
    total_failures: int
    recovering: bool
    probe_job_id: str
    forced_until_time: datetime | None
    forced_by: str
    forced_why: str
    would_have_tripped: int
    epoch: int
    rev: int
    update_time: datetime | None
    degraded: bool
    admitted_per_second: float
    dependency: str
    job_types: tuple[str, ...]
    recent_runs: int
    recent_failure_rate: float
    hanging_probes: int
    waiting_for: str
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class BreakerExplanation:
    """Why jobs of a type run or do not, since when, and what happens next.

    `reason` and `next_step` are names of the contract's enums of `BreakerExplanation`, open sets. `parked_jobs` is None if the ledger is
    unavailable.
    """

    breaker: Breaker
    reason: str
    since_time: datetime | None
    next_step: str
    next_time: datetime | None
    parked_jobs: int | None
    sentences: tuple[str, ...]
    commands: tuple[str, ...]

"""The types of the circuit breaker: inputs and outputs of the machine (`machine.py`).

Pure. Times are milliseconds since the epoch, durations are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from sickbay.domain.job import DEFAULT_TENANT


class BreakerKey(NamedTuple):
    """Identifies a breaker. That of a job type, which all tenants share, has the tenant `default`."""

    job_type: str
    tenant: str = DEFAULT_TENANT

    @property
    def name(self) -> str:
        """`<type>`, or `<tenant>/<type>` for a tenant other than `default`; the part of Redis keys after `breaker:`."""
        return self.job_type if self.tenant == DEFAULT_TENANT else f"{self.tenant}/{self.job_type}"


class BreakerScope(StrEnum):
    """Which jobs share a breaker. Whoever needs to know which breaker decides about a job asks `key_of`."""

    TYPE = "type"
    """All of a job type."""
    TENANT = "tenant"
    """Those of one tenant, of a job type."""

    def key_of(self, job_type: str, tenant: str) -> BreakerKey:
        """The breaker that decides about the jobs of this type and tenant."""
        return BreakerKey(job_type, tenant) if self is BreakerScope.TENANT else BreakerKey(job_type)

    def is_in_use(self, key: BreakerKey) -> bool:
        """Whether any job asks this breaker; those of tenants remain in the store when the scope has become TYPE."""
        return self.key_of(*key) == key


class BreakerState(StrEnum):
    """What a breaker does with the jobs of its type; the names of the contract's `Breaker.State`."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"
    FORCED_OPEN = "FORCED_OPEN"
    DISABLED = "DISABLED"
    METRICS_ONLY = "METRICS_ONLY"

    @property
    def refuses(self) -> bool:
        """Whether jobs are parked (all but a probe)."""
        return self in {BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.FORCED_OPEN}


class PermitKind(StrEnum):
    """Why a job was admitted."""

    NORMAL = "normal"
    PROBE = "probe"
    RAMP = "ramp"


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to run one job once. It must be settled with the run's outcome; an old epoch or wrong token is stale and has no effect.

    `token` is the fencing token of a probe (empty otherwise); a probe must be renewed every `lease_ms` / 3, or another worker gets it.
    `longest_ms` is how long the run may take, according to the caller; a probe's lease can be extended for at least that long.
    """

    key: BreakerKey
    kind: PermitKind
    epoch: int
    job_id: str
    token: str = ""
    lease_ms: int = 0
    longest_ms: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """The breaker does not let the job run."""

    key: BreakerKey
    state: BreakerState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A breaker at one moment, for people and for the contract's `Breaker`; fields without meaning in this state are None."""

    key: BreakerKey
    state: BreakerState
    epoch: int
    rev: int
    updated_at: int
    trips: int = 0
    opened_at: int | None = None
    probe_at: int | None = None
    cooldown_elapsed: bool = False
    cooldown_ms: int = 0
    reason_code: str = ""
    reason_count: int = 0
    reason_message: str = ""
    failures_in_row: int = 0
    failures_in_row_code: str = ""
    total_failures: int = 0
    recovering: bool = False
    rate: float | None = None
    """Runs per second that are admitted while it is recovering."""
    probe_job_id: str = ""
    forced_until: int | None = None
    forced_by: str = ""
    forced_why: str = ""
    would_have_tripped: int = 0
    degraded: bool = False
    now: int = field(default=0, compare=False)
    """When the snapshot was taken, by the clock of all other times in it: compute remaining times from it, not from a local clock."""


class Action(StrEnum):
    """The commands of an admin."""

    RESET = "reset"
    FORCE_OPEN = "force-open"
    DISABLE = "disable"
    METRICS_ONLY = "metrics-only"
    AUTO = "auto"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Command:
    """An admin's command; `duration_ms` bounds FORCE_OPEN (None: no end), `by` and `why` are shown to everybody."""

    action: Action
    duration_ms: int | None = None
    by: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """The parameters of the machine; the settings of the same names are documented in docs/configuration.md."""

    failure_threshold: int = 5
    cooldown_ms: int = 60_000
    failure_window_ms: int = 600_000
    trip_confirm_ms: int = 0
    distinct_jobs: int = 2
    ramp: bool = True
    max_cooldown_ms: int = 0
    """What the cooldown grows to while probes fail; it does not grow if this is not above it."""
    probe_lease_ms: int = 15_000
    probe_max_ms: int = 120_000
    """The longest total lease of a probe, unless its run may take longer (`Permit.longest_ms`)."""


ConfigOf = Callable[[BreakerKey], BreakerConfig]
"""The parameters in force for a breaker; asked at each decision, because they may change at any time."""

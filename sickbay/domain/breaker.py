"""The types of the circuit breaker: inputs and outputs of the machine (`machine.py`).

Pure. Times are milliseconds since the epoch, durations are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from sickbay.domain.job import DEFAULT_TENANT

DEPENDENCY: Final = "dependency:"
"""Begins the name of a dependency's breaker, where that of a job type has the type: no job type has a colon."""


class BreakerKey(NamedTuple):
    """Identifies a breaker. That of a job type, which all tenants share, has the tenant `default`.

    `job_type` is `dependency:<name>` for the breaker that all types with this dependency share.
    """

    job_type: str
    tenant: str = DEFAULT_TENANT

    @property
    def dependency(self) -> str:
        """The dependency whose breaker this is; empty for that of a job type."""
        return self.job_type.removeprefix(DEPENDENCY) if self.job_type.startswith(DEPENDENCY) else ""

    @property
    def name(self) -> str:
        """`<type>`, or `<tenant>/<type>` for a tenant other than `default`; the part of Redis keys after `breaker:`."""
        return self.job_type if self.tenant == DEFAULT_TENANT else f"{self.tenant}/{self.job_type}"


class BreakerRule(Protocol):
    """Which jobs share a breaker. Whoever needs to know which breaker decides about a job asks this, each time: it may change."""

    def key_of(self, job_type: str, tenant: str) -> BreakerKey:
        """The breaker that decides about the jobs of this type and tenant; that of a dependency decides about itself."""

    def is_in_use(self, key: BreakerKey) -> bool:
        """Whether any job asks this breaker; others remain in the store when the rule has changed."""

    def job_types(self, key: BreakerKey) -> Sequence[str]:
        """The types that share this breaker of a dependency, in order; none for the breaker of one type."""


class BreakerScope(StrEnum):
    """Whether tenants share a breaker: the rule without dependencies."""

    TYPE = "type"
    """All of a job type."""
    TENANT = "tenant"
    """Those of one tenant, of a job type."""

    def key_of(self, job_type: str, tenant: str) -> BreakerKey:
        """The breaker that decides about the jobs of this type and tenant."""
        return BreakerKey(job_type, tenant) if self is BreakerScope.TENANT else BreakerKey(job_type)

    def is_in_use(self, key: BreakerKey) -> bool:
        """Whether any job asks this breaker; those of tenants remain in the store when the scope has become TYPE."""
        return self is BreakerScope.TENANT or key.tenant == DEFAULT_TENANT

    def job_types(self, key: BreakerKey) -> Sequence[str]:  # noqa: ARG002 - of the protocol
        """None: there are no dependencies."""
        return ()


@dataclass(frozen=True, slots=True)
class DependencyRule:
    """Types with the same dependency share a breaker; `dependencies` returns that of each type that has one, and may change."""

    scope: BreakerScope
    dependencies: Callable[[], Mapping[str, str]]

    def key_of(self, job_type: str, tenant: str) -> BreakerKey:
        """The breaker of the type's dependency, or of the type if it has none."""
        dependency = self.dependencies().get(job_type)
        return self.scope.key_of(f"{DEPENDENCY}{dependency}" if dependency else job_type, tenant)

    def is_in_use(self, key: BreakerKey) -> bool:
        """Whether any job asks this breaker."""
        dependencies = self.dependencies()
        has_types = key.dependency in dependencies.values() if key.dependency else not dependencies.get(key.job_type)
        return has_types and self.scope.is_in_use(key)

    def job_types(self, key: BreakerKey) -> Sequence[str]:
        """The types with this dependency."""
        if not key.dependency:
            return ()
        return sorted(job_type for job_type, dependency in self.dependencies().items() if dependency == key.dependency)


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
    recent_runs: int = 0
    """With the policy `rate`: runs in the window, once one of them was bad."""
    recent_failure_rate: float | None = None
    """The share of them that failed or were slow, 0 to 1."""
    by_rate: bool = False
    """Whether the policy is `rate`: `reason_count` are bad runs then, whatever their code, and not failures in a row."""
    recovering: bool = False
    rate: float | None = None
    """Runs per second that are admitted while it is recovering."""
    probe_job_id: str = ""
    hanging_probes: int = 0
    """Earlier probes that took too long and may still run; the success of one still closes the breaker."""
    forced_until: int | None = None
    forced_by: str = ""
    forced_why: str = ""
    would_have_tripped: int = 0
    degraded: bool = False
    redacted: bool = False
    """Whether something of it was left out for a principal that does not see all tenants (`breaker_sharing.py`)."""
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
    rate: int = 0
    """Thousandths of the runs of the window that must be bad to open it (policy `rate`); 0: failures in a row do (`consecutive`)."""
    calls: int = 20
    """With fewer runs in the window it does not open."""
    window_ms: int = 60_000
    slow_ms: int = 0
    """A run that takes so long is bad, too; 0: however long it takes."""


ConfigOf = Callable[[BreakerKey], BreakerConfig]
"""The parameters in force for a breaker; asked at each decision, because they may change at any time."""

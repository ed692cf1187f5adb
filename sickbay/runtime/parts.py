"""What each service is made of: ports, whatever implements them. `backends.py` opens them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sickbay.domain.backend_status import BackendStatus
from sickbay.domain.breaker import BreakerRule, BreakerScope
from sickbay.domain.health import GRACE_S
from sickbay.domain.settings_status import SettingsFileStatus
from sickbay.ports import Breakers, BreakerView, Broker, Clock, DuplicateGuard, IdempotencyKeys, JobReader, LedgerWriter, QuarantineStore
from sickbay.ports.audit import AuditStore
from sickbay.ports.code_schedules import CodeSchedules
from sickbay.ports.incidents import IncidentNotices, IncidentStore, Webhook
from sickbay.ports.job_types import JobTypes
from sickbay.ports.limits import RateLimiter, WaitingCounts
from sickbay.ports.lost import Holds, Lost
from sickbay.ports.run_rates import RunRates
from sickbay.ports.schedule_counts import ScheduleStatistics
from sickbay.ports.scheduled_jobs import ScheduledJobs
from sickbay.ports.schedules import Schedules
from sickbay.ports.workers import WorkerRegistry
from sickbay.runtime.policies import Policies


def _no_file() -> None:
    """No settings file is read."""


def _never(_: Callable[[], None]) -> None:
    """The settings do not change."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every service needs. `ready` returns once all servers have answered; `system` is the name of the broker in traces.

    `breaker_scope` says which jobs share a breaker. `health_grace` is how many seconds a server may be unavailable before the health of the
    service reports it. `settings_file` returns how the settings file fares, None if the service reads none. `metrics_tenants` bounds the
    tenants with metrics of their own. `job_types` are the schemas of payloads, `code_schedules` the schedules in the code of workers; None
    for a Job API without REDIS_URL.
    """

    broker: Broker
    system: str = "sickbay"
    clock: Clock
    ready: Callable[[], Awaitable[None]]
    status: BackendStatus = field(default_factory=BackendStatus)
    breaker_scope: BreakerRule = BreakerScope.TYPE
    health_grace: float = GRACE_S
    settings_file: Callable[[], SettingsFileStatus | None] = _no_file
    job_types: JobTypes | None = None
    code_schedules: CodeSchedules | None = None
    metrics_tenants: int = 20


@dataclass(frozen=True, kw_only=True)
class JobApiParts(Common):
    """What the Job API needs. Payloads of up to `kept_bytes` are stored in the ledger, too.

    `circuits` are the breakers that it can see and `registry` the workers, None without REDIS_URL; `policies` say when a failed job runs
    again, and what is limited. `rate_limiter` is shared with other Job APIs if REDIS_URL is set; `waiting` is None without a ledger.
    """

    reader: JobReader
    rate_limiter: RateLimiter
    waiting: WaitingCounts | None = None
    keys: IdempotencyKeys
    holds: Holds
    kept_bytes: int = 0
    circuits: BreakerView | None = None
    registry: WorkerRegistry | None = None
    policies: Policies | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerParts(Common):
    """What a worker needs. `is_alone`: no other process can consume jobs from its queue.

    `run_rates` has the rates of runs that `policies` set, `circuits` is a view of the breakers. What handlers submit needs what a Job API
    needs for that: `keys` (without them nothing can be submitted), `rate_limiter`, `waiting` and `kept_bytes`.
    """

    breakers: Breakers
    circuits: BreakerView | None = None
    run_rates: RunRates | None = None
    workers: WorkerRegistry
    keys: IdempotencyKeys | None = None
    rate_limiter: RateLimiter | None = None
    waiting: WaitingCounts | None = None
    kept_bytes: int = 0
    duplicate_guard: DuplicateGuard
    policies: Policies | None = None
    is_alone: bool = False


@dataclass(frozen=True, kw_only=True)
class ControlPlaneParts(Common):
    """What the control plane needs; `webhook` is told of incidents if there is one, `waiting` counts waiting jobs for its metrics.

    Entries of `audit` are kept for `audit_retention_days` (0: for ever).
    A function given to `on_settings_change` is called whenever other settings are in force; `run_rates` has the rates of runs that
    `policies` set.
    """

    breakers: Breakers
    policies: Policies | None = None
    run_rates: RunRates | None = None
    workers: WorkerRegistry
    writer: LedgerWriter
    quarantine: QuarantineStore
    scheduled_jobs: ScheduledJobs
    schedule_statistics: ScheduleStatistics
    schedules: Schedules
    lost: Lost
    holds: Holds
    incidents: IncidentStore
    audit: AuditStore
    audit_retention_days: int = 365
    notices: IncidentNotices
    webhook: Webhook | None = None
    waiting: WaitingCounts | None = None
    on_settings_change: Callable[[Callable[[], None]], None] = _never


@dataclass(frozen=True, kw_only=True)
class Backends(JobApiParts, WorkerParts, ControlPlaneParts):
    """What all three need in one process."""

"""What a worker reports: its metrics, and the observers that are called for what happens to jobs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from sickbay.domain.health import Health
from sickbay.observer import Observer, Observers
from sickbay.runtime.parts import WorkerParts
from sickbay.runtime.settings import Settings
from sickbay.telemetry.backends import BackendStatusCollector, HealthCollector, PublishMetrics
from sickbay.telemetry.joblog import JobLog
from sickbay.telemetry.metrics import MetricsRegistry
from sickbay.telemetry.settings_file import SettingsFileCollector
from sickbay.telemetry.tracing import trace_observers
from worker.handlers import Handlers
from worker.metrics import JobMetrics, WorkerMetrics
from worker.runner import Runner
from worker.tenant_metrics import TenantMetrics

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Tracing


class Instruments(NamedTuple):
    """Those of one worker. `observer` is all of them together, the user's last."""

    metrics: MetricsRegistry
    jobs: JobMetrics
    tenants: TenantMetrics
    observer: Observer


def instruments(
    backends: WorkerParts,
    settings: Settings,
    *,
    health: Health,
    runner: Runner,
    handlers: Handlers,
    tracing: Tracing | None,
    observers: Sequence[Observer],
) -> Instruments:
    """Make those of a worker; `observers` are the user's."""
    metrics = MetricsRegistry("worker")
    registry = metrics.registry
    BackendStatusCollector(backends.status, registry)
    HealthCollector(health, registry)
    SettingsFileCollector(backends.settings_file, registry)
    WorkerMetrics(registry, runner=runner, job_types=handlers, concurrency=settings.concurrency, stale=backends.status.stale)
    tenants = TenantMetrics(registry, settings.metrics_tenants, time.time)
    jobs = JobMetrics(registry, handlers, time.time)
    every = [*trace_observers(tracing, backends.system), PublishMetrics(registry), jobs, tenants, JobLog(), *observers]
    return Instruments(metrics, jobs, tenants, Observers(every))

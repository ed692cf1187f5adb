"""Assembles the control plane: ledger ingester, healer, reconciler and the recorder of incidents, and the services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from controlplane.audit_ingest import AuditRetention
from controlplane.audit_service import AuditApi
from controlplane.breaker_service import BreakerApi
from controlplane.code_schedules import CodeScheduleReconciler
from controlplane.dispatcher import BY, Dispatcher
from controlplane.flow_metrics import (
    HeldBackCollector,
    IncidentMetrics,
    LedgerIngestMetrics,
    RateCollector,
    ReconcileMetrics,
    ReleaseMetrics,
    TransitionMetrics,
)
from controlplane.healer import Healer
from controlplane.incident_service import IncidentApi
from controlplane.incidents import IncidentRecorder
from controlplane.ledger_ingest import LedgerIngester
from controlplane.metrics import FleetMetrics
from controlplane.quarantine_service import QuarantineApi
from controlplane.reconcile import QuarantineReconciler
from controlplane.release import Releaser
from controlplane.requeue import Requeuer
from controlplane.rest.app import create_gateway
from controlplane.schedule_metrics import ScheduleCollector, ScheduledJobMetrics, ScheduleRunMetrics
from controlplane.schedule_service import ScheduleApi
from controlplane.scheduled_job_service import ScheduledJobApi
from controlplane.scheduler import Scheduler
from controlplane.tenant_metrics import WaitingMetrics
from controlplane.webhook_sender import WebhookSender
from controlplane.worker_metrics import WorkerMetrics
from controlplane.worker_service import WorkerApi
from sickbay.audit.v1.audit_service_pb2_grpc import AuditServiceStub, add_AuditServiceServicer_to_server
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub, add_BreakerServiceServicer_to_server
from sickbay.breakers.v1.incident_service_pb2_grpc import IncidentServiceStub, add_IncidentServiceServicer_to_server
from sickbay.concurrency.tasks import background, run_with_restarts
from sickbay.domain.health import Check, Health, checks_of
from sickbay.domain.job import JobEvent, JobState
from sickbay.fleet import FleetView
from sickbay.job_types.view import JobTypeView
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub, add_QuarantineServiceServicer_to_server
from sickbay.jobs.v1.scheduled_job_service_pb2_grpc import ScheduledJobServiceStub, add_ScheduledJobServiceServicer_to_server
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceStub, add_WorkerServiceServicer_to_server
from sickbay.observer import Observer, Observers
from sickbay.runtime.parts import ControlPlaneParts
from sickbay.schedules.v1.schedule_service_pb2_grpc import ScheduleServiceStub, add_ScheduleServiceServicer_to_server
from sickbay.server.audit.auditor import Auditor
from sickbay.server.endpoints import Address, Endpoints, serve_endpoints
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.server.service import Service
from sickbay.submission.lanes import LaneChoice
from sickbay.telemetry.backends import BackendStatusCollector, HealthCollector, PublishMetrics
from sickbay.telemetry.metrics import MetricsRegistry
from sickbay.telemetry.settings_file import SettingsFileCollector
from sickbay.telemetry.tracing import trace_observers
from sickbay.version import VERSION

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Traces


@asynccontextmanager
async def serve(
    backends: ControlPlaneParts, address: Address, traces: Traces | None = None, *, observers: Sequence[Observer] = ()
) -> AsyncIterator[Endpoints]:
    """Write the ledger, heal and serve until the context ends; `observers` are the user's."""
    metrics = MetricsRegistry("controlplane")
    broker, writer, clock = backends.broker, backends.writer, backends.clock
    tracing = traces.of("controlplane") if traces else None
    observer = Observers(
        [
            *trace_observers(tracing, backends.system),
            PublishMetrics(metrics.registry),
            LedgerIngestMetrics(metrics.registry, clock),
            ReleaseMetrics(metrics.registry),
            ScheduledJobMetrics(metrics.registry, clock),
            ScheduleRunMetrics(metrics.registry),
            ReconcileMetrics(metrics.registry),
            IncidentMetrics(metrics.registry),
            *observers,
        ]
    )
    workers = FleetView(backends.workers, broker)
    reconciler = QuarantineReconciler(broker, writer, clock, observer)
    healer = Healer(
        breakers=backends.breakers,
        quarantine=backends.quarantine,
        broker=broker,
        releaser=Releaser(broker, backends.quarantine, by="healer", observer=observer, fleet=workers),
        on_released=reconciler.wake,
        clock=clock,
        scope=backends.breaker_scope,
        fleet=workers,
        rates=backends.run_rates,
        rate_of=backends.policies.run_rate if backends.policies is not None else lambda _: None,
    )

    backends.on_settings_change(healer.wake)  # types may ask other breakers now, which release their parked jobs
    sender = WebhookSender(backends.notices, backends.webhook, observer) if backends.webhook is not None else None
    senders = [sender.run] if sender is not None else []
    lanes = LaneChoice(workers)
    dispatcher = Dispatcher(
        backends.scheduled_jobs,
        broker,
        Releaser(broker, backends.quarantine, by=BY, observer=observer, fleet=workers),
        lanes,
    )
    scheduler = Scheduler(backends.schedules, backends.breakers, backends.breaker_scope, on_fired=dispatcher.wake, observer=observer)
    in_code = CodeScheduleReconciler(backends.schedules, backends.code_schedules, workers, on_change=scheduler.wake)
    recorder = IncidentRecorder(
        backends.breakers,
        backends.incidents,
        scope=backends.breaker_scope,
        observer=Observers([observer, sender]) if sender is not None else observer,
    )

    def on_ingested(events: Sequence[JobEvent]) -> None:
        healer.observe_events(events)
        dispatcher.observe_events(events)
        recorder.observe_events(events)
        if any(event.state is JobState.CANCELLED for event in events):
            reconciler.wake()

    ingester = LedgerIngester(broker, writer, clock, on_ingested, observer, audit=backends.audit)
    retention = AuditRetention(backends.audit, clock, backends.audit_retention_days)
    transitions = TransitionMetrics(backends.breakers, metrics.registry)
    checks = [
        *checks_of(backends.status, "broker", "ledger"),
        Check("keeper", ingester.trouble, needed=True),
        Check("states", ingester.lag),
    ]
    health = Health(checks, grace_s=backends.health_grace)
    BackendStatusCollector(backends.status, metrics.registry)
    HealthCollector(health, metrics.registry)
    SettingsFileCollector(backends.settings_file, metrics.registry)
    HeldBackCollector(healer.release_backoff.held_back, metrics.registry)
    RateCollector(lambda: healer.rates.waiting, metrics.registry)
    fleet = FleetMetrics(
        metrics.registry,
        breakers=backends.breakers,
        broker=broker,
        ledger=writer,
        quarantine=backends.quarantine,
        lost=backends.lost,
        incidents=backends.incidents,
        clock=clock,
        scope=backends.breaker_scope,
        at_rates=lambda: healer.rates.waiting,
        pools=workers.pools,
    )
    live = WorkerMetrics(metrics.registry, fleet=workers, waiting=fleet.waiting_types)
    waiting = WaitingMetrics(metrics.registry, counts=backends.waiting, limit=backends.metrics_tenants)
    later = ScheduleCollector(
        metrics.registry, jobs=backends.scheduled_jobs, schedules=backends.schedule_statistics, orphans=lambda: in_code.orphans
    )
    metrics.before_scrape = lambda: _in_order(fleet.refresh, live.refresh, waiting.refresh, later.refresh)
    releaser = Releaser(broker, backends.quarantine, by="people", observer=observer, fleet=workers)
    requeuer = Requeuer(
        lost=backends.lost,
        holds=backends.holds,
        broker=broker,
        releaser=releaser,
        is_behind=lambda: ingester.is_busy,
        clock=clock,
        fleet=workers,
    )
    breaker_api = BreakerApi(
        backends.breakers,
        broker,
        writer,
        clock,
        healer.release_backoff.held_back,
        scope=backends.breaker_scope,
        parked=backends.quarantine.parked,
        at_rates=lambda: healer.rates.waiting,
        fleet=lambda: workers.seen,
        pools=workers.pools,
    )
    types = JobTypeView(backends.job_types, backends.workers)
    quarantine_api = QuarantineApi(
        quarantine=backends.quarantine,
        releaser=releaser,
        requeuer=requeuer,
        on_released=reconciler.wake,
        clock=clock,
        types=types,
    )
    scheduled_job_api = ScheduledJobApi(
        jobs=backends.scheduled_jobs, releaser=releaser, lanes=lanes, on_changed=dispatcher.wake, clock=clock, types=types
    )
    incident_api = IncidentApi(backends.incidents, backends.breaker_scope)
    schedule_api = ScheduleApi(
        backends.schedules,
        is_orphaned=in_code.is_orphaned,
        may_be_in_code=in_code.may_be_in_code,
        on_change=scheduler.wake,
        on_submitted=dispatcher.wake,
        types=types,
    )
    services = [
        Service("sickbay.breakers.v1.BreakerService", add_BreakerServiceServicer_to_server, breaker_api),
        Service("sickbay.breakers.v1.IncidentService", add_IncidentServiceServicer_to_server, incident_api),
        Service("sickbay.jobs.v1.QuarantineService", add_QuarantineServiceServicer_to_server, quarantine_api),
        Service("sickbay.jobs.v1.ScheduledJobService", add_ScheduledJobServiceServicer_to_server, scheduled_job_api),
        Service("sickbay.audit.v1.AuditService", add_AuditServiceServicer_to_server, AuditApi(backends.audit)),
        Service("sickbay.jobs.v1.WorkerService", add_WorkerServiceServicer_to_server, WorkerApi(backends.workers)),
        Service("sickbay.schedules.v1.ScheduleService", add_ScheduleServiceServicer_to_server, schedule_api),
    ]
    async with (
        _ingesting(ingester),
        background(ingester.prune, healer.run, reconciler.run, transitions.run, recorder.run, retention.run, *senders),
        background(dispatcher.run, scheduler.run, scheduler.prune, in_code.run),
        lanes.detached,
        breaker_api.detached,
        incident_api.detached,
        quarantine_api.detached,
        scheduled_job_api.detached,
        schedule_api.detached,
        serve_endpoints(
            services,
            lambda channel, health: create_gateway(
                BreakerServiceStub(channel),
                QuarantineServiceStub(channel),
                health,
                metrics,
                VERSION,
                incidents=IncidentServiceStub(channel),
                scheduled_jobs=ScheduledJobServiceStub(channel),
                workers=WorkerServiceStub(channel),
                audit=AuditServiceStub(channel),
                schedules=ScheduleServiceStub(channel),
                tracing=tracing,
            ),
            address,
            registry=metrics.registry,
            health=health,
            name="control plane",
            call_observers=[CallMeter(metrics.registry)],
            auditor=Auditor(backends.broker, backends.clock, metrics.registry),
            tracing=tracing,
        ) as endpoints,
    ):
        yield endpoints


async def _in_order(*steps: Callable[[], Awaitable[None]]) -> None:
    for step in steps:
        await step()


@asynccontextmanager
async def _ingesting(ingester: LedgerIngester) -> AsyncIterator[None]:
    task = asyncio.create_task(run_with_restarts(ingester.run), name="ledger ingester")
    try:
        yield
    finally:
        await ingester.stop()
        await task

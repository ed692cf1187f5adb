"""Puts the control plane together: keeper, healer and sweep beside the two services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from controlplane.breaker_service import BreakerApi
from controlplane.healer import Healer
from controlplane.ledger_ingest import LedgerIngester
from controlplane.metered import HeldBack, KeeperMetrics, MeteredWriter, ReleaseMetrics, SweepMetrics, Transitions
from controlplane.metrics import FleetMetrics
from controlplane.quarantine_service import QuarantineApi
from controlplane.reconcile import QuarantineReconciler
from controlplane.release import Releaser, Releases
from controlplane.requeue import Requeuer
from controlplane.rest.app import create_gateway
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub, add_BreakerServiceServicer_to_server
from sickbay.concurrency.tasks import background, begun_again
from sickbay.domain.health import Check, Health, checks_of
from sickbay.domain.job import JobEvent, JobState
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub, add_QuarantineServiceServicer_to_server
from sickbay.runtime.backends import ControlPlaneParts
from sickbay.server.endpoints import Address, Endpoints, serve_endpoints
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.server.service import Service
from sickbay.telemetry.backends import BackendStatusCollector, HealthCollector, MeteredBroker
from sickbay.telemetry.metrics import MetricsRegistry
from sickbay.telemetry.tracing import traced
from sickbay.version import VERSION

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Traces, Tracing


@asynccontextmanager
async def serve(backends: ControlPlaneParts, address: Address, traces: Traces | None = None) -> AsyncIterator[Endpoints]:
    """Keep the ledger, heal and serve until the context ends."""
    told = MetricsRegistry("controlplane")
    BackendStatusCollector(backends.vitals, told.registry)
    tracing = traces.of("controlplane") if traces else None
    broker = traced(MeteredBroker(backends.broker, told.registry), tracing, backends.system)
    writer = MeteredWriter(backends.writer, told.registry)
    fleet = FleetMetrics(
        told.registry,
        breakers=backends.breakers,
        broker=broker,
        ledger=writer,
        wards=backends.wards,
        lost=backends.lost,
        clock=backends.clock,
    )
    told.before = fleet.refresh
    transitions = Transitions(backends.breakers, told.registry)
    lag = KeeperMetrics(told.registry, backends.clock)
    releases = ReleaseMetrics(told.registry)
    releaser = Releaser(broker, backends.wards)
    sweep = QuarantineReconciler(broker, writer, backends.clock, SweepMetrics(told.registry).heard)
    healer = Healer(
        breakers=backends.breakers,
        wards=backends.wards,
        broker=broker,
        releaser=_traced_releaser(releases.around(releaser, "healer"), tracing, "healer"),
        on_released=sweep.nudge,
        clock=backends.clock,
    )
    HeldBack(healer.damping.held_back, told.registry)

    def hear(events: Sequence[JobEvent]) -> None:
        lag.heard(events)
        healer.hear(events)
        if any(event.state is JobState.CANCELLED for event in events):
            sweep.nudge()

    keeper = LedgerIngester(broker, writer, backends.clock, hear)
    checks = [*checks_of(backends.vitals, "broker", "ledger"), Check("keeper", keeper.trouble, needed=True), Check("states", keeper.lag)]
    health = Health(checks, grace_s=backends.health_grace)
    HealthCollector(health, told.registry)
    by_people = _traced_releaser(releases.around(releaser, "people"), tracing, "people")
    breaker_api = BreakerApi(backends.breakers, broker, writer, backends.clock, healer.damping.held_back)
    requeuer = Requeuer(
        lost=backends.lost, holds=backends.holds, broker=broker, releaser=by_people, is_behind=lambda: keeper.is_busy, clock=backends.clock
    )
    quarantine_api = QuarantineApi(
        wards=backends.wards, releaser=by_people, requeuer=requeuer, on_released=sweep.nudge, clock=backends.clock
    )
    services = [
        Service("sickbay.breakers.v1.BreakerService", add_BreakerServiceServicer_to_server, breaker_api),
        Service("sickbay.jobs.v1.QuarantineService", add_QuarantineServiceServicer_to_server, quarantine_api),
    ]
    async with (
        _keeping(keeper),
        background(keeper.prune, healer.run, sweep.run, transitions.run),
        breaker_api.detached,
        quarantine_api.detached,
        serve_endpoints(
            services,
            lambda channel, health: create_gateway(
                BreakerServiceStub(channel), QuarantineServiceStub(channel), health, told, VERSION, tracing=tracing
            ),
            address,
            registry=told.registry,
            health=health,
            name="control plane",
            around=[CallMeter(told.registry)],
            tracing=tracing,
        ) as doors,
    ):
        yield doors


def _traced_releaser(releaser: Releases, tracing: Tracing | None, by: str) -> Releases:
    if tracing is None:
        return releaser
    from controlplane.traced import TracedReleaser  # noqa: PLC0415 - see `tracing.py`

    return TracedReleaser(releaser, tracing.tracer, by)


@asynccontextmanager
async def _keeping(keeper: LedgerIngester) -> AsyncIterator[None]:
    task = asyncio.create_task(begun_again(keeper.run), name="keeper")
    try:
        yield
    finally:
        await keeper.stop()
        await task

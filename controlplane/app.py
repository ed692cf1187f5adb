"""Puts the control plane together: keeper, healer and sweep beside the two services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from controlplane.breaker_service import BreakerApi
from controlplane.healer import Healer
from controlplane.keeper import Keeper
from controlplane.metered import KeeperMetrics, MeteredWriter, ReleaseMetrics, SweepMetrics, Transitions
from controlplane.metrics import FleetMetrics
from controlplane.quarantine_service import QuarantineApi
from controlplane.release import Releaser, Releases
from controlplane.rest import create_gateway
from controlplane.sweep import Sweep
from gen.sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub, add_BreakerServiceServicer_to_server
from gen.sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub, add_QuarantineServiceServicer_to_server
from sickbay.backends import ControlPlaneParts
from sickbay.job import Event, State
from sickbay.rpc.doors import Address, Doors, open_doors
from sickbay.rpc.metered import CallMeter
from sickbay.rpc.service import Service
from sickbay.tasks import background
from sickbay.telemetry.backends import MeteredBroker, VitalsCollector
from sickbay.telemetry.metrics import Exposition
from sickbay.telemetry.tracing import traced
from sickbay.version import VERSION

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Traces, Tracing


@asynccontextmanager
async def serve(backends: ControlPlaneParts, address: Address, traces: Traces | None = None) -> AsyncIterator[Doors]:
    """Keep the ledger, heal and serve until the context ends."""
    told = Exposition("controlplane")
    VitalsCollector(backends.vitals, told.registry)
    tracing = traces.of("controlplane") if traces else None
    broker = traced(MeteredBroker(backends.broker, told.registry), tracing, backends.system)
    writer = MeteredWriter(backends.writer, told.registry)
    fleet = FleetMetrics(told.registry, breakers=backends.breakers, broker=broker, ledger=writer, wards=backends.wards)
    told.before = fleet.refresh
    transitions = Transitions(backends.breakers, told.registry)
    lag = KeeperMetrics(told.registry, backends.clock)
    releases = ReleaseMetrics(told.registry)
    releaser = Releaser(broker, backends.wards)
    sweep = Sweep(broker, writer, backends.clock, SweepMetrics(told.registry).heard)
    healer = Healer(
        breakers=backends.breakers,
        wards=backends.wards,
        broker=broker,
        releaser=_traced_releaser(releases.around(releaser, "healer"), tracing, "healer"),
        on_departure=sweep.nudge,
        clock=backends.clock,
    )

    def hear(events: Sequence[Event]) -> None:
        lag.heard(events)
        if any(event.state is State.PARKED for event in events):
            healer.nudge()
        if any(event.state is State.CANCELLED for event in events):
            sweep.nudge()

    keeper = Keeper(broker, writer, backends.clock, hear)
    by_people = _traced_releaser(releases.around(releaser, "people"), tracing, "people")
    breaker_api = BreakerApi(backends.breakers, broker, writer, backends.clock)
    quarantine_api = QuarantineApi(backends.wards, by_people, sweep.nudge, backends.clock)
    services = [
        Service("sickbay.breakers.v1.BreakerService", add_BreakerServiceServicer_to_server, breaker_api),
        Service("sickbay.jobs.v1.QuarantineService", add_QuarantineServiceServicer_to_server, quarantine_api),
    ]
    async with (
        _keeping(keeper),
        background(keeper.prune(), healer.run(), sweep.run(), transitions.run()),
        open_doors(
            services,
            lambda channel, health: create_gateway(
                BreakerServiceStub(channel), QuarantineServiceStub(channel), health, told, VERSION, tracing=tracing
            ),
            address,
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
async def _keeping(keeper: Keeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run(), name="keeper")
    try:
        yield
    finally:
        await keeper.stop()
        await task

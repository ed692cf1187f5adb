"""The two endpoints of a service, gRPC and REST, with the same servicers and interceptors."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import grpc
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from sickbay.concurrency.tasks import background
from sickbay.domain.health import HealthState
from sickbay.domain.limits import HttpLimits, Limits
from sickbay.ports.tls import Certificates
from sickbay.server.access.control import Access, OnRefused
from sickbay.server.access.interceptor import AccessInterceptor
from sickbay.server.access.refusals import Refusals, RefusedCalls
from sickbay.server.access.rest import control_access
from sickbay.server.audit.auditor import Auditor
from sickbay.server.audit.interceptor import AuditInterceptor
from sickbay.server.grpc.meter import GrpcMeter, Reason
from sickbay.server.grpc.server import GrpcServer
from sickbay.server.health import Health, HealthWatch, details
from sickbay.server.http.server import RestServer
from sickbay.server.inprocess.channel import InProcessChannel
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.server.interceptors.observe import CallObserver, ObserveInterceptor
from sickbay.server.listen import is_loopback
from sickbay.server.rest.cors import allow_origins
from sickbay.server.rest.guard import allow_hosts
from sickbay.server.rest.sse import share_watches
from sickbay.server.service import Service
from sickbay.server.watches import Watches
from sickbay.system.hostnames import hosts_for

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Tracing

HEALTH_CONNECTIONS: Final = 64
"""Connections of the port for probes."""

log = logging.getLogger("sickbay")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens, its limits, and who may call; port 0 uses a free one.

    `rest_hint` and `grpc_hint` say how to choose another port, `host_hint` how to listen on this machine only.
    """

    host: str
    rest_port: int
    grpc_port: int
    rest_hint: str = "choose another with PORT"
    grpc_hint: str = "choose another with GRPC_PORT"
    host_hint: str = "BIND_HOST=127.0.0.1"
    limits: Limits = field(default_factory=Limits)
    allowed_hosts: Sequence[str] = ()
    """Additional host names that are accepted over HTTP (`hostnames.allowed_hosts`)."""
    http_limits: HttpLimits = field(default_factory=HttpLimits)
    cors_origins: Collection[str] = ()
    """Origins whose web pages may call over HTTP (`origins.cors_origins`)."""
    access: Access | None = None
    """Who may call; None: everybody."""
    tls: Certificates | None = None
    """The certificate of both ports; None: no TLS."""
    health_port: int | None = None
    """Where gRPC's health alone answers, never with TLS; None: nowhere else."""


class Endpoints:
    """The open endpoints of a service."""

    def __init__(self, grpc: GrpcServer, rest: RestServer, health: Health, watch: HealthWatch) -> None:
        """Both are serving; `watch` reports the health over gRPC."""
        self._grpc = grpc
        self._rest = rest
        self._health = health
        self._watch = watch

    @property
    def grpc_port(self) -> int:
        """The port that gRPC listens on."""
        return self._grpc.port

    @property
    def rest_port(self) -> int:
        """The port that HTTP listens on."""
        return self._rest.port

    async def serving(self) -> None:
        """Report SERVING to health checks."""
        await self._watch.look()  # backends that have just become available count at once, not only after the grace
        self._health.begin()
        await self._watch.look()
        log.info("ready: HTTP on port %d, gRPC on port %d", self.rest_port, self.grpc_port)

    async def not_serving(self) -> None:
        """Report NOT_SERVING to health checks, and continue to serve requests."""
        self._health.end()
        await self._watch.look()


@asynccontextmanager
async def serve_endpoints(
    services: Sequence[Service],
    gateway: Callable[[InProcessChannel, Health], FastAPI],
    address: Address,
    *,
    registry: CollectorRegistry,
    health: Health,
    name: str,
    call_observers: Sequence[CallObserver] = (),
    tracing: Tracing | None = None,
    auditor: Auditor | None = None,
) -> AsyncIterator[Endpoints]:
    """Serve until the context ends, at first with health NOT_SERVING; `gateway` creates the REST application from a channel.

    `health` is checked from now on; `name` is the name of the service in the log.

    `call_observers` wrap every call over gRPC or REST, the first outermost; with `tracing` every call has a span, too. Rejected requests
    are counted in `registry`. `auditor` writes down actions and refused calls.
    """
    interceptors: list[grpc.aio.ServerInterceptor] = [ObserveInterceptor(one) for one in (*_tracers(tracing), *call_observers)]
    if auditor is not None:
        interceptors.insert(0, AuditInterceptor(auditor, has_access=address.access is not None))
    listeners: list[OnRefused] = [
        Refusals(registry),
        *_meters(call_observers, services),
        *([auditor.refused] if auditor is not None else []),
    ]
    access = None if address.access is None else address.access.at_port(*listeners)
    guard = None if access is None else AccessInterceptor(access)
    if guard is not None:
        interceptors.insert(0, guard)
    channel = InProcessChannel(services, interceptors)
    app = gateway(channel, health)
    allow_hosts(app, hosts_for(address.host, address.allowed_hosts, on_loopback=is_loopback(address.host)))
    allow_origins(app, address.cors_origins)
    if access is not None:
        control_access(app, access)
    meter = GrpcMeter(registry)
    watches = Watches(address.limits.watches, address.limits.watches_per_peer, lambda: meter.count_refusal(Reason.WATCHES))
    share_watches(app, watches)
    async with (
        auditor.open() if auditor is not None else nullcontext(),
        GrpcServer(
            services,
            host=address.host,
            port=address.grpc_port,
            hint=address.grpc_hint,
            limits=address.limits,
            watches=watches,
            meter=meter,
            interceptors=interceptors,
            admit=None if guard is None else guard.admit,
            serving=False,
            details=lambda: details(health.state),
            tls=address.tls,
        ) as grpc,
        RestServer(
            app,
            host=address.host,
            port=address.rest_port,
            hint=address.rest_hint,
            limits=address.http_limits,
            registry=registry,
            tls=address.tls,
        ) as rest,
        _health_port(grpc, address),
    ):
        _warn_if_exposed(address, rest.port, grpc.port)
        _warn_of_pages(address)
        watch = HealthWatch(health, name, partial(_show, grpc))
        async with background(watch.run):
            yield Endpoints(grpc, rest, health, watch)


@asynccontextmanager
async def _health_port(grpc: GrpcServer, address: Address) -> AsyncIterator[None]:
    if address.health_port is None:
        yield
        return
    few = min(HEALTH_CONNECTIONS, address.limits.connections)
    limits = replace(address.limits, connections=few, connections_per_peer=few, watches=few, watches_per_peer=few)
    hint = "choose another with HEALTH_PORT"
    async with GrpcServer([], host=address.host, port=address.health_port, hint=hint, limits=limits, health_of=grpc) as alone:
        log.info("health alone, without TLS: gRPC on port %d", alone.port)
        yield


async def _show(grpc: GrpcServer, state: HealthState) -> None:
    await grpc.set_serving(state.serving)
    await grpc.set_ready(state.ready)


def _warn_if_exposed(address: Address, rest_port: int, grpc_port: int) -> None:
    if address.access is None and not is_loopback(address.host):
        log.warning(
            "no access control: anyone %s port %d (HTTP) or %d (gRPC) on %s can control this service; set AUTH=required"
            " (docs/security.md), or listen on this machine alone (%s)",
            "who can reach" if address.tls is None or address.tls.current.client_ca is None else "with a client certificate who can reach",
            rest_port,
            grpc_port,
            address.host,
            address.host_hint,
        )


def _warn_of_pages(address: Address) -> None:
    if address.access is None and address.cors_origins:
        log.warning(
            "no access control, and CORS_ORIGINS is set: every browser that shows a page of %s can control this service; set AUTH=required",
            ", ".join(sorted(address.cors_origins)),
        )


def _meters(observers: Sequence[CallObserver], services: Sequence[Service]) -> Sequence[RefusedCalls]:
    names = {service.name for service in services}
    return [RefusedCalls(one, names) for one in observers if isinstance(one, CallMeter)]


def _tracers(tracing: Tracing | None) -> Sequence[CallObserver]:
    if tracing is None:
        return ()
    from sickbay.server.interceptors.traces import CallTracer  # noqa: PLC0415 - see `tracing.py`

    return (CallTracer(tracing.tracer),)

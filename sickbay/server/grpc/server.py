"""A gRPC server with health and reflection, one per service process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from sickbay.domain.errors import SettingsError
from sickbay.domain.limits import Limits
from sickbay.ports.tls import Certificates
from sickbay.server.grpc.connection_limiter import ConnectionLimiter
from sickbay.server.grpc.guard import Admit, CallGuard
from sickbay.server.grpc.meter import GrpcMeter
from sickbay.server.grpc.rejections import CORE_FACTOR
from sickbay.server.grpc.unreadable import ReadableInterceptor
from sickbay.server.interceptors.closing import ClosingInterceptor
from sickbay.server.interceptors.errors import ErrorInterceptor
from sickbay.server.listen import bracketed, check
from sickbay.server.service import HEALTH_DETAILS, Service
from sickbay.server.tls import server_credentials
from sickbay.server.watches import Watches
from sickbay.system.forks import keep_port

LIVENESS: Final = "liveness"
"""Health's name for "this process answers": SERVING from the start to the stop, also while it waits for its servers or drains.

Use this one to decide about restarts. The others say whether to send traffic; a restart does not help a process that waits.
"""
CORE_LATER_S: Final = 5.0
"""Core's own limit of the handshake comes this much later: what it closes is neither counted nor logged."""
PING_STRIKES: Final = 2
"""Pings of a client that may come too early; the next one ends its connection."""
READINESS: Final = "readiness"
"""Health's name for "send traffic here": SERVING once all servers have answered, until the end; see `sickbay/domain/health.py`."""
GRACE: Final = 3.0
"""Seconds that running calls get on shutdown; they need milliseconds."""

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a port in use must be an error, not a second server that gets half of the calls
    ("grpc.keepalive_permit_without_calls", 1),  # pings, theirs and ours, are allowed on idle connections, too
)


def _bounds(limits: Limits) -> tuple[tuple[str, int], ...]:
    """The limits that grpc's core applies; `guard.py` and `connection_limiter.py` apply the others, and a lower limit of connections."""
    return (
        ("grpc.max_receive_message_length", CORE_FACTOR * limits.message_bytes),
        ("grpc.max_metadata_size", CORE_FACTOR * limits.metadata_bytes),  # between the two it would reject some calls and accept others
        ("grpc.absolute_max_metadata_size", CORE_FACTOR * limits.metadata_bytes),
        ("grpc.keepalive_time_ms", _ms(limits.keepalive_s)),
        ("grpc.keepalive_timeout_ms", _ms(limits.keepalive_timeout_s)),  # becomes TCP_USER_TIMEOUT: for machines that are gone
        ("grpc.http2.ping_timeout_ms", _ms(limits.keepalive_timeout_s)),  # for clients that hang; core's default is a minute
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(limits.ping_interval_s)),
        ("grpc.max_concurrent_streams", limits.streams),
        ("grpc.max_connection_idle_ms", _ms(limits.idle_s)),
        ("grpc.server_handshake_timeout_ms", _ms(limits.handshake_s + CORE_LATER_S)),
        ("grpc.http2.settings_timeout", _ms(limits.handshake_s + CORE_LATER_S)),
        ("grpc.max_allowed_incoming_connections", limits.connections + limits.connections // 4 + 1),
        ("grpc.http2.max_requests_per_read", 1),  # a flood of calls on one connection does not block others
        ("grpc.http2.max_ping_strikes", PING_STRIKES),
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class _Health(health.aio.HealthServicer):  # type: ignore[misc]  # it ships no types
    """Adds details to the status."""

    def __init__(self, details: Callable[[], bytes]) -> None:
        super().__init__()
        self._details = details

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:  # noqa: N802 - gRPC's name
        context.set_trailing_metadata(((HEALTH_DETAILS, self._details()),))
        return await super().Check(request, context)


class GrpcServer:
    """Serves `services` inside `async with`; with `port` 0 it uses a free one, and sets `port` to it.

    `watches` are limited together with those of REST, `meter` counts rejections, `admit` decides about calls before their message.
    Interceptors run in the order given, inside the one that translates errors. Health (for every service, and for "" as the whole)
    and `READINESS` are SERVING from the start unless `serving` is False; `LIVENESS` always is. `hint` ends the error about a port in
    use; `details` is sent with every health response. With `health_of` this port answers the health of that server and nothing else.
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        host: str,
        port: int,
        hint: str,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        watches: Watches | None = None,
        meter: GrpcMeter | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        admit: Admit | None = None,
        serving: bool = True,
        details: Callable[[], bytes] = bytes,
        tls: Certificates | None = None,
        health_of: GrpcServer | None = None,
    ) -> None:
        """Opens nothing yet."""
        self.host, self.port, self._hint = host, port, hint
        self._services, self._serving = tuple(services), serving
        self._limits, meter = limits, meter or GrpcMeter(CollectorRegistry())
        watches = Watches(limits.watches, limits.watches_per_peer) if watches is None else watches
        guard = CallGuard(limits, watches, meter, admit)
        self._limiter = ConnectionLimiter(limits, guard, meter, is_encrypted=tls is not None)
        meter.observe(connections=lambda: len(self._limiter), calls=lambda: guard.calls, watches=lambda: len(watches))
        self._closing = asyncio.Event()
        self._interceptors = (guard, ErrorInterceptor(), ClosingInterceptor(self._closing), *interceptors, ReadableInterceptor())
        self._tls, self._is_alone = tls, health_of is None
        self._health: _Health = _Health(details) if health_of is None else health_of._health  # noqa: SLF001 - one of its own kind
        self._server: grpc.aio.Server | None = None
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Open the port and serve; SettingsError if it is in use."""
        if self.port:
            check(self.host, self.port, self._hint)
        server = grpc.aio.server(interceptors=self._interceptors, options=(*_OPTIONS, *_bounds(self._limits)))
        self._register(server)
        try:
            where = f"{bracketed(self.host)}:{self.port}"
            self.port = (
                server.add_insecure_port(where) if self._tls is None else server.add_secure_port(where, server_credentials(self._tls))
            )
        except RuntimeError:
            raise SettingsError(f"port {self.port} is already in use on {self.host}; {self._hint}") from None
        keep_port(self.port)
        if self._is_alone:
            await self.set_serving(self._serving)
            await self.set_ready(self._serving)
            await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await server.start()
        self._server = server
        self._looking = asyncio.create_task(self._limiter.run(self.port), name=f"connection limiter :{self.port}")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop with the usual grace."""
        await self.stop()

    async def set_serving(self, serving: bool) -> None:  # noqa: FBT001 - the only parameter
        """Report the health of the services."""
        for name in ("", *(service.name for service in self._services)):
            await self._health.set(name, _status(serving))

    async def set_ready(self, ready: bool) -> None:  # noqa: FBT001 - the only parameter
        """Report the readiness for traffic."""
        await self._health.set(READINESS, _status(ready))

    async def stop(self, grace: float = GRACE) -> None:
        """Report NOT_SERVING, reject new calls, end streams, and give running calls `grace` seconds. Calling it twice is harmless."""
        server, self._server = self._server, None
        if server is None:
            return
        self._closing.set()
        self._limiter.end()
        if self._is_alone:
            await self._health.enter_graceful_shutdown()
        await server.stop(grace)
        if self._looking is not None:
            self._looking.cancel()

    def _register(self, server: grpc.aio.Server) -> None:
        for service in self._services:
            service.add(service.servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if not self._is_alone:
            return
        names = [service.name for service in self._services]
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)


def _status(serving: bool) -> health_pb2.HealthCheckResponse.ServingStatus:  # noqa: FBT001 - as above
    statuses = health_pb2.HealthCheckResponse.ServingStatus
    return statuses.SERVING if serving else statuses.NOT_SERVING

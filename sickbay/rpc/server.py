"""A gRPC server with health and reflection, one per service process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from sickbay.errors import SettingsError
from sickbay.rpc.closing import ClosingInterceptor
from sickbay.rpc.interceptors import ErrorInterceptor
from sickbay.rpc.listen import bracketed, check
from sickbay.rpc.service import Service

MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""Room for a batch; one payload is bounded by 1 MiB elsewhere."""
LIVENESS: Final = "liveness"
"""Health's name for "this process answers": SERVING from the start to the stop, also while it waits for its servers or drains.

What restarts a process must ask this one. The others say whether to send traffic, and restarting does not help who waits.
"""
GRACE: Final = 3.0
"""Seconds that running calls get when the server stops; they need milliseconds."""

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a taken port must be an error, not a second server that gets half of the calls
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.keepalive_time_ms", 60_000),  # notices watchers whose machine vanished
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),  # clients may keep idle connections alive, too
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class GrpcServer:
    """Serves `services` between `async with`; `port` 0 takes a free one, and `port` tells which once entered.

    Interceptors run in the order given, inside the one that translates errors. Health (for every service and for "" as the whole)
    is SERVING from the start unless `serving` is False; `LIVENESS` always is. `hint` ends the sentence about a taken port.
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        host: str,
        port: int,
        hint: str,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        serving: bool = True,
    ) -> None:
        """Take everything; nothing is opened yet."""
        self.host, self.port, self._hint = host, port, hint
        self._services, self._serving = tuple(services), serving
        self._closing = asyncio.Event()
        self._interceptors = (ErrorInterceptor(), ClosingInterceptor(self._closing), *interceptors)
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        """Open the port and serve; SettingsError if it is taken."""
        if self.port:
            check(self.host, self.port, self._hint)
        server = grpc.aio.server(interceptors=self._interceptors, options=_OPTIONS)
        self._register(server)
        try:
            self.port = server.add_insecure_port(f"{bracketed(self.host)}:{self.port}")
        except RuntimeError:
            raise SettingsError(f"port {self.port} is taken on {self.host}; {self._hint}") from None
        await self.set_serving(self._serving)
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await server.start()
        self._server = server
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop with the usual grace."""
        await self.stop()

    async def set_serving(self, serving: bool) -> None:  # noqa: FBT001 - the one thing the verb is about
        """Tell health checks whether to send traffic here."""
        statuses = health_pb2.HealthCheckResponse.ServingStatus
        status = statuses.SERVING if serving else statuses.NOT_SERVING
        for name in ("", *(service.name for service in self._services)):
            await self._health.set(name, status)

    async def stop(self, grace: float = GRACE) -> None:
        """Say NOT_SERVING, refuse new calls, end streams, and give running calls `grace` seconds. Twice is harmless."""
        server, self._server = self._server, None
        if server is None:
            return
        self._closing.set()
        await self._health.enter_graceful_shutdown()
        await server.stop(grace)

    def _register(self, server: grpc.aio.Server) -> None:
        for service in self._services:
            service.add(service.servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [service.name for service in self._services]
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)

"""The two doors of a service, gRPC and REST, on the same servicers and the same interceptors."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI

from sickbay.rpc.around import Around, AroundInterceptor
from sickbay.rpc.channel import InProcessChannel
from sickbay.rpc.health import Health
from sickbay.rpc.rest_server import RestServer
from sickbay.rpc.server import GrpcServer
from sickbay.rpc.service import Service

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Tracing

log = logging.getLogger("sickbay")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens; port 0 takes a free one. `rest_hint` and `grpc_hint` tell how to choose another port."""

    host: str
    rest_port: int
    grpc_port: int
    rest_hint: str = "choose another with PORT"
    grpc_hint: str = "choose another with GRPC_PORT"


class Doors:
    """Open doors."""

    def __init__(self, grpc: GrpcServer, rest: RestServer, health: Health) -> None:
        """Both are serving."""
        self._grpc = grpc
        self._rest = rest
        self._health = health

    @property
    def grpc_port(self) -> int:
        """The port that gRPC listens on."""
        return self._grpc.port

    @property
    def rest_port(self) -> int:
        """The port that HTTP listens on."""
        return self._rest.port

    async def serving(self) -> None:
        """Tell health checks that requests are welcome."""
        self._health.serving = True
        await self._grpc.set_serving(True)
        log.info("ready: HTTP on port %d, gRPC on port %d", self.rest_port, self.grpc_port)

    async def not_serving(self) -> None:
        """Tell health checks that they are not, and go on serving those who come all the same."""
        self._health.serving = False
        await self._grpc.set_serving(False)


@asynccontextmanager
async def open_doors(
    services: Sequence[Service],
    gateway: Callable[[InProcessChannel, Health], FastAPI],
    address: Address,
    *,
    around: Sequence[Around] = (),
    tracing: Tracing | None = None,
) -> AsyncIterator[Doors]:
    """Serve until the context ends, at first with health NOT_SERVING; `gateway` makes the REST application from a channel.

    What `around` makes is put around every call, the first outermost, by whichever door it comes; with `tracing` every call is a span, too.
    """
    health = Health(serving=False)
    interceptors = [AroundInterceptor(one) for one in (*_traced(tracing), *around)]
    channel = InProcessChannel(services, interceptors)
    app = gateway(channel, health)
    async with (
        GrpcServer(
            services, host=address.host, port=address.grpc_port, hint=address.grpc_hint, interceptors=interceptors, serving=False
        ) as grpc,
        RestServer(app, host=address.host, port=address.rest_port, hint=address.rest_hint) as rest,
    ):
        yield Doors(grpc, rest, health)


def _traced(tracing: Tracing | None) -> Sequence[Around]:
    if tracing is None:
        return ()
    from sickbay.rpc.traced import CallTracer  # noqa: PLC0415 - see `tracing.py`

    return (CallTracer(tracing.tracer),)

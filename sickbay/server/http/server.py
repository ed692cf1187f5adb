"""An HTTP server (uvicorn) inside the running event loop: it can use any free port, handles no signals, and always stops in time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, cast

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.limits import HttpLimits
from sickbay.ports.tls import Certificates
from sickbay.server.http.bodies import BodyBudget
from sickbay.server.http.connection import Connection
from sickbay.server.http.connection_limiter import ConnectionLimiter
from sickbay.server.http.ending import Port
from sickbay.server.http.handshakes import Handshakes
from sickbay.server.http.limits import SEND_BUFFER_BYTES
from sickbay.server.http.meter import HttpMeter
from sickbay.server.listen import listen
from sickbay.server.rest.app import closing
from sickbay.system.forks import keep_port

GRACE: Final = 10
"""Seconds that running requests get on shutdown."""
TICK_S: Final = 0.1
SWEEP_S: Final = 1.0
"""Seconds between two checks of all connections for timeouts."""


class RestServer:
    """Serves an application of `create_app` inside `async with`; with `port` 0 it uses a free one, and sets `port` to it.

    `hint` ends the error about a port in use, for example "choose another with PORT or --jobapi-port"; metrics are added to `registry`.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str,
        port: int,
        hint: str,
        grace: int = GRACE,
        limits: HttpLimits | None = None,
        registry: CollectorRegistry | None = None,
        tls: Certificates | None = None,
    ) -> None:
        """Opens nothing yet."""
        self.host, self.port = host, port
        self._app, self._hint, self._grace, self._tls = app, hint, grace, tls
        self._limits, self._meter = limits or HttpLimits(), HttpMeter(registry or CollectorRegistry())
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Open the port and serve; SettingsError if it is in use."""
        opened = listen(self.host, self.port, self._hint)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.port = opened.getsockname()[1]
        keep_port(self.port)
        self._server = _Server(self._app, self._grace, self._bounds(), self.port, self._tls)
        self._serving = asyncio.create_task(self._server.serve([opened]), name=f"http :{self.port}")
        await self._server.ready(self._serving)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop with the usual grace."""
        await self.stop()

    async def stop(self) -> None:
        """Accept no more connections, end event streams, give running requests the grace, then close them. Calling it twice is harmless."""
        server, serving = self._server, self._serving
        self._server = self._serving = None
        if server is None or serving is None:
            return
        closing(self._app).set()
        server.stop()
        await serving

    def _bounds(self) -> Port:
        port = Port(self._limits, ConnectionLimiter(self._limits), BodyBudget(self._limits.body_buffer_bytes), self._meter)
        self._meter.observe(
            connections=lambda: len(port.limiter), body_bytes=lambda: port.bodies.taken, waiting=lambda: port.bodies.waiting
        )
        return port


class _Server(uvicorn.Server):
    def __init__(self, app: Any, grace: int, bounds: Port, port: int, tls: Certificates | None) -> None:
        config = uvicorn.Config(
            app,
            loop="none",
            http=cast("type[asyncio.Protocol]", partial(Connection, bounds)),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=cast("int", bounds.limits.idle_timeout),
            timeout_graceful_shutdown=grace,
        )
        super().__init__(config)
        self._bounds, self._port, self._tls = bounds, port, tls
        self._swept = 0.0
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `serve` at once, with the usual grace for running requests."""
        self.should_exit = True
        self._stopping.set()

    async def ready(self, serving: asyncio.Task[None]) -> None:
        """Wait until connections are accepted; raises the error of a failed start."""
        waiting = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():
            serving.result()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._tls is None:
            await super().startup(sockets)
        else:
            self.servers = [cast("asyncio.Server", Handshakes(one, self._tls, self._bounds, self._protocol)) for one in sockets or []]
            self.started = True
        self._ready.set()

    def _protocol(self) -> asyncio.Protocol:
        make = cast("Any", self.config.http_protocol_class)
        return cast("asyncio.Protocol", make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state))

    async def main_loop(self) -> None:
        """Tick ten times a second, as uvicorn does, until `stop`."""
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            await wait_for_event(self._stopping, TICK_S)

    async def on_tick(self, counter: int) -> bool:
        """Check all connections once in a while, and let uvicorn renew its Date header."""
        now = asyncio.get_running_loop().time()
        if now - self._swept >= SWEEP_S:
            self._swept = now
            self._sweep(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn; connections that still have unread responses then are aborted."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _sweep(self, now: float) -> None:
        for connection in list(self.server_state.connections):
            cast("Connection", connection).sweep(now)
        self._bounds.bodies.settle(now)
        self._bounds.meter.log_counts(self._port, now)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals belong to the program, not to its HTTP server."""
        yield

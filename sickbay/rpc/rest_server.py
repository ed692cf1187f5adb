"""An HTTP server (uvicorn) inside the running event loop: it takes a port of its choosing, no signals, and always stops in time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import uvicorn
from fastapi import FastAPI

from sickbay.rpc.listen import listen
from sickbay.rpc.rest import closing

GRACE: Final = 10
"""Seconds that running requests get when the server stops."""


class RestServer:
    """Serves an application of `create_app` between `async with`; `port` 0 takes a free one, and `port` tells which once entered.

    `hint` ends the sentence about a taken port, for example "choose another with PORT or --jobapi-port".
    """

    def __init__(self, app: FastAPI, *, host: str, port: int, hint: str, grace: int = GRACE) -> None:
        """Take everything; nothing is opened yet."""
        self.host, self.port = host, port
        self._app, self._hint, self._grace = app, hint, grace
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Open the port and serve; SettingsError if it is taken."""
        opened = listen(self.host, self.port, self._hint)
        self.port = opened.getsockname()[1]
        self._server = _Server(self._app, self._grace)
        self._serving = asyncio.create_task(self._server.serve([opened]), name=f"http :{self.port}")
        await self._server.ready(self._serving)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop with the usual grace."""
        await self.stop()

    async def stop(self) -> None:
        """Take no more connections, end event streams, give running requests the grace, then cut them. Twice is harmless."""
        server, serving = self._server, self._serving
        self._server = self._serving = None
        if server is None or serving is None:
            return
        closing(self._app).set()
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    def __init__(self, app: Any, grace: int) -> None:
        config = uvicorn.Config(
            app,
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=grace,
        )
        super().__init__(config)
        self._ready = asyncio.Event()

    async def ready(self, serving: asyncio.Task[None]) -> None:
        """Wait until connections are taken; raises what broke the start."""
        waiting = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():
            serving.result()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals belong to the program, not to its HTTP server."""
        yield

"""How a service process begins and ends: settings, logs, signals, and one clear sentence when it cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from sickbay.errors import SickbayError
from sickbay.rpc.doors import Address, Doors
from sickbay.settings import Settings
from sickbay.telemetry.logs import configure_logging

log = logging.getLogger("sickbay")


class Signals:
    """Ctrl-C and SIGTERM, counted. Made inside the running loop."""

    def __init__(self) -> None:
        """Listen from now on."""
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._heard)

    def _heard(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    async def unless_stopped(self, work: Awaitable[None]) -> None:
        """Wait for `work`, or for the first signal if that comes before; what `work` raises is raised."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self.first.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for future in (working, stopping):
            future.cancel()
        if working.done() and not working.cancelled():
            working.result()

    async def serve(self, ready: Awaitable[None], doors: Doors) -> None:
        """Turn SERVING once `ready` returns; come back at the first signal, NOT_SERVING again."""
        await self.unless_stopped(ready)
        if not self.first.is_set():
            await doors.serving()
        await self.first.wait()
        await doors.not_serving()

    async def patiently(self, draining: Callable[[float], Awaitable[None]], grace_s: float) -> None:
        """Drain with `grace_s` seconds, or with none as soon as a second signal comes."""
        drain = asyncio.ensure_future(draining(grace_s))
        impatient = asyncio.ensure_future(self.second.wait())
        await asyncio.wait({drain, impatient}, return_when=asyncio.FIRST_COMPLETED)
        if not drain.done():
            await draining(0)
            drain.cancel()
        impatient.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drain


def run(main: Awaitable[bool]) -> None:
    """Run a service to its end; `main` tells whether a handler goes on that would keep the loop or the process from ending."""
    gc.set_threshold(50_000, 20, 50)  # a busy service makes and drops many small objects, hardly any of them in cycles

    async def body() -> None:
        if await main:
            log.warning("a handler still runs and cannot be stopped; its job will run again")
            sys.stdout.flush()
            os._exit(0)

    uvloop.run(body())


def start(service: Callable[[Settings], Awaitable[bool]]) -> None:
    """The whole of `python -m SERVICE`: read the settings, run, and end with one sentence and exit code 1 if it cannot start."""
    try:
        settings = Settings.read()
        configure_logging(settings.log_level, settings.log_format)
        run(service(settings))
    except SickbayError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - before any service there is only the terminal
        raise SystemExit(1) from None


def address(settings: Settings, port: int, grpc_port: int) -> Address:
    """Where a service of its own listens; PORT and GRPC_PORT choose other ports than its documented ones."""
    http = port if settings.port is None else settings.port
    rpc = grpc_port if settings.grpc_port is None else settings.grpc_port
    return Address(settings.bind_host, http, rpc)

"""Start and shutdown of a service process: settings, logs, signals, and one clear sentence if it cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvloop

from sickbay.domain.errors import SickbayError
from sickbay.domain.raised import Redact
from sickbay.domain.service_ports import ServicePorts
from sickbay.ports.tls import Certificates
from sickbay.runtime.ending import CLOSE_S, LEFT_BEHIND_S, exit_within, whole_process
from sickbay.runtime.redaction import load_redaction
from sickbay.runtime.settings import Settings
from sickbay.server.access.control import Access
from sickbay.server.endpoints import Address, Endpoints
from sickbay.system import forks
from sickbay.system.files import raise_file_limit
from sickbay.system.hostnames import allowed_hosts
from sickbay.system.origins import cors_origins
from sickbay.system.output import flush_output, is_guarded
from sickbay.telemetry.logs import configure_logging

log = logging.getLogger("sickbay")


STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Ctrl-C, the signal of a supervisor, a closed terminal, and Ctrl-backslash: each is a graceful shutdown."""
SWITCH_S: Final = 0.002
"""How long a thread computes while another waits for the interpreter; by default more than twice as long, which each step of a call that
a thread of the ledger or of gRPC takes would have to wait while the event loop is busy. With a quarter of it a tenth of the time goes to
the kernel, which wakes threads, when thousands of parked jobs come back."""
DRAINED_S: Final = 15.0
"""The time after the grace until the drain must return; it limits itself, so this is only for a fault of ours."""


class Signals:
    """Counts the signals that request a shutdown. Created inside the running loop.

    SIGHUP stays ignored under `nohup`, and SIGQUIT in background processes of a shell without job control.
    """

    def __init__(self) -> None:
        """Install the signal handlers."""
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            if number in {signal.SIGINT, signal.SIGTERM} or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal)
                forks.keep_signal(number)

    def _on_signal(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    async def or_stop_signal(self, work: Awaitable[None]) -> None:
        """Wait for `work`, or for the first signal if that comes before; raises what `work` raises."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self.first.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for future in (working, stopping):
            future.cancel()
        if working.done() and not working.cancelled():
            working.result()

    async def serve(self, ready: Awaitable[None], endpoints: Endpoints) -> None:
        """Report SERVING once `ready` returns, and NOT_SERVING after the first signal; returns then."""
        await self.or_stop_signal(ready)
        if not self.first.is_set():
            await endpoints.serving()
            keep_what_was_loaded()
        await self.first.wait()
        exit_within(CLOSE_S)
        await endpoints.not_serving()

    async def drain_with_grace(self, draining: Callable[[float], Awaitable[None]], grace_s: float) -> None:
        """Drain with a grace of `grace_s` seconds, or without grace after a second signal."""
        exit_within(grace_s + DRAINED_S)
        drain = asyncio.ensure_future(draining(grace_s))
        impatient = asyncio.ensure_future(self.second.wait())
        await asyncio.wait({drain, impatient}, return_when=asyncio.FIRST_COMPLETED)
        if not drain.done():
            exit_within(DRAINED_S + CLOSE_S)
            await draining(0)
            drain.cancel()
        impatient.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drain
        exit_within(CLOSE_S)


def keep_what_was_loaded() -> None:
    """Exempt what exists now, nearly all of it for good, from garbage collections, which would stop the process for 0.1 s now and then.

    Called once a service serves; does nothing in a process that is not ours.
    """
    if is_guarded():
        gc.freeze()


def run(main: Awaitable[bool]) -> None:
    """Run a service to its end; `main` returns whether a handler is still running that would block the end of the loop or process."""
    gc.set_threshold(50_000, 20, 50)  # a busy service creates many short-lived objects, hardly any of them in cycles
    sys.setswitchinterval(SWITCH_S)

    async def body() -> None:
        if await main:
            log.warning("a handler still runs and cannot be stopped; its job will run again")
            flush_output()
            os._exit(0)
        exit_within(LEFT_BEHIND_S, 0, closed=True)  # from here on only leftovers of others can be blocking

    uvloop.run(body())


def start(service: Callable[[Settings], Awaitable[bool]], **options: Any) -> None:
    """`python -m SERVICE`: read the settings, run, and exit with one sentence and the error's exit code if it cannot start.

    `options` override the environment; those that are None are ignored.
    """
    with whole_process():
        try:
            settings = Settings.read(**options)
            configure_logging(settings.log_level, settings.log_format)
            run(service(settings))
        except SickbayError as error:
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - before any service there is only the terminal
            raise SystemExit(error.exit_code) from None


def open_redaction(settings: Settings) -> Redact | None:
    """Load the function that REDACT names, and apply it to all later log lines of this process."""
    redact = load_redaction(settings.redact)
    if redact is not None:
        configure_logging(settings.log_level, settings.log_format, redact)
    return redact


def address(settings: Settings, defaults: ServicePorts, access: Access | None = None, tls: Certificates | None = None) -> Address:
    """Where a single service listens, its limits, and who may call; PORT and GRPC_PORT override `defaults`."""
    http = defaults.http if settings.port is None else settings.port
    rpc = defaults.grpc if settings.grpc_port is None else settings.grpc_port
    files, names = raise_file_limit(), allowed_hosts(settings.allowed_hosts)
    limits, http_limits = settings.limits.within(files, ports=2), settings.http_limits.within(files, ports=2)
    origins = cors_origins(settings.cors_origins)
    return Address(
        settings.bind_host,
        http,
        rpc,
        limits=limits,
        http_limits=http_limits,
        allowed_hosts=names,
        cors_origins=origins,
        access=access,
        tls=tls,
        health_port=settings.health_port,
    )

"""`sickbay up`: the whole system in one process, with nothing else to install."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import click

import controlplane.app
import jobapi.app
import worker.app
from sickbay.backends import open_up
from sickbay.errors import SickbayError
from sickbay.lifecycle import Signals, run
from sickbay.rpc.doors import Address, Doors
from sickbay.sdk import HandlerSpec, load_handlers
from sickbay.settings import Settings
from sickbay.telemetry.logs import configure_logging
from sickbay.telemetry.tracing import open_traces
from sickbay.version import VERSION

SERVICES: Final = {"jobapi": (3000, 50051), "worker": (3001, 50052), "control-plane": (3002, 50053)}

log = logging.getLogger("sickbay")


def _port_options(command: Any) -> Any:
    for service, (rest, grpc) in reversed(SERVICES.items()):
        name = service.replace("-", "_")
        for suffix, default, what in (("grpc-port", grpc, "gRPC"), ("port", rest, "HTTP")):
            command = click.option(
                f"--{service}-{suffix}",
                f"{name}_{suffix.replace('-', '_')}",
                type=click.IntRange(0, 65535),
                default=default,
                show_default=True,
                help=f"{what} port of the {service.replace('-', ' ')}; 0 takes a free one.",
            )(command)
    return command


@click.command(
    epilog="Every variable of the README's configuration chapter works here, but PORT and GRPC_PORT: three services need three ports."
)
@click.option("--data", type=click.Path(path_type=Path), default=Path(".sickbay"), show_default=True, help="Folder for queues and ledger.")
@click.option("--ephemeral", is_flag=True, help="Keep everything in memory; nothing survives the end.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--handlers", metavar="MODULES", help="Modules with @handler functions, comma separated (JOB_HANDLERS); default: the demo's.")
@_port_options
def up(data: Path, *, ephemeral: bool, host: str, handlers: str | None, **ports: int) -> None:
    r"""Run Job API, worker and control plane in this process until Ctrl-C or SIGTERM.

    Jobs are durable in the data folder: a kill or a power cut loses none. On the first signal no more jobs start and running
    ones may finish; a second signal breaks them off, and they run again at the next start.

    \b
    Examples:
      sickbay up
      sickbay up --handlers my_handlers
      sickbay up --ephemeral --jobapi-port 4000
    """
    addresses = {
        service: Address(
            host,
            ports[f"{service.replace('-', '_')}_port"],
            ports[f"{service.replace('-', '_')}_grpc_port"],
            f"choose another with --{service}-port",
            f"choose another with --{service}-grpc-port",
        )
        for service in SERVICES
    }
    try:
        settings = Settings.read(job_handlers=handlers)
        configure_logging(settings.log_level, settings.log_format)
        loaded = load_handlers(settings.job_handlers or worker.app.DEMO)
        run(_run(settings, None if ephemeral else data, loaded, addresses))
    except SickbayError as error:
        raise click.ClickException(str(error)) from None


async def _run(settings: Settings, folder: Path | None, handlers: Mapping[str, HandlerSpec], addresses: Mapping[str, Address]) -> bool:
    """Serve until a signal; whether a handler goes on that would keep the process from ending."""
    signals = Signals()
    async with AsyncExitStack() as stack:
        traces = await stack.enter_async_context(open_traces(settings))
        backends = await stack.enter_async_context(open_up(settings, folder))
        plane = await stack.enter_async_context(controlplane.app.serve(backends, addresses["control-plane"], traces))
        working = await stack.enter_async_context(worker.app.serve(backends, settings, handlers, addresses["worker"], traces))
        api = await stack.enter_async_context(jobapi.app.serve(backends, addresses["jobapi"], traces))
        await asyncio.wait(
            {asyncio.ensure_future(one) for one in (backends.ready(), signals.first.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        for doors in (plane, working.doors, api):
            await doors.serving()
        click.echo(_banner(addresses["jobapi"].host, folder, handlers, {"jobapi": api, "worker": working.doors, "control-plane": plane}))
        await signals.first.wait()
        log.info("stopping: running jobs may finish (%g s at most, or press Ctrl-C again)", working.grace_s)
        await api.not_serving()
        await plane.not_serving()
        await signals.patiently(working.drain, working.grace_s)
    return working.is_stuck


def _banner(host: str, folder: Path | None, handlers: Mapping[str, HandlerSpec], doors: Mapping[str, Doors]) -> str:
    shown = "localhost" if host in {"127.0.0.1", "0.0.0.0", "::"} else host  # noqa: S104 - only shown
    where = f"data in {folder.resolve()}" if folder else "in memory, nothing survives the end"
    web = {service: f"http://{shown}:{door.rest_port}" for service, door in doors.items()}
    rows = [
        ("Job API", f"{web['jobapi']}", f"gRPC {shown}:{doors['jobapi'].grpc_port}", f"docs {web['jobapi']}/docs"),
        ("Worker", f"{web['worker']}", f"gRPC {shown}:{doors['worker'].grpc_port}", f"runs {', '.join(sorted(handlers))}"),
        (
            "Control plane",
            f"{web['control-plane']}",
            f"gRPC {shown}:{doors['control-plane'].grpc_port}",
            f"docs {web['control-plane']}/docs",
        ),
    ]
    table = "\n".join(f"  {name:<14} {url:<22} {grpc:<22} {more}" for name, url, grpc, more in rows)
    body = '{"jobType": "email", "payload": {"to": "user@example.com"}}'
    return (
        f"Sickbay {VERSION} is up ({where})\n\n{table}\n\nTry it in another terminal:\n\n"
        f"  curl -X POST {web['jobapi']}/jobs -H 'Content-Type: application/json' \\\n    -d '{body}'\n"
        f"  curl {web['control-plane']}/breakers\n\nStop with Ctrl-C."
    )

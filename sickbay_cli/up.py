"""`sickbay up`: the whole system in one process, with nothing else to install."""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

import controlplane.app
import jobapi.app
import worker.app
from sickbay.concurrency.tasks import background
from sickbay.domain.errors import MissingSetting, SickbayError
from sickbay.domain.program import WorkStream
from sickbay.domain.raised import Redact
from sickbay.domain.service_ports import DEFAULT_PORTS
from sickbay.handlers.registry import HandlerSpec
from sickbay.observer import Observer
from sickbay.runtime.access import TOKEN_FILE, open_access
from sickbay.runtime.backends import open_up
from sickbay.runtime.ending import whole_process
from sickbay.runtime.http_handlers import has_http_handlers
from sickbay.runtime.observers import load_observers
from sickbay.runtime.process import Signals, keep_what_was_loaded, open_redaction, run
from sickbay.runtime.settings import Settings
from sickbay.runtime.tls import open_tls
from sickbay.runtime.variables import AuthMode
from sickbay.server.endpoints import Address, Endpoints
from sickbay.server.listen import is_loopback
from sickbay.submission.names import NameLimits
from sickbay.system.files import raise_file_limit
from sickbay.system.hostnames import allowed_hosts
from sickbay.system.origins import cors_origins
from sickbay.telemetry.logs import configure_logging
from sickbay.telemetry.tracing import open_traces
from sickbay.version import VERSION
from sickbay_cli import options
from sickbay_cli.exit_codes import MissingOption
from sickbay_cli.upchoice import choose_handlers, record_handlers
from worker.choice import is_demo, load_chosen, warn_if_demo

DEMO_BANNER: Final = (
    "This is the demo: jobs of email, sms and webhook are only simulated, nothing is sent.\n"
    "Your own handlers: sickbay up --handlers my_handlers\n\n"
)

_NO_CREDENTIAL: Final = (
    "other machines can reach --host {}, so callers need a credential, and with --ephemeral there is no folder for a token: "
    "set API_KEYS_FILE (`sickbay keys new` writes one), or AUTH=off if everybody there may control it"
)

log = logging.getLogger("sickbay")


def _port_options(command: Any) -> Any:
    for service, (rest, grpc) in reversed(tuple(DEFAULT_PORTS.items())):
        name = service.replace("-", "_")
        for suffix, default, what in (("grpc-port", grpc, "gRPC"), ("port", rest, "HTTP")):
            command = click.option(
                f"--{service}-{suffix}",
                f"{name}_{suffix.replace('-', '_')}",
                type=click.IntRange(0, 65535),
                default=default,
                show_default=True,
                help=f"{what} port of the {service.replace('-', ' ')}; 0 uses a free one.",
            )(command)
    return command


_EPILOG: Final = (
    options.examples("sickbay up", "sickbay up --handlers my_handlers --reload", "sickbay up --ephemeral --jobapi-port 4000")
    + "\n\nEvery variable of docs/configuration.md works here, except PORT, GRPC_PORT and HEALTH_PORT: three services need three ports."
)


@click.command(epilog=_EPILOG)
@click.option("--data", type=options.FOLDER, default=".sickbay", show_default=True, help="Folder for queues and ledger; private.")
@click.option("--ephemeral", is_flag=True, help="Keep everything in memory; nothing is kept after the exit.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--handlers", metavar="MODULES", help="Modules with @handler functions, comma separated (JOB_HANDLERS); default: worker.demo."
)
@click.option(
    "--programs",
    is_flag=True,
    help="Let programs in any language connect from this machine and run jobs (WORK_STREAM=local); --handlers may be left out.",
)
@options.reload
@options.settings_file
@_port_options
def up(
    data: Path, *, ephemeral: bool, host: str, handlers: str | None, programs: bool, reload: bool, config: Path | None, **ports: int
) -> None:
    """Run Job API, worker and control plane in this process until Ctrl-C or SIGTERM (or SIGHUP, SIGQUIT).

    Jobs are durable in the data folder: a kill or a power cut loses none. On the first signal no more jobs start and running
    ones may finish; a second signal cancels them, and they run again at the next start.
    """
    with whole_process():
        try:
            stream = WorkStream.LOCAL if programs else None
            settings = Settings.read(job_handlers=handlers, sickbay_config=None if config is None else str(config), work_stream=stream)
            configure_logging(settings.log_level, settings.log_format)
            if settings.auth is None and not is_loopback(host):
                settings = settings.model_copy(update={"auth": AuthMode.REQUIRED})  # others can reach it, and nobody has said that they may
                if ephemeral and settings.api_keys_file is None and settings.jwt_issuer is None:
                    raise MissingOption(_NO_CREDENTIAL.format(host))
            folder = None if ephemeral else data
            has_http = has_http_handlers(settings)
            has_others = has_http or settings.work_stream is not WorkStream.OFF
            if reload and not settings.job_handlers:
                raise MissingOption("--reload needs handlers of yours: add --handlers my_handlers")
            modules = choose_handlers(settings, has_others=has_others)
            since = time.time()
            handlers_by_type = load_chosen(modules, has_own_queue=settings.rabbitmq_url is None, has_others=has_others)
            redact = open_redaction(settings)
            addresses = _addresses(host, ports, settings)
            chosen = _Chosen(modules, handlers_by_type, redact, load_observers(settings.observers), has_http, since if reload else None)
            run(_run(settings, folder, chosen, addresses))
        except MissingSetting as error:
            raise MissingOption(str(error)) from None
        except SickbayError as error:
            raise click.ClickException(str(error)) from None


def _addresses(host: str, ports: Mapping[str, int], settings: Settings) -> Mapping[str, Address]:
    files, count, names = raise_file_limit(), 2 * len(DEFAULT_PORTS), allowed_hosts(settings.allowed_hosts)
    limits, http_limits = settings.limits.within(files, count), settings.http_limits.within(files, count)
    return {
        service: Address(
            host,
            ports[f"{service.replace('-', '_')}_port"],
            ports[f"{service.replace('-', '_')}_grpc_port"],
            f"choose another with --{service}-port",
            f"choose another with --{service}-grpc-port",
            "--host 127.0.0.1",
            limits,
            names,
            http_limits,
            cors_origins=cors_origins(settings.cors_origins),
        )
        for service in DEFAULT_PORTS
    }


class _Chosen(NamedTuple):
    """The modules of handlers as they were named, the handlers by job type, the redaction of texts, and the user's observers.

    `reload`: handlers are loaded anew when their source changes after this time, in seconds since the epoch; None: not.
    """

    modules: str
    handlers: Mapping[str, HandlerSpec]
    redact: Redact | None
    observers: Sequence[Observer]
    has_http: bool
    """Whether the settings file has handlers."""
    reload: float | None


async def _run(settings: Settings, folder: Path | None, chosen: _Chosen, addresses: Mapping[str, Address]) -> bool:
    """Serve until a signal; returns whether a handler is still running that would keep the process from exiting."""
    signals = Signals()
    async with AsyncExitStack() as stack:
        traces = await stack.enter_async_context(open_traces(settings.traces_endpoint, settings.worker_name, chosen.redact))
        backends = await stack.enter_async_context(open_up(settings, folder))
        access = await stack.enter_async_context(open_access(settings, folder))
        tls = await stack.enter_async_context(open_tls(settings))
        addresses = {service: replace(one, access=access, tls=tls) for service, one in addresses.items()}
        record_handlers(settings, folder, has_others=chosen.has_http)
        control_plane = await stack.enter_async_context(
            controlplane.app.serve(backends, addresses["control-plane"], traces, observers=chosen.observers)
        )
        working = await stack.enter_async_context(
            worker.app.serve(
                backends, settings, chosen.handlers, addresses["worker"], traces, redact=chosen.redact, observers=chosen.observers
            )
        )
        api = await stack.enter_async_context(
            jobapi.app.serve(backends, addresses["jobapi"], traces, names=NameLimits.of(settings), observers=chosen.observers)
        )
        await asyncio.wait(
            {asyncio.ensure_future(one) for one in (backends.ready(), signals.first.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        warn_if_demo(chosen.modules)
        services = {"jobapi": api, "worker": working.endpoints, "control-plane": control_plane}
        for endpoints in (control_plane, working.endpoints, api):
            await endpoints.serving()
        shown = _Shown(addresses["jobapi"].host, folder, is_demo(chosen.modules), access is not None, "http" if tls is None else "https")
        click.echo(_banner(shown, services, working.handlers))
        keep_what_was_loaded()
        async with background(*_reloading(working, chosen, folder)):
            await signals.first.wait()
        log.info("stopping: running jobs may finish (%g s at most, or press Ctrl-C again)", working.grace_s)
        await api.not_serving()
        await control_plane.not_serving()
        await signals.drain_with_grace(working.drain, working.grace_s)
    return working.is_stuck


def _reloading(working: worker.app.Worker, chosen: _Chosen, folder: Path | None) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
    if chosen.reload is None:
        return []
    return [working.reload(chosen.modules, chosen.reload, [folder] if folder else []).run]


def _types(handlers: Iterable[str]) -> str:
    return ", ".join(sorted(handlers)) or "the jobs of programs that connect"


class _Shown(NamedTuple):
    """What the banner is about: where it listens, its data folder, whether it runs the demo, and whether calls need a token."""

    host: str
    folder: Path | None
    is_demo: bool
    needs_token: bool
    scheme: str
    """https with TLS."""


def _banner(system: _Shown, endpoints: Mapping[str, Endpoints], handlers: Iterable[str]) -> str:
    shown = "localhost" if system.host in {"127.0.0.1", "0.0.0.0", "::"} else system.host  # noqa: S104 - only shown
    where = f"data in {system.folder.resolve()}" if system.folder else "in memory, nothing is kept after the exit"
    web = {service: f"{system.scheme}://{shown}:{door.rest_port}" for service, door in endpoints.items()}
    rows = [
        ("Job API", f"{web['jobapi']}", f"gRPC {shown}:{endpoints['jobapi'].grpc_port}", f"docs {web['jobapi']}/docs"),
        ("Worker", f"{web['worker']}", f"gRPC {shown}:{endpoints['worker'].grpc_port}", f"runs {_types(handlers)}"),
        (
            "Control plane",
            f"{web['control-plane']}",
            f"gRPC {shown}:{endpoints['control-plane'].grpc_port}",
            f"docs {web['control-plane']}/docs",
        ),
    ]
    demo = DEMO_BANNER if system.is_demo else ""
    table = "\n".join(f"  {name:<14} {url:<22} {grpc:<22} {more}" for name, url, grpc, more in rows)
    body = '{"jobType": "email", "payload": {"to": "user@example.com"}}'
    token = f' -H "Authorization: Bearer {_token(system.folder)}"' if system.needs_token else ""
    return (
        f"Sickbay {VERSION} is up ({where})\n\n{table}\n\n{demo}Try it in another terminal:\n\n"
        f"  curl -X POST {web['jobapi']}/jobs{token} -H 'Content-Type: application/json' \\\n    -d '{body}'\n"
        f"  curl {web['control-plane']}/breakers{token}\n\nStop with Ctrl-C."
    )


def _token(folder: Path | None) -> str:
    """How a shell reads the token; without a folder it is one of the user's own."""
    return "$SICKBAY_TOKEN" if folder is None else f"$(cat {shlex.quote(str(folder / TOKEN_FILE))})"

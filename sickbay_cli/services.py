"""`sickbay jobapi`, `sickbay worker` and `sickbay controlplane`: each service as a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

import controlplane.__main__ as controlplane_main
import jobapi.__main__ as jobapi_main
import worker.__main__ as worker_main
from sickbay.domain.service_ports import CONTROL_PLANE, JOB_API, WORKER, ServicePorts
from sickbay.runtime.process import start
from sickbay_cli import options
from sickbay_cli.options import examples, settings_file


def _address_options(ports: ServicePorts) -> Callable[[Any], Any]:
    """--host, --port and --grpc-port, as `sickbay up` has them; each overrides its variable."""

    def add(command: Any) -> Any:
        for name, variable, default, what in (
            ("--grpc-port", "GRPC_PORT", ports.grpc, "gRPC port"),
            ("--port", "PORT", ports.http, "HTTP port"),
        ):
            text = f"{what} ({variable}); 0 uses a free one. Default: {default}."
            command = click.option(name, type=click.IntRange(0, 65535), help=text)(command)
        return click.option("--host", "bind_host", help="Address to listen on (BIND_HOST). Default: 0.0.0.0, all.")(command)

    return add


@click.command("jobapi", epilog=examples("sickbay jobapi", "sickbay jobapi --port 4000 --grpc-port 4001 --host 127.0.0.1"))
@_address_options(JOB_API)
@settings_file
def jobapi(config: Path | None, **address: str | int | None) -> None:
    """Run the Job API as a process of its own.

    It needs RABBITMQ_URL, and DATABASE_URL to read jobs; docs/configuration.md has every variable. The same as `python -m jobapi`.
    """
    start(jobapi_main.run, sickbay_config=_path(config), **address)


_WORKER_EXAMPLES = examples(
    "sickbay worker --handlers my_handlers",
    "JOB_HANDLERS=my_handlers CONCURRENCY=20 sickbay worker",
    "sickbay worker --handlers my_reports --pool reports",
)


@click.command("worker", epilog=_WORKER_EXAMPLES)
@click.option(
    "--handlers", metavar="MODULES", help="Modules with @handler functions, comma separated (JOB_HANDLERS); worker.demo: the demo."
)
@options.reload
@click.option("--pool", metavar="NAME", help="Take jobs of this pool alone (POOL); `sickbay topology apply --pool NAME` makes its queue.")
@_address_options(WORKER)
@settings_file
def worker(handlers: str | None, *, reload: bool, pool: str | None, config: Path | None, **address: str | int | None) -> None:
    """Run a worker as a process of its own.

    It needs handlers, RABBITMQ_URL and REDIS_URL, and DATABASE_URL to recognise outdated copies; start as many as you like. The same
    as `python -m worker`.
    """
    start(partial(worker_main.run, reload=reload), job_handlers=handlers, pool=pool, sickbay_config=_path(config), **address)


@click.command("controlplane", epilog=examples("sickbay controlplane", "sickbay controlplane --config sickbay.toml --port 4002"))
@click.option("--data", type=options.FOLDER, help="Folder of the ledger without DATABASE_URL (DATA_DIR). Default: .sickbay.")
@_address_options(CONTROL_PLANE)
@settings_file
def controlplane(data: Path | None, config: Path | None, **address: str | int | None) -> None:
    """Run the control plane as a process of its own.

    It needs RABBITMQ_URL, REDIS_URL and DATABASE_URL; without the last one its ledger is a file in DATA_DIR. The same as
    `python -m controlplane`.
    """
    start(controlplane_main.run, data_dir=_path(data), sickbay_config=_path(config), **address)


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)

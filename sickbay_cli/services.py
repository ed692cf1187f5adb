"""`sickbay jobapi`, `sickbay worker` and `sickbay controlplane`: each service as a process of its own."""

from __future__ import annotations

from pathlib import Path

import click

import controlplane.__main__ as controlplane_main
import jobapi.__main__ as jobapi_main
import worker.__main__ as worker_main
from sickbay.runtime.process import start
from sickbay_cli.options import examples, settings_file


@click.command("jobapi", epilog=examples("sickbay jobapi", "PORT=4000 GRPC_PORT=4001 sickbay jobapi --config sickbay.toml"))
@settings_file
def jobapi(config: Path | None) -> None:
    """Run the Job API as a process of its own.

    It needs RABBITMQ_URL, and DATABASE_URL to read jobs; docs/configuration.md has every variable. The same as `python -m jobapi`.
    """
    start(jobapi_main.run, sickbay_config=_path(config))


@click.command("worker", epilog=examples("sickbay worker --handlers my_handlers", "JOB_HANDLERS=my_handlers CONCURRENCY=20 sickbay worker"))
@click.option(
    "--handlers", metavar="MODULES", help="Modules with @handler functions, comma separated (JOB_HANDLERS); worker.demo: the demo."
)
@settings_file
def worker(handlers: str | None, config: Path | None) -> None:
    """Run a worker as a process of its own.

    It needs handlers, RABBITMQ_URL and REDIS_URL, and DATABASE_URL to recognise outdated copies; start as many as you like. The same
    as `python -m worker`.
    """
    start(worker_main.run, job_handlers=handlers, sickbay_config=_path(config))


@click.command("controlplane", epilog=examples("sickbay controlplane", "sickbay controlplane --config sickbay.toml"))
@settings_file
def controlplane(config: Path | None) -> None:
    """Run the control plane as a process of its own.

    It needs RABBITMQ_URL, REDIS_URL and DATABASE_URL; without the last one its ledger is a file in DATA_DIR. The same as
    `python -m controlplane`.
    """
    start(controlplane_main.run, sickbay_config=_path(config))


def _path(config: Path | None) -> str | None:
    return None if config is None else str(config)

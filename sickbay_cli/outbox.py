"""The commands of the transactional outbox: its table, its relay, and what waits in it."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress

import click

from sickbay.client.aio import AsyncClient
from sickbay.domain.errors import SettingsError
from sickbay.outbox.relay import LEASE_S, Relay
from sickbay.outbox.store import OutboxStore
from sickbay.outbox.tables import DIALECTS
from sickbay.outbox.tables import ddl as ddl_text
from sickbay.runtime.outbox import check_table, open_database
from sickbay.runtime.process import Signals, start
from sickbay.runtime.settings import Settings
from sickbay_cli import options
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.outbox_jobs import database, discard, list_rows, retry, schema_name

log = logging.getLogger("sickbay.outbox")


@click.group()
def outbox() -> None:
    """Manage the transactional outbox: jobs that programs submit within their database transactions.

    `ddl` prints how to create its table, `relay` submits what committed transactions have left in it.
    """


for _one in (list_rows, retry, discard):
    outbox.add_command(_one)


@outbox.command(epilog=examples("sickbay outbox ddl --dialect postgresql | psql mydb"))
@click.option("--dialect", type=click.Choice(DIALECTS), required=True, help="For which database.")
@schema_name
def ddl(dialect: str, schema: str | None) -> None:
    """Print the statements that create the table."""
    click.echo(ddl_text(dialect, schema=schema), nl=False)


@outbox.command(epilog=examples("sickbay outbox relay --database-url postgresql://app@db/app --jobapi jobs.example.com:50051"))
@database
@schema_name
@click.option(
    "--poll", "poll_ms", type=options.SPAN, default="1s", show_default=True, help="Longest pause between looks into an empty outbox."
)
@click.option(
    "--lease",
    "lease_ms",
    type=options.SPAN,
    default=f"{LEASE_S:g}s",
    show_default=True,
    help="After so long another relay takes over what one that died was submitting.",
)
@options.endpoints("jobapi")
def relay(*, url: str, schema: str | None, poll_ms: int, lease_ms: int, jobapi: Endpoint) -> None:
    """Submit the jobs of committed transactions until Ctrl-C or SIGTERM.

    Several may run at once and share the work. On the first signal it finishes what it is submitting, a second one ends it at once.

    LOG_LEVEL and LOG_FORMAT are those of the services, SICKBAY_TLS, SICKBAY_TOKEN and so on those of the client library.
    """
    if not (poll_ms and lease_ms):
        raise click.UsageError("--poll and --lease must be longer than 0s")
    environment = {**os.environ, "SICKBAY_JOBAPI": jobapi.address, "SICKBAY_TIMEOUT": str(jobapi.timeout)}

    async def body(_: Settings) -> bool:
        signals = Signals()
        try:
            client = AsyncClient.from_env(environment)
        except (ValueError, OSError) as error:
            raise SettingsError(f"cannot call the Job API: {error}") from None
        async with client, open_database(url) as engine:
            made = Relay(engine, client, schema=schema, poll_s=poll_ms / 1000, lease_s=lease_ms / 1000)
            await _check_if_reachable(made.store)
            log.info("relaying to the Job API at %s", jobapi.address)
            running = asyncio.ensure_future(made.run())
            await signals.or_stop_signal(asyncio.shield(running))
            made.stop()
            await asyncio.wait({running, asyncio.ensure_future(signals.second.wait())}, return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        log.info("stopped")
        return False

    start(body)


async def _check_if_reachable(store: OutboxStore) -> None:
    """Only a database that answers can say that the table is missing; the relay itself waits for one that does not."""
    try:
        await check_table(store)
    except SettingsError:
        raise
    except Exception as error:  # noqa: BLE001 - of whatever driver
        log.warning("the database does not answer yet: %s", getattr(error, "orig", None) or error)

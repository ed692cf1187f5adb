"""The commands about what is in an outbox: list, retry and discard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from sickbay.domain.errors import MissingSetting, SettingsError
from sickbay.outbox.store import Backlog, OutboxRow, OutboxStore
from sickbay.runtime.outbox import VARIABLE, check_table, open_database
from sickbay_cli import options
from sickbay_cli.durations import relative
from sickbay_cli.exit_codes import MissingOption, NotFound, Refused, Unreachable
from sickbay_cli.jobs import now
from sickbay_cli.options import examples
from sickbay_cli.output import Cell, Column, confirm, count, document, remark, table

T = TypeVar("T")

_COLUMNS: Final = (
    Column("ID", right=True),
    Column("JOB TYPE"),
    Column("TENANT", least=90),
    Column("WRITTEN", right=True),
    Column("ATTEMPTS", least=70, right=True),
    Column("REJECTED", right=True),
    Column("LAST ERROR", loose=True),
)
database = click.option(
    "--database-url",
    "url",
    envvar=VARIABLE,
    show_envvar=True,
    required=True,
    metavar="URL",
    help="Database with the table sickbay_outbox: postgresql://user:password@host/database, or sqlite:///path/to/file.",
)
schema_name = click.option("--schema", metavar="NAME", help="Schema of the table; default: where the connection looks for it.")
_every = click.option("--all", "every", is_flag=True, help="All rejected jobs.")


@click.command(
    "list", epilog=examples("sickbay outbox list", "sickbay outbox list --rejected", "sickbay outbox list --json | jq .oldestAgeSeconds")
)
@database
@schema_name
@click.option("--rejected", is_flag=True, help="Only jobs that the Job API has rejected.")
@options.limit
@options.as_json
def list_rows(*, url: str, schema: str | None, rejected: bool, limit: int, as_json: bool) -> None:
    """Show how many jobs wait, since when, and the oldest of them; and which were rejected."""

    async def read(store: OutboxStore) -> tuple[Backlog, Sequence[OutboxRow]]:
        return await store.backlog(), await store.rows(limit, failed=True if rejected else None)

    left, rows = _with_store(url, schema, read)
    if as_json:
        age = {} if left.oldest is None else {"oldestAgeSeconds": max(0, now() - left.oldest) / 1000}
        document({"waiting": left.waiting, "rejected": left.failed, **age, "jobs": [_view(row) for row in rows]})
        return
    if rows:
        table(_COLUMNS, [_cells(row, now()) for row in rows])
    since = "" if left.oldest is None else f", the oldest since {relative(left.oldest, now())}"
    remark(f"{count(left.waiting, 'job')} waiting{since}; {left.failed:,} rejected")


@click.command(epilog=examples("sickbay outbox retry 17 18", "sickbay outbox retry --all"))
@click.argument("ids", nargs=-1, type=click.IntRange(min=1))
@_every
@database
@schema_name
def retry(*, ids: tuple[int, ...], every: bool, url: str, schema: str | None) -> None:
    """Let the relay submit rejected jobs again."""
    _check_choice(ids, every=every)
    found = _with_store(url, schema, lambda store: store.retry(None if every else ids))
    _tell(found, ids, "due again")


@click.command(epilog=examples("sickbay outbox discard 17", "sickbay outbox discard --all --yes"))
@click.argument("ids", nargs=-1, type=click.IntRange(min=1))
@_every
@options.yes
@database
@schema_name
def discard(*, ids: tuple[int, ...], every: bool, yes: bool, url: str, schema: str | None) -> None:
    """Delete rejected jobs from the outbox. They are lost."""
    _check_choice(ids, every=every)
    what = "all rejected jobs" if every else count(len(ids), "rejected job")
    confirm(f"Delete {what}?", yes=yes, as_json=False)
    found = _with_store(url, schema, lambda store: store.discard(None if every else ids))
    _tell(found, ids, "deleted")


def _check_choice(ids: Sequence[int], *, every: bool) -> None:
    if bool(ids) == every:
        raise click.UsageError("name the ids of rejected jobs (`sickbay outbox list --rejected`), or give --all")


def _tell(found: int, ids: Sequence[int], what: str) -> None:
    click.echo(f"{count(found, 'job')} {what}")
    if missing := len(set(ids)) - found if ids else 0:
        raise NotFound(f"{missing:,} of these ids are not of rejected jobs")


def _with_store(url: str, schema: str | None, work: Callable[[OutboxStore], Awaitable[T]]) -> T:
    async def body() -> T:
        async with open_database(url) as engine:
            store = OutboxStore(engine, schema)
            await check_table(store)
            return await work(store)

    try:
        return asyncio.run(body())
    except MissingSetting as error:
        raise MissingOption(str(error)) from None
    except SettingsError as error:
        raise Refused(str(error)) from None
    except Exception as error:  # noqa: BLE001 - of whatever driver
        raise Unreachable(f"the database does not answer: {getattr(error, 'orig', None) or error}") from None


def _cells(row: OutboxRow, at: int) -> list[Cell]:
    rejected = (relative(row.failed_at, at), "red") if row.failed_at else ""
    written = relative(row.created_at, at)
    return [str(row.id), str(row.job.job_type), row.job.tenant, written, str(row.attempts), rejected, row.last_error]


def _view(row: OutboxRow) -> dict[str, Any]:
    job = row.job
    found = {
        "id": row.id,
        "jobType": job.job_type,
        "tenant": job.tenant,
        "idempotencyKey": job.request_id,
        "writeTime": _time(row.created_at),
        "runAt": "" if job.run_at is None else _time(round(job.run_at.timestamp() * 1000)),
        "attempts": row.attempts,
        "rejectTime": _time(row.failed_at) if row.failed_at else "",
        "lastError": row.last_error,
    }
    return {name: value for name, value in found.items() if value != ""}


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

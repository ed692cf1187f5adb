"""The relay's side of the table: rows are claimed for a while, and deleted, put back or kept with an error, each in a short transaction.

A claim makes a row due again only after the lease, and writes the claimant's token into it. Whatever ends a claim asks for the token, so a
relay that was overtaken (it was suspended for longer than its lease) changes nothing. No transaction is open while a job is submitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, delete, func, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sickbay.client.jobs import NewJob
from sickbay.outbox.tables import outbox_table

MAX_ERROR_CHARS: Final = 2_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A job in the outbox; times in ms since the epoch. `failed_at` is 0 unless the job was rejected for good."""

    id: int
    job: NewJob
    created_at: int
    attempts: int
    failed_at: int
    last_error: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many jobs wait, since when the oldest of them does (ms since the epoch, None: none waits), and how many were rejected."""

    waiting: int
    oldest: int | None
    failed: int


class OutboxStore:
    """The outbox in the database of an engine of yours, which must be asynchronous."""

    def __init__(self, engine: AsyncEngine, schema: str | None = None) -> None:
        """`schema` is that of the table; None: where the connection looks for it."""
        self._sqlite = engine.dialect.name == "sqlite"
        self._engine = engine if self._sqlite else engine.execution_options(isolation_level="READ COMMITTED")
        self._schema = schema
        self._table = outbox_table(schema)
        self._has_run_at = False

    async def exists(self) -> bool:
        """Whether the table is there."""
        async with self._engine.connect() as connection:
            return await connection.run_sync(lambda one: inspect(one).has_table(self._table.name, schema=self._schema))

    async def claim(self, token: str, limit: int, now: int, until: int) -> Sequence[OutboxRow]:
        """Claim the oldest rows that are due, at most `limit`, until a time; nobody else gets them before. Times in ms.

        Relays share the rows: what another one is claiming is skipped. Finding nothing writes nothing.
        """
        t = self._table
        due = (t.c.failed_at == 0) & (t.c.due_at <= now)
        async with self._engine.connect() as connection:
            found = await connection.execute(select(t.c.id).where(due).order_by(t.c.id).limit(limit).with_for_update(skip_locked=True))
            ids = list(found.scalars())
            if not ids:
                return []
            if self._sqlite:
                await connection.commit()  # which cannot make a reader a writer once somebody else has written
            taken = {"due_at": until, "claimed_by": token, "attempts": t.c.attempts + 1}
            await connection.execute(update(t).where(t.c.id.in_(ids), due).values(taken))
            rows = await connection.execute((await self._all(connection)).where(t.c.id.in_(ids), t.c.claimed_by == token).order_by(t.c.id))
            claimed = [_row(row) for row in rows]
            await connection.commit()
        return claimed

    async def settle(
        self, token: str, accepted: Sequence[int], later: Mapping[int, tuple[int, str]], failed: Mapping[int, str], now: int
    ) -> None:
        """End claims: delete the accepted, put others back with the time when they are due and the error, keep the failed with theirs."""
        t = self._table
        async with self._engine.begin() as connection:
            if accepted:
                await connection.execute(delete(t).where(t.c.id.in_(accepted), t.c.claimed_by == token))
            for row_id, (due_at, error) in later.items():
                await self._keep(connection, row_id, token, {"due_at": due_at, "last_error": error[:MAX_ERROR_CHARS]})
            for row_id, error in failed.items():
                await self._keep(connection, row_id, token, {"failed_at": now, "last_error": error[:MAX_ERROR_CHARS]})

    async def release(self, token: str, ids: Sequence[int], error: str) -> None:
        """End claims of rows that are all due again at once, with the same error."""
        t = self._table
        back = {"due_at": 0, "claimed_by": None, "last_error": error[:MAX_ERROR_CHARS]}
        async with self._engine.begin() as connection:
            await connection.execute(update(t).where(t.c.id.in_(ids), t.c.claimed_by == token).values(back))

    async def backlog(self) -> Backlog:
        """Count what is there."""
        t = self._table
        waiting = select(func.count(), func.min(t.c.created_at)).where(t.c.failed_at == 0)
        failed = select(func.count()).select_from(t).where(t.c.failed_at != 0)
        async with self._engine.connect() as connection:
            count, oldest = (await connection.execute(waiting)).one()
            return Backlog(count, oldest, (await connection.execute(failed)).scalar_one())

    async def rows(self, limit: int, *, failed: bool | None = None) -> Sequence[OutboxRow]:
        """The oldest rows: those that wait, those that were rejected, or both."""
        t = self._table
        async with self._engine.connect() as connection:
            chosen = (await self._all(connection)).order_by(t.c.id).limit(limit)
            if failed is not None:
                chosen = chosen.where(t.c.failed_at != 0 if failed else t.c.failed_at == 0)
            return [_row(row) for row in await connection.execute(chosen)]

    async def retry(self, ids: Sequence[int] | None) -> int:
        """Make rejected rows due again, all of them with None; returns how many."""
        again = {"failed_at": 0, "due_at": 0, "claimed_by": None, "attempts": 0}
        async with self._engine.begin() as connection:
            return (await connection.execute(update(self._table).where(self._rejected(ids)).values(again))).rowcount

    async def discard(self, ids: Sequence[int] | None) -> int:
        """Delete rejected rows, all of them with None; returns how many."""
        async with self._engine.begin() as connection:
            return (await connection.execute(delete(self._table).where(self._rejected(ids)))).rowcount

    async def _all(self, connection: AsyncConnection) -> Select[Any]:
        """Select whole rows. A table that an earlier version made has no `run_at` until somebody adds it, while relays run.

        Asked after rows were found: what they see of the table is at least as new as the rows, so no time of a job is overlooked.
        """
        t = self._table
        if not self._has_run_at:
            columns = await connection.run_sync(lambda one: inspect(one).get_columns(t.name, schema=self._schema))
            self._has_run_at = any(column["name"] == t.c.run_at.name for column in columns)
        return select(t) if self._has_run_at else select(*(column for column in t.c if column is not t.c.run_at))

    def _rejected(self, ids: Sequence[int] | None) -> ColumnElement[bool]:
        t = self._table
        return t.c.failed_at != 0 if ids is None else (t.c.failed_at != 0) & t.c.id.in_(ids)

    async def _keep(self, connection: AsyncConnection, row_id: int, token: str, values: Mapping[str, Any]) -> None:
        t = self._table
        await connection.execute(update(t).where(t.c.id == row_id, t.c.claimed_by == token).values(claimed_by=None, **values))


def _row(row: Row[Any]) -> OutboxRow:
    run_at = _EPOCH + timedelta(milliseconds=row.run_at) if getattr(row, "run_at", 0) else None
    job = NewJob(row.job_type, row.payload, row.tenant, row.priority or None, row.request_id, row.on_open or None, run_at=run_at)
    return OutboxRow(row.id, job, row.created_at, row.attempts, row.failed_at, row.last_error or "")

"""The audit log on SQLite and PostgreSQL: rows are added, get their result once, and are deleted when they are old."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, delete, literal, select, tuple_

from sickbay.adapters.sql.chunks import MAX_VALUES
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.paging import cursor as cursor_of
from sickbay.adapters.sql.paging import parse_cursor
from sickbay.adapters.sql.rows import AnyRow
from sickbay.adapters.sql.schema import audit_entries
from sickbay.concurrency.tasks import detached
from sickbay.domain.audit import REFUSED, STARTED, AuditEntry, AuditQuery, bounded, merged
from sickbay.domain.queries import Page

_c: Final = audit_entries.c
_NAMES: Final = tuple(one.name for one in fields(AuditEntry))
_EQUAL: Final = ("principal", "action", "target", "tenant", "result")


class SqlAudit:
    """Implements `AuditStore`."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self.detached = store.detached
        new = store.insert(audit_entries)
        self._put = new.on_conflict_do_update(
            index_elements=[_c.entry_id],
            set_={name: new.excluded[name] for name in _NAMES if name != "entry_id"},
            where=(_c.result == STARTED) & (new.excluded.result != STARTED),
        )

    @detached
    async def record(self, entries: Sequence[AuditEntry]) -> None:
        """Store each, or give a STARTED one its result."""
        latest: dict[str, AuditEntry] = {}  # one statement cannot write a row twice
        for entry in entries:
            latest[entry.entry_id] = merged(latest.get(entry.entry_id), bounded(entry))
        if not latest:
            return
        # In one order, so that several writers never wait for each other in a circle.
        rows = [_values(latest[entry_id]) for entry_id in sorted(latest)]
        async with self._store.write() as connection:
            await connection.execute(self._put, rows)

    @detached
    async def find_entries(self, query: AuditQuery, limit: int, cursor: str) -> Page[AuditEntry]:
        """Latest first, unless the query says otherwise."""
        wanted = _wanted(query)
        place = tuple_(_c.at, _c.entry_id)
        if cursor:
            at, (entry_id,) = parse_cursor(cursor, 1)
            after = (at, entry_id)
            wanted.append(place > after if query.oldest_first else place < after)
        order = (_c.at, _c.entry_id) if query.oldest_first else (_c.at.desc(), _c.entry_id.desc())
        listed = select(audit_entries).where(*wanted).order_by(*order).limit(limit + 1)
        async with self._store.read() as connection:
            rows = (await connection.execute(listed)).all()
        more = cursor_of(rows[limit - 1].at, rows[limit - 1].entry_id) if len(rows) > limit else ""
        return Page([_entry(row) for row in rows[:limit]], more)

    async def prune(self, now: int, keep_ms: int) -> int:
        """Delete what is older, in small transactions."""
        time = self._store.time if self._store.own_time else literal(now, BigInteger)
        deleted = 0
        while True:
            gone = await self._store.detached.run(self._prune(time - keep_ms))
            deleted += gone
            if gone < MAX_VALUES:
                return deleted

    async def _prune(self, before: ColumnElement[int]) -> int:
        old = select(_c.entry_id).where(_c.at < before).order_by(_c.at).limit(MAX_VALUES)
        async with self._store.write(grows=False) as connection:
            ids = list((await connection.execute(old)).scalars())
            if ids:
                await connection.execute(delete(audit_entries).where(_c.entry_id.in_(ids)))
        return len(ids)


def _values(entry: AuditEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _NAMES}


def _entry(row: AnyRow) -> AuditEntry:
    return AuditEntry(**{name: row._mapping[name] for name in _NAMES})  # noqa: SLF001 - `count` is a method of rows


def _wanted(query: AuditQuery) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = [_c[name] == value for name in _EQUAL if (value := getattr(query, name))]
    if query.refused:
        wanted.append(_c.result.in_(sorted(REFUSED)))
    if query.since is not None:
        wanted.append(_c.at >= query.since)
    if query.until is not None:
        wanted.append(_c.at < query.until)
    if query.visible is not None:
        wanted.append(_c.tenant.in_(sorted(query.visible)))
        wanted.append(_c.tenant != "")
    return wanted

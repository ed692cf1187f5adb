"""Incidents on SQLite and PostgreSQL: one transaction reads the latest incident of a breaker, advances it and writes it.

Only one transaction at a time does that (SQLite has one writer, on PostgreSQL a lock serialises them), so of several control planes that
tell of the same opening one creates the incident and the others find it. The whole incident is JSON in one column: a newer version may add
fields, an older one ignores them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.incident_jobs import Tally, name_failed_jobs, tally
from sickbay.adapters.sql.incident_notices import announce
from sickbay.adapters.sql.of_tenants import of_tenants
from sickbay.adapters.sql.paging import cursor as cursor_of
from sickbay.adapters.sql.paging import parse_cursor
from sickbay.adapters.sql.rows import AnyRow
from sickbay.adapters.sql.schema import incidents
from sickbay.concurrency.tasks import detached
from sickbay.domain.breaker import BreakerKey, BreakerRule, Snapshot
from sickbay.domain.errors import ErrorReason, NotFound
from sickbay.domain.incident import (
    Incident,
    IncidentQuery,
    IncidentRules,
    acknowledge,
    advance,
    change_between,
    vanish,
)
from sickbay.domain.queries import Page
from sickbay.ports import Clock
from sickbay.ports.incidents import Step

COUNTED_MS: Final = 60_000
"""A closed incident is counted at least for so long: events of its last jobs may still be on their way to the ledger."""
MAX_UNFINISHED: Final = 10_000
"""Unfinished incidents read at a time, the oldest; there are about as many as open breakers."""

_c: Final = incidents.c
_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.sickbay.incidents', 0))")
_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Incident)

Advance = Callable[[Incident | None], Incident | None]


class SqlIncidents:
    """Implements `IncidentStore`."""

    def __init__(self, store: Database, clock: Clock, rules: IncidentRules) -> None:
        self._store = store
        self.detached = store.detached
        self._clock = clock
        self._rules = rules

    @detached
    async def observe(self, breaker: Snapshot) -> Step:
        """Advance the latest incident of this breaker, atomically for the whole fleet."""

        def step(latest: Incident | None) -> Incident | None:
            return advance(latest, breaker, self._rules.window_ms)

        async with self._store.read() as connection:
            latest = await _latest(connection, breaker.key)
        # Most of what a control plane tells has been told by another, or changes nothing: that needs no lock.
        return Step(latest) if step(latest) is latest else await self._take(breaker.key, step)

    @detached
    async def close_missing(self, incident: Incident) -> Step:
        """Close an incident whose breaker does not exist any more, unless it has changed since it was read."""

        def step(latest: Incident | None) -> Incident | None:
            same = latest is not None and (latest.number, latest.rev) == (incident.number, incident.rev)
            return vanish(latest, self._clock()) if latest is not None and same else latest

        return await self._take(incident.key, step)

    @detached
    async def unfinished(self) -> Sequence[Incident]:
        """Those that are open, and closed ones whose parked jobs have not all been brought back yet; oldest first."""
        async with self._store.read() as connection:
            rows = await connection.execute(select(incidents).where(_c.unfinished == 1).order_by(_c.number).limit(MAX_UNFINISHED))
            return [_incident(row) for row in rows]

    @detached
    async def count_jobs(self, incident: Incident, scope: BreakerRule, traces: Mapping[str, str]) -> Incident:
        """Count its jobs in the ledger, and name those whose failures opened the breaker."""
        async with self._store.read() as connection:
            found = await tally(connection, incident, scope)
            jobs = await name_failed_jobs(connection, incident, scope, traces)

        def step(latest: Incident | None) -> Incident | None:
            return replace(latest, jobs=found.counts, cause=replace(latest.cause, jobs=jobs)) if latest is not None else None

        after = step(incident)
        finished = self._is_counted(incident, found)
        if after == incident and not finished:
            return incident
        async with self._writing() as connection:
            row = (await connection.execute(select(incidents).where(_c.number == incident.number))).first()
            latest = step(_incident(row) if row is not None else None)
            if latest is None:
                return incident
            unfinished = 0 if finished and latest.closed_at == incident.closed_at else 1
            await _write(connection, latest, unfinished)
        return latest

    def _is_counted(self, incident: Incident, found: Tally) -> bool:
        return incident.closed_at is not None and found.waiting == 0 and self._clock() - incident.closed_at >= COUNTED_MS

    @detached
    async def open_counts(self) -> Mapping[str, int]:
        """How many incidents are open, by job type."""
        query = select(_c.job_type, func.count().label("size")).where(_c.closed_at.is_(None)).group_by(_c.job_type)
        async with self._store.read() as connection:
            return {row.job_type: row.size for row in await connection.execute(query)}

    @detached
    async def find_incidents(self, query: IncidentQuery, limit: int, cursor: str) -> Page[Incident]:
        """Latest first."""
        wanted = _wanted(query)
        if cursor:
            number, _ = parse_cursor(cursor, 0)
            wanted.append(_c.number < number)
        listed = select(incidents).where(*wanted).order_by(_c.number.desc()).limit(limit + 1)
        async with self._store.read() as connection:
            rows = (await connection.execute(listed)).all()
        return Page([_incident(row) for row in rows[:limit]], cursor_of(rows[limit - 1].number) if len(rows) > limit else "")

    @detached
    async def get_incident(self, number: int) -> Incident | None:
        """The incident, None if it is unknown."""
        async with self._store.read() as connection:
            row = (await connection.execute(select(incidents).where(_c.number == number))).first()
        return _incident(row) if row is not None else None

    @detached
    async def acknowledge(self, number: int, actor: str, note: str) -> Incident:
        """Keep who has taken note of it; NotFound."""
        async with self._writing() as connection:
            row = (await connection.execute(select(incidents).where(_c.number == number))).first()
            if row is None:
                raise NotFound(f"there is no incident {number}", ErrorReason.INCIDENT_NOT_FOUND)
            before = _incident(row)
            after = acknowledge(before, actor, note, self._clock())
            if after is not before:
                await _write(connection, after, row.unfinished)
        return after

    async def _take(self, key: BreakerKey, step: Advance) -> Step:
        """Advance the latest incident of a breaker, and tell the webhook in the same transaction."""
        async with self._writing() as connection:
            before = await _latest(connection, key)
            after = step(before)
            if after is None or after is before:
                return Step(before)
            if after.number:
                await _write(connection, after, 1)
            else:
                new = _values(after, 1)
                number = (await connection.execute(self._store.insert(incidents).values(new).returning(_c.number))).scalar_one()
                after = replace(after, number=number)
            change = change_between(before, after)
            if self._rules.announces and change is not None:
                await announce(connection, self._store, after, change, self._rules)
        return Step(after, change)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is the only one on incidents, of all processes."""
        async with self._store.write() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(_LOCK)
            yield connection


async def _latest(connection: AsyncConnection, key: BreakerKey) -> Incident | None:
    mine = (_c.job_type == key.job_type, _c.tenant == key.tenant)
    row = (await connection.execute(select(incidents).where(*mine).order_by(_c.number.desc()).limit(1))).first()
    return _incident(row) if row is not None else None


async def _write(connection: AsyncConnection, incident: Incident, unfinished: int) -> None:
    await connection.execute(update(incidents).where(_c.number == incident.number).values(_values(incident, unfinished)))


def _values(incident: Incident, unfinished: int) -> dict[str, Any]:
    return {
        "job_type": incident.key.job_type,
        "tenant": incident.key.tenant,
        "opened_at": incident.opened_at,
        "closed_at": incident.closed_at,
        "unfinished": unfinished,
        "body": _encode(incident),
    }


def _incident(row: AnyRow) -> Incident:
    return replace(_decoder.decode(row.body), number=row.number)


def _wanted(query: IncidentQuery) -> list[ColumnElement[bool]]:
    wanted = of_tenants(_c.tenant, query.tenants)
    if query.job_type:
        wanted.append(_c.job_type == query.job_type)
    if query.is_open is not None:
        wanted.append(_c.closed_at.is_(None) if query.is_open else _c.closed_at.is_not(None))
    return wanted

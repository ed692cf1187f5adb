"""Finds unfinished jobs without an event for a long time, and leases them so that they can be published again.

A lease is the same as in `quarantine_store.py`: durable before the job is published, ended by `mark_released`, or taken over by another
process once it has expired. It also revokes the old generation, so that a copy that turns up after all does not run beside the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.change_feed import ChangeFeed
from sickbay.adapters.sql.chunks import chunks
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.of_tenants import of_tenants
from sickbay.adapters.sql.paging import cursor as cursor_of
from sickbay.adapters.sql.paging import parse_cursor
from sickbay.adapters.sql.quarantine_store import LEASE_MS, NO_LONGER_ASIDE, lease_of
from sickbay.adapters.sql.rows import LISTED, change_values, record_of
from sickbay.adapters.sql.schema import job_changes, jobs
from sickbay.adapters.sql.starts import Starts
from sickbay.concurrency.tasks import detached
from sickbay.domain.job import JobEvent, JobRecord, JobState, StateChange
from sickbay.domain.queries import LostCandidate, LostQuery, OldestJob, Page, ReleaseLease
from sickbay.ports import Clock

_c: Final = jobs.c
_UNFINISHED: Final = _c.state.in_([JobState.QUEUED.value, JobState.RETRYING.value, JobState.RUNNING.value])
_FOUND: Final = (*LISTED, _c.payload.is_not(None).label("has_payload"))


class SqlLost:
    """Implements `Lost`."""

    def __init__(self, store: Database, feed: ChangeFeed, starts: Starts, clock: Clock) -> None:
        self._store = store
        self.detached = store.detached
        self._feed = feed
        self._starts = starts
        self._clock = clock
        self._add_changes = store.bulk(store.insert(job_changes).on_conflict_do_nothing(), job_changes.c.keys())

    @detached
    async def oldest(self) -> Sequence[OldestJob]:
        """Of the unfinished jobs, by state and type, the time of the oldest last event."""
        query = select(_c.state, _c.job_type, func.min(_c.updated_at).label("since")).where(_UNFINISHED).group_by(_c.state, _c.job_type)
        async with self._store.read() as connection:
            return [OldestJob(JobState(row.state), row.job_type, row.since) for row in await connection.execute(query)]

    @detached
    async def find_lost(self, query: LostQuery, limit: int, cursor: str) -> Page[LostCandidate]:
        """Unfinished jobs, the one with the oldest last event first; jobs named by the query in any state."""
        wanted = _wanted(query)
        if cursor:
            at, (job_id,) = parse_cursor(cursor, 1)
            wanted.append(tuple_(_c.updated_at, _c.job_id) > (at, job_id))
        listed = select(*_FOUND).where(*wanted).order_by(_c.updated_at, _c.job_id).limit(limit + 1)
        async with self._store.read() as connection:
            rows = (await connection.execute(listed)).all()
        more = cursor_of(rows[limit - 1].updated_at, rows[limit - 1].job_id) if len(rows) > limit else ""
        return Page([LostCandidate(record_of(row), bool(row.has_payload), row.lease_until is not None) for row in rows[:limit]], more)

    @detached
    async def lease_lost(self, records: Sequence[JobRecord], actor: str) -> Sequence[ReleaseLease]:
        """Lease those that are unchanged since they were read and have a payload; no run of their old generation begins any more."""
        leases: list[ReleaseLease] = []
        for chunk in chunks(records):
            leases += await self._lease(chunk, actor)
        return leases

    async def _lease(self, records: Sequence[JobRecord], actor: str) -> Sequence[ReleaseLease]:
        ids = [record.job.job_id for record in records]
        lease = {"lease_until": self._store.time + LEASE_MS, "claim_attempt": _c.attempt, "claim_actor": actor, "called_off": _c.generation}
        take = update(jobs).where(*_same(records), _c.payload.is_not(None)).values(lease).returning(*_c)
        async with self._feed.write(ids) as write:
            await self._store.lock(write.connection, ids)
            rows = (await write.connection.execute(take)).all()
            left = [(row.job_id, row.generation) for row in rows]
            write.revoke(left)
        self._starts.revoke(left)
        return [lease_of(row, maybe_duplicate=True) for row in rows]

    @detached
    async def discard_lost(self, records: Sequence[JobRecord], actor: str, message: str) -> Sequence[JobRecord]:
        """Discard those that are unchanged since they were read and have no payload, with this message in their history."""
        discarded: list[JobRecord] = []
        for chunk in chunks(records):
            discarded += await self._discard(chunk, actor, message)
        return discarded

    async def _discard(self, records: Sequence[JobRecord], actor: str, message: str) -> Sequence[JobRecord]:
        now, ids = self._clock(), [record.job.job_id for record in records]
        end = {"state": JobState.DISCARDED.value, "rank": JobState.DISCARDED.rank, "updated_at": now, **NO_LONGER_ASIDE}
        async with self._feed.write(ids) as write:
            await self._store.lock(write.connection, ids)
            closed = (
                await write.connection.execute(update(jobs).where(*_same(records), _c.payload.is_(None)).values(end).returning(_c.job_id))
            ).scalars()
            known = await _read(write.connection, list(closed))
            events = [JobEvent(record.job, JobState.DISCARDED, now, actor=actor, code="LOST", message=message) for record in known]
            await self._add_changes.run(write.connection, [change_values(event) for event in events])
            write.record(
                (record, StateChange(now, record.state, record.job.generation, record.job.attempt, "LOST", message, actor))
                for record in known
            )
            left = [(record.job.job_id, record.job.generation) for record in known]
            write.revoke(left)
        self._starts.revoke(left)
        return known


async def _read(connection: AsyncConnection, ids: Sequence[str]) -> Sequence[JobRecord]:
    return [record_of(row) for row in await connection.execute(select(*LISTED).where(_c.job_id.in_(ids)))]


def _wanted(query: LostQuery) -> list[ColumnElement[bool]]:
    theirs = of_tenants(_c.tenant, query.tenants)
    if query.job_ids:
        return [_c.job_id.in_(query.job_ids), *theirs]
    wanted: list[ColumnElement[bool]] = [_UNFINISHED, _c.updated_at <= query.before, *theirs]
    if query.job_type:
        wanted.append(_c.job_type == query.job_type)
    return wanted


def _same(records: Sequence[JobRecord]) -> list[ColumnElement[Any]]:
    """The rows are unchanged since they were read, and not leased."""
    seen = [(one.job.job_id, one.job.generation, one.job.attempt, one.state.value, one.updated_at) for one in records]
    place = tuple_(_c.job_id, _c.generation, _c.attempt, _c.state, _c.updated_at)
    # The ids are redundant, but SQLite finds rows by them, and would scan the whole table for the tuples.
    return [_c.job_id.in_([one.job.job_id for one in records]), place.in_(seen), _c.lease_until.is_(None), _UNFINISHED]

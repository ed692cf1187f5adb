"""Takes jobs out of quarantine: leases, releases, discards. Lost jobs are leased by `lost.py`.

A lease is durable before the job is published, so if its holder dies, it expires, and another process publishes again what may have been
published before (`lease_expired`). Until `mark_released` the row stays as it was, PARKED or QUARANTINED in its old generation: a copy of
the new generation that ran meanwhile is the later truth and simply replaces it. Every write names the row it means (generation, attempt,
state, revision), so of two writers of the same job one finds nothing to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import CTE, ColumnElement, and_, insert, null, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.change_feed import ChangeFeed
from sickbay.adapters.sql.chunks import chunks
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.quarantine_queries import UNHANDLED, QuarantineQueries
from sickbay.adapters.sql.reader import ONE
from sickbay.adapters.sql.rows import WHOLE, AnyRow, change_values, job_of, record_of
from sickbay.adapters.sql.schema import job_changes, job_revisions, jobs
from sickbay.adapters.sql.starts import Starts
from sickbay.adapters.sql.subscribers import JobChange
from sickbay.concurrency.tasks import detached
from sickbay.domain.access import Tenants
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import Aborted, FailedPrecondition, NotFound
from sickbay.domain.job import JobEvent, JobRecord, JobState, StateChange
from sickbay.domain.queries import JobEdit, ReleaseLease
from sickbay.domain.storable import MAX_COUNT
from sickbay.ports import Clock

LEASE_MS: Final = 30_000
EXPIRED: Final = 50
"""Leases taken over at a time: each has its payload, which may be a megabyte."""

_c: Final = jobs.c
_QUEUED_AGAIN: Final[dict[str, Any]] = {
    **dict.fromkeys(("set_aside_at", "reason", "message", "fingerprint", "trace"), null()),
    **dict.fromkeys(("lease_until", "claim_attempt", "claim_actor"), null()),
}
NO_LONGER_ASIDE: Final[dict[str, Any]] = {**_QUEUED_AGAIN, "payload": null()}
"""The columns cleared when a job has ended. Until then its payload stays, in case its queue is lost."""


class SqlQuarantineStore(QuarantineQueries):
    """Implements `QuarantineStore`; the reading half is in `quarantine_queries.py`."""

    def __init__(self, store: Database, feed: ChangeFeed, starts: Starts, clock: Clock) -> None:
        super().__init__(store)
        self._feed = feed
        self._starts = starts
        self._clock = clock
        self._add_changes = store.bulk(store.insert(job_changes).on_conflict_do_nothing(), job_changes.c.keys())

    @detached
    async def lease_parked(self, key: BreakerKey, limit: int) -> Sequence[ReleaseLease]:
        """Lease the longest parked jobs of a type and tenant; nobody else gets them until the lease expires."""
        waiting = and_(
            _c.set_aside_at.is_not(None),
            _c.state == JobState.PARKED.value,
            _c.job_type == key.job_type,
            _c.tenant == key.tenant,
            _c.lease_until.is_(None),
            _c.generation < MAX_COUNT,
        )
        rows = await self._lease(waiting, (_c.set_aside_at, _c.job_id), limit, {"claim_attempt": _c.attempt, "claim_actor": ""})
        return [lease_of(row) for row in rows]

    @detached
    async def lease_unhandled(self, key: BreakerKey, limit: int) -> Sequence[ReleaseLease]:
        """The same of jobs that are quarantined as UNKNOWN_TYPE."""
        waiting = and_(*UNHANDLED, _c.job_type == key.job_type, _c.tenant == key.tenant)
        rows = await self._lease(waiting, (_c.set_aside_at, _c.job_id), limit, {"claim_attempt": _c.attempt, "claim_actor": ""})
        return [lease_of(row) for row in rows]

    @detached
    async def lease_expired(self) -> Sequence[ReleaseLease]:
        """Take over leases whose holder died before `mark_released`, at most 50; the jobs may have been published: `maybe_duplicate`."""
        now = self._store.time
        # A lease that ends later than possible was given before the clock was set back: it counts as expired.
        over = or_(_c.lease_until <= now, _c.lease_until > now + 2 * LEASE_MS)
        rows = await self._lease(over, (_c.lease_until, _c.job_id), EXPIRED, {})
        return [lease_of(row, maybe_duplicate=True) for row in rows]

    @detached
    async def lease_job(self, job_id: str, edit: JobEdit, etag: str, actor: str, tenants: Tenants = None) -> ReleaseLease:
        """Lease one job for a resubmit, its attempt back at 0, and keep the edit as a revision.

        NotFound, also if it is of none of these tenants, Aborted(ETAG_MISMATCH), or FailedPrecondition if it is not set aside or is
        already being released.
        """
        now = self._clock()
        async with self._store.write() as connection:
            row, record = await _read_changeable(connection, job_id, etag, tenants)
            if row.generation >= MAX_COUNT:
                raise FailedPrecondition(
                    f"the job is in generation {row.generation}, after which there is none: discard it, and submit it again"
                )
            values = {"lease_until": self._store.time + LEASE_MS, "claim_attempt": 0, "claim_actor": actor}
            if edit != JobEdit():
                values |= _revised(row, edit)
            await _change(connection, row, values)
            if edit != JobEdit():
                await _keep_revision(connection, row, edit, now, actor)
        payload = record.job.payload_json if edit.payload_json is None else edit.payload_json
        kind, priority = edit.job_type or record.job.job_type, edit.priority or record.job.priority
        job = replace(record.job, job_type=kind, priority=priority, payload_json=payload, generation=record.job.generation + 1, attempt=0)
        return ReleaseLease(job, actor, f"priority {priority}, was {record.job.priority}" if priority is not record.job.priority else "")

    @detached
    async def mark_released(self, leases: Sequence[ReleaseLease], *, records: bool = True) -> Sequence[JobRecord]:
        """The jobs are durable in a lane: their rows become QUEUED in the new generation, unless a later event came already.

        Returns the current record of each leased job, in the order of the leases; nothing if the caller has no use for `records`.
        """
        found: list[JobRecord] = []
        for chunk in chunks(leases):
            found += await self._released(chunk, self._clock(), records=records)
        return found if records else ()

    async def _released(self, leases: Sequence[ReleaseLease], now: int, *, records: bool) -> Sequence[JobRecord]:
        of_job = {lease.job.job_id: lease for lease in leases}
        async with self._feed.write(of_job) as write:
            await self._store.lock(write.connection, of_job)
            requeued = await _requeue(write.connection, leases, now)
            events = [JobEvent(lease.job, JobState.QUEUED, now, actor=lease.actor, message=lease.message) for lease in leases]
            await self._add_changes.run(write.connection, [change_values(event) for event in events])
            wanted = of_job if records else write.watched(of_job)
            rows = await write.connection.execute(select(*WHOLE).where(_c.job_id.in_(wanted))) if wanted else ()
            known = {row.job_id: record_of(row) for row in rows}
            changed = [(known[job_id], of_job[job_id]) for job_id in known if job_id in requeued]
            write.record(_job_change(record, lease.actor, lease.message) for record, lease in changed)
            write.notify(event for event in events if event.job.job_id in requeued and event.job.job_id not in known)
        return [known[job_id] for job_id in of_job if job_id in known]

    @detached
    async def discard(self, job_id: str, etag: str, actor: str, tenants: Tenants = None) -> JobRecord:
        """Discard a job. The errors of `lease_job`; discarding a discarded job returns it."""
        now = self._clock()
        async with self._feed.write([job_id]) as write:
            connection = write.connection
            found = (await connection.execute(ONE, {"job": job_id})).first()
            if found and found.state == JobState.DISCARDED.value and is_of(found, tenants):
                return record_of(found)
            row, record = await _read_changeable(connection, job_id, etag, tenants)
            values = {"state": JobState.DISCARDED.value, "rank": JobState.DISCARDED.rank, "updated_at": now}
            await _change(connection, row, {**values, **NO_LONGER_ASIDE})
            await self._add_changes.run(connection, [change_values(JobEvent(record.job, JobState.DISCARDED, now, actor=actor))])
            record = record_of((await connection.execute(ONE, {"job": job_id})).one())
            write.record([_job_change(record, actor)])
            write.revoke([(job_id, record.job.generation)])
        self._starts.revoke([(job_id, record.job.generation)])
        return record

    async def _lease(self, which: ColumnElement[bool], order: tuple[Any, ...], limit: int, values: dict[str, Any]) -> list[AnyRow]:
        """Lease the first rows that no other process is leasing, in one statement."""
        found: CTE = select(_c.job_id).where(which).order_by(*order).limit(limit).with_for_update(skip_locked=True).cte("found")
        lease = update(jobs).where(_c.job_id.in_(select(found.c.job_id)), which)
        async with self._store.write(grows=False) as connection:
            returned = await connection.execute(lease.values(lease_until=self._store.time + LEASE_MS, **values).returning(*jobs.c))
            rows = list(returned)
        return sorted(rows, key=lambda row: (row.set_aside_at or 0, row.job_id))


def is_of(row: AnyRow, tenants: Tenants) -> bool:
    """Whether the job of a row is of these tenants."""
    return tenants is None or row.tenant in tenants


async def _read_changeable(connection: AsyncConnection, job_id: str, etag: str, tenants: Tenants) -> tuple[AnyRow, JobRecord]:
    """The row, if a client that saw `etag` may change it; else an error: one of another tenant is as one that does not exist."""
    row = (await connection.execute(ONE, {"job": job_id})).first()
    if row is None or not is_of(row, tenants):
        raise NotFound(f"no job {job_id!r}")
    record = record_of(row)
    if not record.state.in_quarantine:
        raise FailedPrecondition(f"the job is {record.state.value}, not in quarantine")
    if row.lease_until is not None:
        raise FailedPrecondition("the job is being released right now")
    if etag and etag != record.etag:
        raise Aborted("the job has changed since you read it")
    return row, record


async def _requeue(connection: AsyncConnection, leases: Sequence[ReleaseLease], now: int) -> set[str]:
    """Make the leased rows QUEUED, and return those that were still in their old generation."""
    places: dict[int, list[tuple[str, int]]] = {}
    for lease in leases:
        places.setdefault(lease.job.attempt, []).append((lease.job.job_id, lease.job.generation - 1))
    requeued: set[str] = set()
    for attempt, rows in places.items():
        values = {
            "state": JobState.QUEUED.value,
            "rank": JobState.QUEUED.rank,
            "attempt": attempt,
            "updated_at": now,
            "run": "",
            "started_at": None,
        }
        # The ids are redundant, but SQLite finds rows by them, and would scan the whole table for the pairs.
        requeue = update(jobs).where(
            _c.job_id.in_([job_id for job_id, _ in rows]), tuple_(_c.job_id, _c.generation).in_(rows), _c.lease_until.is_not(None)
        )
        returned = await connection.execute(requeue.values(generation=_c.generation + 1, **values, **_QUEUED_AGAIN).returning(_c.job_id))
        requeued |= set(returned.scalars())
    return requeued


def lease_of(row: AnyRow, *, maybe_duplicate: bool = False) -> ReleaseLease:
    """The lease of a row, with the copy to publish."""
    job = replace(job_of(row), generation=row.generation + 1, attempt=row.claim_attempt, maybe_duplicate=maybe_duplicate)
    return ReleaseLease(job, row.claim_actor or "")


def _revised(row: AnyRow, edit: JobEdit) -> dict[str, Any]:
    """The new values of the row, so that an expired lease is published as edited."""
    after = row.payload if edit.payload_json is None else edit.payload_json
    priority = edit.priority.value if edit.priority else row.priority
    return {"revision": row.revision + 1, "payload": after, "job_type": edit.job_type or row.job_type, "priority": priority}


async def _keep_revision(connection: AsyncConnection, row: AnyRow, edit: JobEdit, now: int, actor: str) -> None:
    """Store the edit, once the row is changed: so nobody else stores one of the same number."""
    after = row.payload if edit.payload_json is None else edit.payload_json
    kept = {"job_id": row.job_id, "revision": row.revision + 1, "at": now, "actor": actor, "before": row.payload, "after": after}
    await connection.execute(insert(job_revisions).values(kept))


async def _change(connection: AsyncConnection, row: AnyRow, values: dict[str, Any]) -> None:
    """Change the row that was read, or raise Aborted if another process was faster."""
    same = and_(
        *(_c[name] == getattr(row, name) for name in ("job_id", "generation", "attempt", "state", "revision")), _c.lease_until.is_(None)
    )
    if (await connection.execute(update(jobs).where(same).values(values).returning(_c.job_id))).first() is None:
        raise Aborted("the job has changed since you read it")


def _job_change(record: JobRecord, actor: str, message: str = "") -> JobChange:
    job = record.job
    return record, StateChange(record.updated_at, record.state, job.generation, job.attempt, message=message, actor=actor)

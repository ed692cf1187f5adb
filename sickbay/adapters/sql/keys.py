"""Idempotency keys: exactly one of many equal requests is accepted, and one that died half-way is continued by the next."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, and_, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.retention import KEY_RETENTION_MS
from sickbay.adapters.sql.rows import AnyRow
from sickbay.adapters.sql.schema import idempotency_keys
from sickbay.concurrency.tasks import detached
from sickbay.domain.errors import Aborted, AlreadyExists, ErrorReason
from sickbay.domain.queries import Reservation

LEASE_MS: Final = 30_000

_c: Final = idempotency_keys.c


class SqlIdempotencyKeys:
    """Implements `IdempotencyKeys`."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self.detached = store.detached
        taken = {"submitted_at": store.time, "lease_until": store.time + LEASE_MS}
        taken |= {name: bindparam(name) for name in ("tenant", "key", "digest", "job_id")}
        self._take = store.insert(idempotency_keys).values(taken).on_conflict_do_nothing().returning(_c.submitted_at)

    @detached
    async def reserve(self, tenant: str, key: str, digest: bytes, job_id: str) -> Reservation:
        """Reserve the key for `job_id`, or return its owner; see the port."""
        now = self._store.time
        taken = {"tenant": tenant, "key": key, "digest": digest, "job_id": job_id}
        async with self._store.write() as connection:
            await connection.execute(delete(idempotency_keys).where(_is(tenant, key), _c.submitted_at <= now - KEY_RETENTION_MS))
            if new := (await connection.execute(self._take, taken)).first():
                return Reservation(job_id, new.submitted_at, duplicate=False)
            row = (await connection.execute(select(idempotency_keys, now.label("now")).where(_is(tenant, key)))).first()
            return await _join(connection, row, digest)

    @detached
    async def confirm(self, tenant: str, key: str) -> None:
        """The job is durable: repeats are duplicates from now on."""
        async with self._store.write() as connection:
            await connection.execute(update(idempotency_keys).where(_is(tenant, key)).values(lease_until=None))

    @detached
    async def release(self, tenant: str, key: str, job_id: str) -> None:
        """The job was certainly not accepted: the key is free again. A confirmed key stays, and one that another job has."""
        async with self._store.write(grows=False) as connection:
            await connection.execute(delete(idempotency_keys).where(_is(tenant, key), _c.job_id == job_id, _c.lease_until.is_not(None)))


async def _join(connection: AsyncConnection, row: AnyRow | None, digest: bytes) -> Reservation:
    """The result for a later request with the same key."""
    if row is not None and row.digest != digest:
        raise AlreadyExists("this idempotency key was used for a different request")
    if row is not None and row.lease_until is None:
        return Reservation(row.job_id, row.submitted_at, duplicate=True)
    # A lease that ends later than possible was given before the clock was set back.
    if row is not None and not row.now < row.lease_until <= row.now + 2 * LEASE_MS:
        same = and_(_is(row.tenant, row.key), _c.lease_until == row.lease_until)
        retaken = update(idempotency_keys).where(same).values(lease_until=row.now + LEASE_MS).returning(_c.job_id)
        if (await connection.execute(retaken)).first():
            return Reservation(row.job_id, row.submitted_at, duplicate=False, retaken=True)
    raise Aborted("a request with this idempotency key is in progress; try again later", ErrorReason.REQUEST_IN_PROGRESS)


def _is(tenant: str, key: str) -> ColumnElement[bool]:
    return and_(_c.tenant == tenant, _c.key == key)

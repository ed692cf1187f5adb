"""Idempotency keys: exactly one of many equal requests goes through, and a request that vanished half-way is continued by the next."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.prune import KEY_RETENTION_MS
from sickbay.adapters.sql.rows import AnyRow
from sickbay.adapters.sql.schema import idempotency_keys
from sickbay.adapters.sql.store import Store
from sickbay.errors import Aborted, AlreadyExists, ErrorReason
from sickbay.ports import Clock
from sickbay.queries import Reservation

LEASE_MS: Final = 30_000

_c: Final = idempotency_keys.c


class SqlIdempotencyKeys:
    """Implements `IdempotencyKeys`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._take = store.insert(idempotency_keys).on_conflict_do_nothing().returning(_c.job_id)

    async def reserve(self, tenant: str, key: str, digest: bytes, job_id: str) -> Reservation:
        """Take the key for `job_id`, or learn whose it is; see the port."""
        now = self._clock()
        taken = {"tenant": tenant, "key": key, "digest": digest, "job_id": job_id, "submitted_at": now, "lease_until": now + LEASE_MS}
        async with self._store.write() as connection:
            await connection.execute(delete(idempotency_keys).where(_is(tenant, key), _c.submitted_at <= now - KEY_RETENTION_MS))
            if (await connection.execute(self._take, taken)).first():
                return Reservation(job_id, now, duplicate=False)
            row = (await connection.execute(select(idempotency_keys).where(_is(tenant, key)))).first()
            return await _join(connection, row, digest, now)

    async def confirm(self, tenant: str, key: str) -> None:
        """The job is durable: repeats are duplicates from now on."""
        async with self._store.write() as connection:
            await connection.execute(update(idempotency_keys).where(_is(tenant, key)).values(lease_until=None))

    async def release(self, tenant: str, key: str) -> None:
        """The job was certainly not accepted: the key is free again. A confirmed key stays."""
        async with self._store.write() as connection:
            await connection.execute(delete(idempotency_keys).where(_is(tenant, key), _c.lease_until.is_not(None)))


async def _join(connection: AsyncConnection, row: AnyRow | None, digest: bytes, now: int) -> Reservation:
    """What a later request with the same key gets."""
    if row is not None and row.digest != digest:
        raise AlreadyExists("this idempotency key was used for a different request")
    if row is not None and row.lease_until is None:
        return Reservation(row.job_id, row.submitted_at, duplicate=True)
    if row is not None and row.lease_until <= now:
        same = and_(_is(row.tenant, row.key), _c.lease_until == row.lease_until)
        retaken = update(idempotency_keys).where(same).values(lease_until=now + LEASE_MS).returning(_c.job_id)
        if (await connection.execute(retaken)).first():
            return Reservation(row.job_id, row.submitted_at, duplicate=False, retaken=True)
    raise Aborted("a request with this idempotency key is under way; try again later", ErrorReason.REQUEST_IN_PROGRESS)


def _is(tenant: str, key: str) -> ColumnElement[bool]:
    return and_(_c.tenant == tenant, _c.key == key)

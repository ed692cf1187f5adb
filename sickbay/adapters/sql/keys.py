"""Idempotency keys: exactly one of many equal requests is accepted, and one that died half-way is continued by the next.

All claims of a call are decided in one transaction: it reads the rows of their keys (PostgreSQL locks them, in the order of the keys, so
that there are no deadlocks), decides in `key_decisions.py`, and writes what is new.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import TextClause, and_, bindparam, delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.key_decisions import LEASE_MS, Kept, Place, decide, in_progress, place_of
from sickbay.adapters.sql.retention import KEY_RETENTION_MS
from sickbay.adapters.sql.schema import idempotency_keys
from sickbay.concurrency.tasks import detached
from sickbay.domain.errors import SickbayError
from sickbay.domain.queries import KeyClaim, Reservation

_c: Final = idempotency_keys.c
_COLUMNS: Final = "k.tenant, k.key, k.digest, k.job_id, k.submitted_at, k.lease_until"
_FIND_SQLITE: Final = text(
    f"SELECT {_COLUMNS} FROM json_each(:wanted) AS wanted CROSS JOIN idempotency_keys AS k "  # noqa: S608 - no input
    "ON k.tenant = json_extract(wanted.value, '$[0]') AND k.key = json_extract(wanted.value, '$[1]')"
)
_FIND_POSTGRES: Final = text(
    f"SELECT {_COLUMNS} FROM unnest(CAST(:tenants AS text[]), CAST(:keys AS text[])) AS wanted (tenant, key) "  # noqa: S608 - no input
    "JOIN idempotency_keys AS k ON k.tenant = wanted.tenant AND k.key = wanted.key "
    'ORDER BY k.tenant COLLATE "C", k.key COLLATE "C" FOR UPDATE OF k'
)
_IS: Final = and_(_c.tenant == bindparam("of_tenant"), _c.key == bindparam("named"))
_FORGET: Final = delete(idempotency_keys).where(_IS)
_RETAKE: Final = update(idempotency_keys).where(_IS).values(lease_until=bindparam("until"))
_CONFIRM: Final = update(idempotency_keys).where(_IS).values(lease_until=None)
_RELEASE: Final = delete(idempotency_keys).where(_IS, _c.job_id == bindparam("of_job"), _c.lease_until.is_not(None))


class SqlIdempotencyKeys:
    """Implements `IdempotencyKeys`."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self.detached = store.detached
        self._now = select(store.time)
        self._insert = store.bulk(store.insert(idempotency_keys).on_conflict_do_nothing(), _c.keys())

    @detached
    async def reserve(self, claims: Sequence[KeyClaim]) -> Sequence[Reservation | SickbayError]:
        """Reserve each key for its job, or return its owner; see the port."""
        if not claims:
            return []
        async with self._store.write() as connection:
            now = (await connection.execute(self._now)).scalar_one()
            found = await self._find(connection, claims)
            if forgotten := [place for place, kept in found.items() if kept.submitted_at <= now - KEY_RETENTION_MS]:
                await connection.execute(_FORGET, _named(forgotten))
            kept = {place: found[place] for place in found.keys() - set(forgotten)}
            decisions = decide(claims, kept, now)
            rows = [(*place_of(one), one.digest, one.job_id, now, now + LEASE_MS) for one in sorted(decisions.new, key=place_of)]
            if not await self._insert.run(connection, rows):
                # Another process has inserted some of them since they were looked for; its transaction has ended.
                theirs = await self._taken_by_others(connection, decisions.new, now)
                decisions = decide(claims, kept | theirs, now)
            if decisions.retaken:
                await connection.execute(_RETAKE, _named(decisions.retaken, until=now + LEASE_MS))
            return decisions.results

    @detached
    async def confirm(self, claims: Sequence[KeyClaim]) -> None:
        """The jobs are durable: repeats are duplicates from now on."""
        if not claims:
            return
        async with self._store.write() as connection:
            await connection.execute(_CONFIRM, _named(map(place_of, claims)))

    @detached
    async def release(self, claims: Sequence[KeyClaim]) -> None:
        """The jobs were certainly not accepted: the keys are free again. A confirmed key stays, and one that another job has."""
        if not claims:
            return
        async with self._store.write(grows=False) as connection:
            released = [_name(place_of(claim)) | {"of_job": claim.job_id} for claim in sorted(claims, key=place_of)]
            await connection.execute(_RELEASE, released)

    async def _find(self, connection: AsyncConnection, claims: Iterable[KeyClaim]) -> dict[Place, Kept]:
        """The rows of their keys."""
        statement, parameters = self._wanted(sorted({place_of(claim) for claim in claims}))
        return {(row.tenant, row.key): Kept(*row[2:]) for row in await connection.execute(statement, parameters)}

    def _wanted(self, places: Sequence[Place]) -> tuple[TextClause, dict[str, Any]]:
        if self._store.is_sqlite:
            return _FIND_SQLITE, {"wanted": json.dumps(places)}
        return _FIND_POSTGRES, {"tenants": [tenant for tenant, _ in places], "keys": [key for _, key in places]}

    async def _taken_by_others(self, connection: AsyncConnection, claims: Sequence[KeyClaim], now: int) -> dict[Place, Kept]:
        """Those of the keys that were not inserted for these claims. One that is free again was in progress a moment ago."""
        found = await self._find(connection, claims)
        taken = {place_of(claim): found.get(place_of(claim), in_progress(claim, now)) for claim in claims}
        ours = {place_of(claim): in_progress(claim, now) for claim in claims if place_of(claim) in found}
        return {place: kept for place, kept in taken.items() if kept != ours.get(place)}


def _name(place: Place) -> dict[str, Any]:
    return {"of_tenant": place[0], "named": place[1]}


def _named(places: Iterable[Place], **more: Any) -> list[dict[str, Any]]:
    """The parameters for many rows, in the order in which all transactions lock them."""
    return [_name(place) | more for place in sorted(places)]

"""The outbox of the webhook: notices are written in the transaction of their incident, and deleted once they have been delivered.

Whoever sends a notice first moves on when it is due, which is its lease: a sender that dies leaves it to the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.schema import incident_notices
from sickbay.concurrency.tasks import detached
from sickbay.domain.incident import Change, Incident, IncidentRules
from sickbay.domain.incident_notice import notice_id, render_notice
from sickbay.ports.incidents import Notice

LATEST_MS: Final = 2 * 86_400_000
"""No notice waits for longer: the longest window and the longest pause are a day at most."""

_c: Final = incident_notices.c


class SqlIncidentNotices:
    """Implements `IncidentNotices`."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self.detached = store.detached

    @detached
    async def claim(self, limit: int, lease_ms: int) -> Sequence[Notice]:
        """The notices that have been due longest; nobody else gets them for `lease_ms`."""
        now, earlier = self._store.time, incident_notices.alias()
        # Those of one incident go out in their order: its closing waits for its opening.
        first = ~exists().where(earlier.c.number == _c.number, earlier.c.place < _c.place)
        # One that is due later than possible was written before the clock was set back.
        is_due = or_(_c.due_at <= now, _c.due_at > now + LATEST_MS)
        due = select(_c.notice_id).where(is_due, first).order_by(_c.due_at, _c.notice_id).limit(limit)
        found = due.with_for_update(skip_locked=True).cte("found")
        take = update(incident_notices).where(_c.notice_id.in_(select(found.c.notice_id)), is_due)
        async with self._store.write(grows=False) as connection:
            rows = await connection.execute(take.values(due_at=now + lease_ms, attempts=_c.attempts + 1).returning(*_c))
            notices = [Notice(row.notice_id, row.number, row.body, row.attempts, row.created_at) for row in rows]
        return sorted(notices, key=lambda one: (one.created_at, one.number))

    @detached
    async def postpone(self, notice: Notice, wait_ms: int) -> None:
        """It could not be delivered: it is due again after `wait_ms`."""
        async with self._store.write(grows=False) as connection:
            again = update(incident_notices).where(_c.notice_id == notice.notice_id).values(due_at=self._store.time + wait_ms)
            await connection.execute(again)

    @detached
    async def finish(self, notice: Notice) -> None:
        """It was delivered, or is given up."""
        async with self._store.write(grows=False) as connection:
            await connection.execute(delete(incident_notices).where(_c.notice_id == notice.notice_id))

    @detached
    async def waiting(self) -> int:
        """How many have not been delivered yet."""
        async with self._store.read() as connection:
            return (await connection.execute(select(func.count()).select_from(incident_notices))).scalar_one()


async def announce(connection: AsyncConnection, store: Database, incident: Incident, change: Change, rules: IncidentRules) -> None:
    """Write the notice of a change. A re-opening is announced only if it lasts, and a closing only if its opening was."""
    now, wait_ms = store.time, rules.window_ms if change is Change.REOPENED else 0
    if change is Change.CLOSED:
        quiet = (_c.number == incident.number, _c.change == Change.REOPENED.value, _c.attempts == 0, _c.due_at > now)
        if (await connection.execute(delete(incident_notices).where(*quiet).returning(_c.notice_id))).first() is not None:
            return
    row = {
        "notice_id": notice_id(incident, change),
        "number": incident.number,
        "change": change.value,
        "place": 2 * incident.reopenings + (change is Change.CLOSED),
        "created_at": now,
        "due_at": now + wait_ms,
        "attempts": 0,
        "body": render_notice(incident, change),
    }
    await connection.execute(store.insert(incident_notices).values(row).on_conflict_do_nothing())

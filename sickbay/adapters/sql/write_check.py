"""Tests regularly whether the ledger accepts writes, for the health check: an idle system writes nothing, and reads work on a full disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from sqlalchemy import text

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.schema import write_check
from sickbay.concurrency.pauses import jitter
from sickbay.concurrency.tasks import detached
from sickbay.domain.errors import Unavailable
from sickbay.domain.health import Streak

TRY_S: Final = 10.0
TRY_AGAIN_S: Final = 2.0
"""While it fails."""

_SMALL_MEMORY: Final = text("SELECT set_config('work_mem', '64kB', true), set_config('temp_tablespaces', '', true)")
_NEEDS_SPACE: Final = text(
    """
    SELECT count(*) FROM generate_series(1, CASE
        WHEN pg_size_bytes(current_setting('temp_file_limit')) BETWEEN 0 AND 1048576 THEN 0 ELSE 4000 END)
    """
)
"""Writes 200 KB to a temporary file in the tablespace of the database. A row that is updated reuses its page, and the write-ahead log its
files, so the update alone succeeds on a full disk. Omitted where `temp_file_limit` forbids such files."""


class WriteCheck:
    """Updates one row every 10 s unless something else was written meanwhile, and every 2 s while that fails.

    On PostgreSQL the transaction needs free disk space, too.
    """

    def __init__(self, store: Database, is_up: Callable[[], bool]) -> None:
        """`is_up`: whether there is a connection; without one nothing is tried, and the connection itself says why."""
        self._store = store
        self._is_up = is_up
        self.detached = store.detached
        self._fails = False
        self._streak = Streak()
        self._write = store.insert(write_check).values(id=1, at=store.time)
        self._write = self._write.on_conflict_do_update(index_elements=["id"], set_={"at": self._write.excluded.at})

    @property
    def trouble(self) -> str:
        """Why two tries in a row failed, without secrets; "" if they did not."""
        return f"the ledger cannot be written: {why}" if (why := self._streak.trouble) else ""

    async def run(self) -> None:
        """Test until cancelled."""
        while True:
            written = self._store.written
            await asyncio.sleep((TRY_AGAIN_S if self._fails else TRY_S) * jitter())
            if self._is_up() and (self._fails or self._store.written == written):
                with contextlib.suppress(Unavailable):
                    await self.check()

    @detached
    async def check(self) -> None:
        """Write now; Unavailable if that fails."""
        failed_before, self._fails = self._fails, True
        async with self._store.write(streak=self._streak) as connection:
            await connection.execute(self._write)
            if self._store.pool:
                await connection.execute(_SMALL_MEMORY)
                await connection.execute(_NEEDS_SPACE)
        self._fails = False
        if failed_before:
            self._store.clear_trouble()  # of other writes, which may not be repeated; those that still fail report it again

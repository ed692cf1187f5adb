"""One look of the dispatcher at a ledger with many SCHEDULED jobs, beside the same look at one without any."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

from sqlalchemy import event

from benchmarks.outage.corner import own_database
from benchmarks.scheduled_jobs.figures import times
from sickbay.adapters.sql.ledger import Ledger, open_ledger
from sickbay.domain.job import Job, JobEvent, JobState

DAY_MS: Final = 86_400_000
BATCH: Final = 500
LOOKS: Final = 300
TURNS: Final = 5


class Scene(NamedTuple):
    """Two ledgers, the second of which gets the jobs."""

    empty: Ledger
    full: Ledger


def clock() -> int:
    """This machine's, ms."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Scene]:
    """In files."""
    async with (
        open_ledger(folder / "empty.db", clock, own_time=True) as empty,
        open_ledger(folder / "full.db", clock, own_time=True) as full,
    ):
        yield Scene(empty, full)


@asynccontextmanager
async def postgresql() -> AsyncIterator[Scene]:
    """In databases of their own."""
    async with (
        own_database() as one,
        own_database() as other,
        open_ledger(one, clock, own_time=True) as empty,
        open_ledger(other, clock, own_time=True) as full,
    ):
        yield Scene(empty, full)


async def look_at(name: str, scene: Scene, count: int) -> None:
    """Print what looks cost, in turns, and how the database finds the row."""
    await fill(scene.full, count)
    async with scene.full.store.write() as connection:
        await connection.exec_driver_sql("ANALYZE jobs")  # as PostgreSQL's autovacuum does within a minute
    without, with_jobs = [], []
    await _look_us(scene.empty), await _look_us(scene.full)
    for _ in range(TURNS):
        without.append(await _look_us(scene.empty))
        with_jobs.append(await _look_us(scene.full))
    medians = statistics.median(with_jobs), statistics.median(without)
    print(
        f"{name}: a look with {count:,} scheduled jobs {medians[0]:.0f} us, without any {medians[1]:.0f} us: {times(with_jobs, without)}; "
        + await plan(scene.full),
        flush=True,
    )


async def fill(ledger: Ledger, count: int) -> None:
    """Jobs that are due tomorrow, one each millisecond."""
    now = clock()
    for first in range(0, count, BATCH):
        jobs = [
            Job(str(uuid4()), "timed", b"{}", submitted_at=now, run_at=now + DAY_MS + number)
            for number in range(first, min(count, first + BATCH))
        ]
        await ledger.writer.apply([JobEvent(job, JobState.SCHEDULED, now) for job in jobs])


async def _look_us(ledger: Ledger) -> float:
    took = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        await ledger.scheduled_jobs.next_ms()
        took.append((time.perf_counter() - began) * 1e6)
    return statistics.median(took)


async def plan(ledger: Ledger) -> str:
    """How the database answers the look, as it says itself."""
    asked: list[tuple[str, Any]] = []

    def note(*told: Any) -> None:
        asked.append((told[2], told[3]))

    async with ledger.store.read() as connection:
        engine = connection.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    await ledger.scheduled_jobs.next_ms()
    event.remove(engine, "before_cursor_execute", note)
    statement, values = next(one for one in asked if "run_at" in one[0])
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    async with ledger.store.read() as connection:
        rows = (await connection.exec_driver_sql(f"{explain} {statement}", tuple(values))).all()
    return " / ".join(str(row[-1]).strip().lstrip("-> ") for row in rows if " jobs" in str(row[-1]))

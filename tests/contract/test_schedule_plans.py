"""What schedules cost: each look of the scheduler is into an index, however many schedules and runs there are."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import event

from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.job import JobState
from sickbay.domain.schedule import NewRun, RunOutcome, ScheduleKey, Trigger
from tests.support.clock import START
from tests.support.schedules import fire, of_job, schedule

pytest_plugins = ["tests.support.ledger_fixtures"]

SKIPPED, REFUSED, SUBMITTED = RunOutcome.SKIPPED_OVERLAP, RunOutcome.SKIPPED_CIRCUIT_OPEN, RunOutcome.SUBMITTED
HOUR = 3_600_000


EVERY_LOOK = ("schedules_due", "schedules_looked", "schedules_buffered", "schedule_runs_unsettled", "schedule_runs_manual")


@pytest.mark.parametrize("analysed", [True, False])
async def test_every_look_is_into_an_index(url, clock, analysed):
    """With thousands of schedules and runs none of its questions reads a table, whether PostgreSQL has counted them or not."""
    async with open_ledger(url, clock) as ledger:
        await fill(ledger, analysed=analysed)
        asked = []
        for engine in (ledger.store._writer, ledger.store._reader):
            event.listen(engine.sync_engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3], told[5])))
        await ledger.schedules.next_due_ms()
        await fire(ledger)
        await ledger.schedules.settle_runs(100)
        await of_job(ledger, "j500", JobState.SUCCEEDED, generation=2)
        await ledger.schedules.settle_runs(100)
        key = ScheduleKey("default", "s00007")
        await ledger.schedules.submit_runs(key, [NewRun(START, START, Trigger.MANUAL, "r"), NewRun(START - 9_000, START, Trigger.BACKFILL)])
        await ledger.schedules.list_runs(key, None, 5, "")
        await ledger.schedules.times_with_jobs(key, START - 9_000, START)
        await ledger.schedules.prune_runs()
        kinds = ("SELECT", "UPDATE", "DELETE", "WITH")
        questions = [(sql, values) for sql, values, many in asked if "schedule" in sql and not many and sql.startswith(kinds)]
        plans = [await plan(ledger, sql, values) for sql, values in questions]
    assert len(plans) > 12
    for (sql, _), planned in zip(questions, plans, strict=True):
        if sql.startswith("DELETE") and not analysed:
            continue  # once an hour, and without statistics PostgreSQL takes a third of all runs for old ones
        assert not re.search(r"Seq Scan on|SCAN (schedules|schedule_runs|jobs)\b(?! USING INDEX schedule)", planned), f"{sql}\n{planned}"
    together = " ".join(plans)
    assert [name for name in EVERY_LOOK if name not in together] == []


async def fill(ledger, *, analysed):
    """3,000 schedules with a run each, some of which wait for a job."""
    async with ledger.store.write() as connection:
        if connection.dialect.name == "postgresql":  # what earlier tests have deleted is still in its indexes
            await connection.exec_driver_sql("TRUNCATE schedules, schedule_runs, jobs")
    await ledger.schedules.create_schedule(schedule(key=ScheduleKey("default", "s00000")))
    async with ledger.store.write() as connection:
        await connection.exec_driver_sql(FILL_SCHEDULES)
        await connection.exec_driver_sql(FILL_RUNS)
        await connection.exec_driver_sql(FILL_JOBS)
        if analysed and connection.dialect.name == "postgresql":
            for table in ("schedules", "schedule_runs", "jobs"):
                await connection.exec_driver_sql(f"ANALYZE {table}")


_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
_NAME = "'s' || substr('0000' || i, length('0000' || i) - 4)"
_OF_RUNS = 'tenant, schedule_id, tick_at, kind, "trigger", outcome, job_id, job_state, settled, handled_at, ended_at, times, actor'
_SETTLED = "CASE WHEN i % 500 = 0 THEN 0 ELSE 1 END"
FILL_SCHEDULES = (
    "INSERT INTO schedules (tenant, schedule_id, job_type, state, origin, next_at, looked_at, buffered_at, revision, body)"  # noqa: S608 - written here
    f" {_NUMBERS} SELECT tenant, {_NAME}, job_type, state, origin, {START} + i * 60000, {START}, CASE WHEN i % 100 = 0 THEN {START} END,"
    " 0, body FROM n, schedules WHERE schedule_id = 's00000'"
)
FILL_RUNS = (
    f"INSERT INTO schedule_runs ({_OF_RUNS}) {_NUMBERS} SELECT 'default', {_NAME}, {START} - 1, '', 'TICK', 'SUBMITTED', 'j' || i,"  # noqa: S608 - written here
    f" 'RUNNING', {_SETTLED}, {START}, 0, 1, '' FROM n"
)
FILL_JOBS = (
    "INSERT INTO jobs (job_id, job_type, tenant, state, generation, attempt, rank, submitted_at, updated_at, run, code)"  # noqa: S608 - written here
    f" {_NUMBERS} SELECT 'j' || i, 'email', 'default', 'RUNNING', 1, 0, 1, {START}, {START}, '', '' FROM n"
)


async def plan(ledger, sql, parameters):
    """How the database would answer; scans of a sorted few are cheap to it, and are not what this is about."""
    engine = ledger.store._reader
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    async with engine.connect() as connection:
        return str((await connection.exec_driver_sql(f"{explain} {sql}", tuple(parameters))).all())

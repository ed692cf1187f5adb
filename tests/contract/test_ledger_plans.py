"""No question the services ask all day reads every job: each finds its rows by an index."""

import sqlite3
from dataclasses import replace

import pytest
from sqlalchemy import event

from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.breaker import BreakerKey, BreakerScope
from sickbay.domain.job import JobEvent, JobState
from sickbay.domain.priority import Priority
from sickbay.domain.queries import JobEdit, JobQuery, QuarantineQuery, ScheduledJobQuery
from tests.support import one_key
from tests.support.incident_snapshots import Patient
from tests.support.ledger_events import START, job, parked, quarantined, retrying, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

HOUR = 3_600_000


async def ask_everything(ledger):
    await ledger.writer.apply([*(parked(f"p{number}", at=START + number) for number in range(9)), quarantined("q"), succeeded("s")])
    await ledger.writer.apply([succeeded("s", run="again")])
    await ledger.writer.apply([retrying("r", attempt=number) for number in range(1, 130)])
    await ledger.reader.get("s")
    await ledger.reader.history("s")
    await ledger.reader.histories(["s", "q"])
    await ledger.reader.find(JobQuery(), 5, f"{START}:s")
    await ledger.reader.find(JobQuery(job_type="email"), 5, "")
    await ledger.reader.find(JobQuery(priority=Priority.HIGH), 5, f"{START}:s")
    await ledger.quarantine.list_quarantined(QuarantineQuery(), 5, f"{START}:p")
    await ledger.quarantine.get_quarantined("q")
    await ledger.quarantine.parked()
    await ledger.quarantine.unhandled(["email", "sms"])
    await ledger.quarantine.lease_unhandled(BreakerKey("email"), 5)
    await ledger.quarantine.mark_released(await ledger.quarantine.lease_parked(BreakerKey("email"), 5))
    await ledger.quarantine.lease_job("q", JobEdit(b"{}"), "", "ann")
    await ledger.quarantine.lease_expired()
    await ledger.quarantine.discard("p8", "", "ann")
    await ledger.writer.check_copies([job("p7"), job("s")])
    await ledger.duplicate_guard.check(job("s"), suspect=True)
    await ledger.duplicate_guard.clear_crashes(job("s"))
    patient = Patient()
    await ledger.incidents.observe(patient.trip())
    (incident,) = await ledger.incidents.unfinished()
    await ledger.incidents.count_jobs(incident, BreakerScope.TYPE, {})
    await one_key.reserve(ledger.keys, "default", "k", b"d", "j")
    await one_key.confirm(ledger.keys, "default", "k")
    await ledger.waiting.count()


async def test_the_jobs_of_a_tenant_are_found_by_an_index_of_tenants(ledger):
    """Another tenant's millions are not read; asked as the services do, on both databases."""
    await ledger.writer.apply([succeeded(f"big{number}", at=START + number, tenant="big") for number in range(2_000)])
    await ledger.writer.apply([parked(f"aside{number}", at=START + number, tenant="big") for number in range(500)])
    await ledger.writer.apply([succeeded("small", tenant="small"), parked("small-parked", tenant="small"), succeeded("nobody's")])
    asked = []
    for engine in (ledger.reader._store._writer, ledger.reader._store._reader):
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
    found = await ledger.reader.find(JobQuery(tenants=frozenset({"small"})), 5, "")
    assert {record.job.job_id for record in found.items} == {"small", "small-parked"}
    aside = await ledger.quarantine.list_quarantined(QuarantineQuery(tenants=frozenset({"small"})), 5, "")
    assert [one.job.job_id for one in aside.items] == ["small-parked"]
    (of_jobs, of_aside) = (
        next(one for one in asked if part in one[0]) for part in ("ORDER BY jobs.submitted_at", "ORDER BY jobs.set_aside_at")
    )
    assert "jobs_tenant_submitted" in await plan(ledger, *of_jobs)
    assert "jobs_aside_tenant" in await plan(ledger, *of_aside)


async def test_the_jobs_of_several_tenants_are_found_by_the_same_index(ledger):
    """The first of each, so that a page costs the same however many they have."""
    await ledger.writer.apply([succeeded(f"big{number}", at=START + number, tenant="big") for number in range(2_000)])
    await ledger.writer.apply([parked(f"aside{number}", at=START + number, tenant="big") for number in range(500)])
    few = [succeeded(f"{tenant}-done", tenant=tenant) for tenant in ("one", "two")]
    await ledger.writer.apply([*few, parked("one-parked", tenant="one"), parked("two-parked", tenant="two"), succeeded("nobody's")])
    asked = []
    for engine in (ledger.reader._store._writer, ledger.reader._store._reader):
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
    both = frozenset({"one", "two"})
    found = await ledger.reader.find(JobQuery(tenants=both), 5, "")
    assert {record.job.job_id for record in found.items} == {"one-done", "two-done", "one-parked", "two-parked"}
    aside = await ledger.quarantine.list_quarantined(QuarantineQuery(tenants=both), 5, "")
    assert ([one.job.job_id for one in aside.items], aside.total) == (["one-parked", "two-parked"], 2)
    groups = await ledger.quarantine.groups("", both, 5, "")
    assert [(one.count, one.sample_job_id) for one in groups.items] == [(2, "one-parked")]
    for part, index in (("ORDER BY jobs.submitted_at", "jobs_tenant_submitted"), ("ORDER BY jobs.set_aside_at", "jobs_aside_tenant")):
        planned = await plan(ledger, *next(one for one in asked if part in one[0]))
        assert index in planned
        assert "SCAN jobs" not in planned
        assert "Seq Scan on jobs" not in planned
    many = frozenset(f"t{number}" for number in range(200)) | both
    assert len((await ledger.reader.find(JobQuery(tenants=many), 9, "")).items) == 4


@pytest.mark.parametrize("knows", [True, False], ids=["statistics of now", "statistics of before"])
async def test_what_is_due_is_found_by_an_index_of_scheduled_jobs_alone(ledger, clock, knows):
    """In its order: none is sorted, and none of the 2,000 that are due later is read."""
    await ledger.writer.apply([succeeded(f"done{number}", at=START + number) for number in range(2_000)])
    await analyze(ledger)
    await ledger.writer.apply([scheduled(f"later{number}", START + HOUR + number) for number in range(2_000)])
    await ledger.writer.apply([scheduled("due", START + 1)])
    clock.now += 1
    asked = []
    for engine in (ledger.reader._store._writer, ledger.reader._store._reader):
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
    assert await ledger.scheduled_jobs.next_ms() <= 0
    assert [lease.job.job_id for lease in await ledger.scheduled_jobs.lease_due(5)] == ["due"]
    listed = await ledger.scheduled_jobs.list_scheduled(ScheduledJobQuery(), 5, "")
    assert len(listed.items) == 5
    questions = {sql: values for sql, values in asked if "run_at" in sql}
    assert len(questions) == 4
    for sql, values in questions.items():
        planned = await plan(ledger, sql, values, analyzes=knows)
        if sql.startswith(("WITH", "UPDATE")) and "lease_until IS NULL" not in sql:  # leases that have expired, few at all times
            assert "jobs_leased" in planned or "jobs_scheduled" in planned
            assert "Seq Scan on jobs" not in planned
            continue
        assert "jobs_scheduled" in planned
        assert "TEMP B-TREE" not in planned
        assert "Sort " not in planned
        assert "Seq Scan" not in planned


async def test_the_times_of_scheduled_jobs_are_written_by_their_ids(ledger):
    """Whatever the statistics say, so that a hundred thousand of them are not looked through for each."""
    asked = []
    engine = ledger.reader._store._writer
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3][0] if told[5] else told[3])))
    await ledger.writer.apply([scheduled(f"later{number}", START + HOUR + number) for number in range(2_000)])
    ((sql, values),) = {sql: values for sql, values in asked if sql.startswith("UPDATE jobs SET run_at")}.items()
    for knows in (False, True):
        planned = await plan(ledger, sql, values, analyzes=knows)
        assert "(job_id=?)" in planned or "jobs_pkey" in planned


def scheduled(job_id, run_at):
    return JobEvent(replace(job(job_id), run_at=run_at), JobState.SCHEDULED, START)


async def analyze(ledger):
    """What PostgreSQL's autovacuum does now and then; SQLite has no statistics."""
    async with ledger.reader._store._writer.connect() as connection:
        if connection.dialect.name == "postgresql":
            await connection.exec_driver_sql("ANALYZE jobs")
            await connection.commit()


async def plan(ledger, sql, parameters, *, analyzes=True):
    """How the database would answer."""
    engine = ledger.reader._store._reader
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    if analyzes:
        await analyze(ledger)
    async with engine.connect() as connection:
        return str((await connection.exec_driver_sql(f"{explain} {sql}", tuple(parameters))).all())


async def test_every_question_uses_an_index(tmp_path, clock):
    asked = []

    def note(_connection, _cursor, sql, parameters, _context, many):
        if sql.startswith(("SELECT", "UPDATE", "DELETE", "WITH", "INSERT")):
            asked.append((sql, parameters[0] if many else parameters))

    async with open_ledger(f"sqlite:///{tmp_path}/ledger.db", clock) as ledger:
        for engine in (ledger.reader._store._writer, ledger.reader._store._reader):
            event.listen(engine.sync_engine, "before_cursor_execute", note)
        await ask_everything(ledger)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    steps = {(row[3], sql) for sql, values in asked for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)}
    connection.close()
    assert len(asked) > 20
    assert [step for step in steps if step[0].startswith("SCAN job")] == []
    assert any("jobs_prioritized" in step for step, _ in steps)
    counting = {step for step, sql in steps if "count(DISTINCT" in sql and "JOIN" not in sql}
    assert any("job_changes_at" in step for step in counting), "not by the type, which would read all healthy jobs of it"

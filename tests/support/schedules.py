"""Short ways to write schedules, and to let them fire."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from sqlalchemy import event

from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.domain.queries import JobQuery
from sickbay.domain.schedule import Overlap, Schedule, ScheduleKey, ScheduleSpec, Timing, WhileOpen
from sickbay.domain.schedule_firing import decide
from sickbay.domain.schedule_times import next_time
from tests.support.clock import START
from tests.support.faults.proxy import Proxy

KEY = ScheduleKey("default", "nightly")
_OF_TIMING = ("cron", "every_ms", "timezone", "start_at", "end_at", "jitter_ms")
_OF_SPEC = ("job_type", "payload_json", "priority", "catch_up_ms", "pause_on_failure", "description")


def schedule(*, key=KEY, overlap="SKIP", while_open="RUN", **fields):
    """A schedule of every second, as it is right after its creation at START."""
    timing = {name: fields.pop(name) for name in _OF_TIMING if name in fields}
    if "cron" not in timing:
        timing.setdefault("every_ms", 1_000)
    timing = Timing(**timing)
    spec = {"job_type": "email", **{name: fields.pop(name) for name in _OF_SPEC if name in fields}}
    spec = ScheduleSpec(timing=timing, overlap=Overlap(overlap), while_open=WhileOpen(while_open), **spec)
    return Schedule(key, spec, **{"created_at": START, "updated_at": START, "next_at": next_time(timing, START), **fields})


async def fire(ledger, *, is_open=False, limit=50):
    """What fired."""
    return await ledger.schedules.fire_due(decide, lambda *_: is_open, limit)


async def runs_of(ledger, key=KEY):
    """Oldest first."""
    return list(reversed((await ledger.schedules.list_runs(key, None, 1_000, "")).items))


async def jobs_of(ledger):
    """All that the ledger has."""
    return (await ledger.reader.find(JobQuery(), 1_000, "")).items


@asynccontextmanager
async def planes(url, *clocks, **options):
    """The ledger as several control planes have it, each with its clock."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_ledger(url, clock, **options)) for clock in clocks]


@asynccontextmanager
async def cut_at(postgres, clock, *statements):
    """Two control planes, of which the first loses its connection when it is about to do one of these."""
    async with Proxy.before(postgres.url) as proxy, planes(proxy.through(postgres.url), clock) as (ours,):

        def cut(*told):
            if told[2].startswith(statements):
                event.remove(engine, "before_cursor_execute", cut)
                proxy.reset()

        engine = ours.store._writer.sync_engine
        event.listen(engine, "before_cursor_execute", cut)
        async with planes(postgres.url, clock) as (other,):
            yield ours, other


async def of_job(ledger, job_id, state, *, generation=1, at=None):
    """What a worker, or a person, makes of a job of a schedule that was sent."""
    if state is JobState.SCHEDULED:
        return
    known = (await ledger.reader.get(job_id)).job
    job = replace(known, generation=generation, payload_json=b"{}")
    at = START + 50 if at is None else at
    began = {"started_at": at - 10, "run": "w.1"} if state in {JobState.RUNNING, JobState.SUCCEEDED} else {}
    failed = {"reason": Reason.RETRIES_EXHAUSTED, "code": "API_TIMEOUT"} if state is JobState.QUARANTINED else {}
    parked = {"reason": Reason.CIRCUIT_OPEN, "code": "CIRCUIT_OPEN"} if state is JobState.PARKED else {}
    await ledger.writer.apply([JobEvent(job, state, at, **began, **failed, **parked)])

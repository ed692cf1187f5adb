"""Incidents in the ledger (`IncidentStore`): one for each outage, however many control planes tell of it at the same time."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from sickbay.adapters.sql.incidents import COUNTED_MS
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.adapters.sql.retention import INCIDENT_RETENTION_MS
from sickbay.domain.breaker import BreakerKey, BreakerScope
from sickbay.domain.errors import ErrorReason, InvalidArgument, NotFound
from sickbay.domain.incident import REOPEN_WINDOW_MS, Change, IncidentQuery, IncidentRules, JobCounts
from sickbay.domain.job import Reason
from sickbay.domain.run_rate import OVER_RATE
from sickbay.ports.incidents import Step
from tests.support.clock import START
from tests.support.incident_snapshots import TIMEOUT, Patient
from tests.support.ledger_events import job, parked, quarantined, queued, retrying, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def store(ledger):
    return ledger.incidents


async def tell(store, *snapshots):
    """What each call changed, without those that changed nothing."""
    steps = [await store.observe(one) for one in snapshots]
    return [step.change for step in steps if step.change]


def types(pages):
    return [one.key.job_type for page in pages for one in page]


async def everything(store, **query):
    return (await store.find_incidents(IncidentQuery(**query), 100, "")).items


async def test_an_outage_is_one_incident_from_its_opening_to_its_closing(store):
    patient = Patient()
    patient.trip()
    patient.probe(TIMEOUT)
    patient.probe()
    assert await tell(store, *patient.seen) == [Change.OPENED, Change.CLOSED]
    assert await tell(store, *patient.seen) == [], "it was told before"
    (incident,) = await everything(store)
    assert await store.get_incident(incident.number) == incident
    assert (incident.wasted_runs, incident.is_open) == (1, False)


async def test_the_step_has_the_incident_whoever_made_the_change(store):
    opened = Patient().trip()
    first, second = await store.observe(opened), await store.observe(opened)
    assert first.change is Change.OPENED
    assert second == Step(first.incident)
    assert await store.observe(Patient("sms").snapshot()) == Step(None)


async def test_a_window_of_its_own(url, clock):
    async with open_ledger(url, clock, incident_rules=IncidentRules(window_ms=5_000)) as ledger:
        patient = Patient()
        patient.trip()
        patient.probe()
        patient.wait(6_000)
        patient.trip()
        assert await tell(ledger.incidents, *patient.seen) == [Change.OPENED, Change.CLOSED, Change.OPENED]


async def test_several_control_planes_record_the_same_incident(url, clock):
    """All tell everything at the same time: on PostgreSQL each over connections of its own."""
    patients = [Patient(f"type-{number}") for number in range(3)]
    for patient in patients:
        patient.trip()
        patient.probe(TIMEOUT)
        patient.probe()
    async with AsyncExitStack() as stack:
        planes = [await stack.enter_async_context(open_ledger(url, clock)) for _ in range(1 if url == "sqlite://" else 3)]
        told = await asyncio.gather(*(tell(plane.incidents, *patient.seen) for plane in [*planes, *planes] for patient in patients))
        made = [change for changes in told for change in changes]
        assert sorted(made) == sorted([Change.OPENED, Change.CLOSED] * 3)
        found = await everything(planes[0].incidents)
        assert sorted(one.key.job_type for one in found) == ["type-0", "type-1", "type-2"]
        assert [one.wasted_runs for one in found] == [1, 1, 1]


async def test_an_incident_whose_breaker_is_gone_is_closed_once(store, clock):
    patient = Patient()
    incident = (await store.observe(patient.trip())).incident
    patient.probe(TIMEOUT)
    later = (await store.observe(patient.snapshot())).incident
    assert (await store.close_missing(incident)).change is None, "it has changed since it was read"
    clock.now += 60_000
    assert (await store.close_missing(later)).change is Change.CLOSED
    assert (await store.close_missing(later)).change is None


async def test_lists_are_paged_and_filtered(store):
    for number in range(5):
        patient = Patient(f"type-{number}", tenant="acme" if number == 3 else "default")
        patient.trip()
        if number < 2:
            patient.probe()
        await tell(store, *patient.seen)
    first = await store.find_incidents(IncidentQuery(), 2, "")
    second = await store.find_incidents(IncidentQuery(), 2, first.cursor)
    third = await store.find_incidents(IncidentQuery(), 2, second.cursor)
    assert types(page.items for page in (first, second, third)) == [f"type-{number}" for number in (4, 3, 2, 1, 0)]
    assert third.cursor == ""
    assert types([await everything(store, is_open=True)]) == ["type-4", "type-3", "type-2"]
    assert types([await everything(store, is_open=False)]) == ["type-1", "type-0"]
    assert types([await everything(store, job_type="type-1")]) == ["type-1"]
    assert [one.key for one in await everything(store, tenants=frozenset({"acme"}))] == [BreakerKey("type-3", "acme")]
    assert await store.open_counts() == {"type-2": 1, "type-3": 1, "type-4": 1}
    with pytest.raises(InvalidArgument) as caught:
        await store.find_incidents(IncidentQuery(), 2, "7:other")
    assert caught.value.reason is ErrorReason.INVALID_PAGE_TOKEN


async def test_an_acknowledgement_stays_through_later_changes(store, clock):
    patient = Patient()
    number = (await store.observe(patient.trip())).incident.number
    noted = await store.acknowledge(number, "ada", "calling them")
    assert (noted.acknowledged.at, noted.acknowledged.actor) == (clock.now, "ada")
    patient.probe()
    await tell(store, *patient.seen)
    assert (await store.get_incident(number)).acknowledged == noted.acknowledged
    with pytest.raises(NotFound) as caught:
        await store.acknowledge(number + 1, "ada", "")
    assert caught.value.reason is ErrorReason.INCIDENT_NOT_FOUND
    assert await store.get_incident(number + 1) is None


async def test_its_jobs_are_counted_in_the_ledger(ledger, store, clock):
    """Nothing is counted twice, and what belongs to other breakers or other times is not counted."""
    patient = Patient()
    incident = (await store.observe(patient.trip())).incident
    at = incident.opened_at
    meanwhile = [
        *(retrying(f"f{number}", at=at - 30 + 10 * number) for number in range(3)),
        *(parked(f"p{number}", at=at + 100 + number) for number in range(3)),
        replace(parked("line", at=at + 300), reason=Reason.RATE_LIMITED, code=OVER_RATE),
        parked("sms", at=at + 100, job_type="sms"),
        quarantined("q", at=at + 200, code="VALIDATION_ERROR"),
        quarantined("before", at=at - 1_000, code="VALIDATION_ERROR"),
    ]
    await ledger.writer.apply(meanwhile)
    await ledger.writer.apply(meanwhile)
    counted = await store.count_jobs(incident, BreakerScope.TYPE, {"f1": "a-trace"})
    assert counted.jobs == JobCounts(parked=3, released=0, quarantined=1)
    assert [(one.job_id, one.trace_id) for one in counted.cause.jobs] == [("f0", ""), ("f1", "a-trace"), ("f2", "")]
    assert await store.get_incident(incident.number) == counted
    assert await store.count_jobs(counted, BreakerScope.TYPE, {"f2": "another"}) != counted, "its trace has become known"

    patient.probe()
    await tell(store, *patient.seen)
    (closed,) = await store.unfinished()
    await ledger.writer.apply([parked("later", at=closed.closed_at + 500)])
    for lease in await ledger.quarantine.lease_parked(BreakerKey("email"), 2):
        await ledger.quarantine.mark_released([lease])
    clock.now = closed.closed_at + COUNTED_MS
    counted = await store.count_jobs(closed, BreakerScope.TYPE, {})
    assert counted.jobs == JobCounts(parked=3, released=2, quarantined=1)
    assert await store.unfinished() == [counted], "one is still parked"
    await ledger.writer.apply([succeeded(f"p{number}", generation=1, at=clock.now) for number in range(3)])
    await store.count_jobs(counted, BreakerScope.TYPE, {})
    assert await store.unfinished() == []
    assert (await store.get_incident(incident.number)).jobs == JobCounts(parked=3, released=3, quarantined=1)


async def test_jobs_of_other_tenants_count_only_if_they_share_the_breaker(ledger, store):
    incident = (await store.observe(Patient().trip())).incident
    at = incident.opened_at + 10
    await ledger.writer.apply([parked("ours", at=at), parked("theirs", at=at, tenant="acme")])
    assert (await store.count_jobs(incident, BreakerScope.TENANT, {})).jobs.parked == 1
    assert (await store.count_jobs(incident, BreakerScope.TYPE, {})).jobs.parked == 2


async def test_the_trace_of_a_job_that_is_set_aside_is_known(ledger, store):
    incident = (await store.observe(Patient().trip())).incident
    at = incident.opened_at
    failed = replace(quarantined("q", at=at), job=job("q", attempt=3, trace=TRACE))
    await ledger.writer.apply([queued("q", trace=TRACE), failed])
    (named,) = (await store.count_jobs(incident, BreakerScope.TYPE, {})).cause.jobs
    assert (named.job_id, named.trace_id) == ("q", "0af7651916cd43dd8448eb211c80319c")


async def test_a_reopened_incident_is_counted_again(ledger, store, clock):
    patient = Patient()
    patient.trip()
    patient.probe()
    await tell(store, *patient.seen)
    (closed,) = await store.unfinished()
    clock.now = closed.closed_at + COUNTED_MS
    await store.count_jobs(closed, BreakerScope.TYPE, {})
    assert await store.unfinished() == []
    patient.wait(1_000)
    patient.trip()
    assert await tell(store, *patient.seen) == [Change.REOPENED]
    assert [one.number for one in await store.unfinished()] == [closed.number]


async def test_closed_incidents_have_a_retention_and_numbers_are_not_used_again(ledger, store, clock):
    patient, lasting = Patient(), Patient("sms")
    patient.trip()
    patient.probe()
    await tell(store, *patient.seen)
    (closed,) = await store.unfinished()
    clock.now = closed.closed_at + COUNTED_MS
    await store.count_jobs(closed, BreakerScope.TYPE, {})
    await ledger.writer.prune(closed.closed_at + INCIDENT_RETENTION_MS - 1)
    assert len(await everything(store)) == 1
    await ledger.writer.prune(closed.closed_at + INCIDENT_RETENTION_MS)
    assert await everything(store) == []
    await tell(store, lasting.trip())
    await ledger.writer.prune(START + 10 * INCIDENT_RETENTION_MS)
    assert [one.number for one in await everything(store)] == [closed.number + 1], "an open one stays"


async def test_what_is_stored_can_be_read_by_a_version_that_knows_less(store, ledger):
    """And by one that knows more: fields that are missing have their defaults."""
    from sqlalchemy import select, update

    from sickbay.adapters.sql.schema import incidents

    number = (await store.observe(Patient().trip())).incident.number
    before = await store.get_incident(number)
    async with ledger.store.write() as connection:
        body = (await connection.execute(select(incidents.c.body))).scalar_one()
        body = body.replace(b'"reopenings":0', b'"invented":[{"at":1}]')
        await connection.execute(update(incidents).values(body=body))
    assert await store.get_incident(number) == before


async def test_the_window_is_five_minutes_unless_it_is_set(store):
    patient = Patient()
    patient.trip()
    closed = patient.probe()
    patient.wait(REOPEN_WINDOW_MS - 2_000)
    opened = patient.trip()
    assert opened.opened_at - closed.updated_at < REOPEN_WINDOW_MS
    assert await tell(store, *patient.seen) == [Change.OPENED, Change.CLOSED, Change.REOPENED]

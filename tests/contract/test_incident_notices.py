"""The outbox of the webhook (`IncidentNotices`): a notice for each opening and closing, written with its incident."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest

from sickbay.adapters.sql.ledger import open_ledger
from sickbay.adapters.sql.retention import NOTICE_RETENTION_MS
from sickbay.domain.incident import IncidentRules
from tests.support.incident_snapshots import TIMEOUT, Patient

pytest_plugins = ["tests.support.ledger_fixtures"]

RULES = IncidentRules(window_ms=60_000, announces=True)
LEASE_MS = 30_000


@pytest.fixture
async def ledger(url, clock):
    async with open_ledger(url, clock, incident_rules=RULES) as opened:
        yield opened


async def tell(ledger, *snapshots):
    for one in snapshots:
        await ledger.incidents.observe(one)


async def due(ledger):
    """What would be sent now, all of it."""
    found = []
    while claimed := await ledger.notices.claim(10, LEASE_MS):
        found += claimed
        for notice in claimed:
            await ledger.notices.finish(notice)
    return [json.loads(notice.body) for notice in found]


def types(events):
    return [event["type"].removeprefix("sickbay.incident.") for event in events]


async def test_an_opening_and_a_closing_are_told_in_their_order(ledger, clock):
    patient = Patient()
    patient.trip()
    patient.probe(TIMEOUT)
    await tell(ledger, *patient.seen)
    (opened,) = await ledger.notices.claim(10, LEASE_MS)
    patient.probe()
    clock.now += 1
    await tell(ledger, *patient.seen)
    assert await ledger.notices.claim(10, LEASE_MS) == [], "the closing waits for the opening"
    assert await ledger.notices.waiting() == 2
    await ledger.notices.finish(opened)
    (closed,) = await ledger.notices.claim(10, LEASE_MS)
    first, second = json.loads(opened.body), json.loads(closed.body)
    assert (first["specversion"], first["id"], first["type"]) == ("1.0", opened.notice_id, "sickbay.incident.opened")
    assert first["data"]["cause"]["code"] == "API_TIMEOUT"
    assert (second["type"], second["data"]["wastedRuns"], second["data"]["open"]) == ("sickbay.incident.closed", 1, False)
    assert second["text"].endswith(" is well again after 20.2 s")
    assert opened.notice_id != closed.notice_id


async def test_a_notice_is_sent_again_after_its_lease_and_keeps_its_id(ledger, clock):
    await tell(ledger, Patient().trip())
    (first,) = await ledger.notices.claim(10, LEASE_MS)
    assert await ledger.notices.claim(10, LEASE_MS) == []
    clock.now += LEASE_MS
    (again,) = await ledger.notices.claim(10, LEASE_MS)
    assert (again.notice_id, again.body, again.attempts) == (first.notice_id, first.body, 2)
    await ledger.notices.postpone(again, 5_000)
    assert await ledger.notices.claim(10, LEASE_MS) == []
    clock.now += 5_000
    (third,) = await ledger.notices.claim(10, LEASE_MS)
    assert third.attempts == 3
    await ledger.notices.finish(third)
    assert await ledger.notices.waiting() == 0


async def test_a_short_reopening_is_not_told(ledger, clock):
    """Neither it nor the closing after it: receivers have been told that the incident is over, and it is."""
    patient = Patient()
    for _ in range(3):
        patient.trip()
        patient.probe()
    await tell(ledger, *patient.seen)
    clock.now += 10 * RULES.window_ms
    assert types(await due(ledger)) == ["opened", "closed"]


async def test_a_reopening_that_lasts_is_told_after_the_window(ledger, clock):
    patient = Patient()
    patient.trip()
    patient.probe()
    patient.trip()
    await tell(ledger, *patient.seen)
    assert types(await due(ledger)) == ["opened", "closed"]
    clock.now += RULES.window_ms
    (again,) = await due(ledger)
    assert (again["type"], again["data"]["reopenings"]) == ("sickbay.incident.opened", 1)
    patient.probe()
    await tell(ledger, *patient.seen)
    assert types(await due(ledger)) == ["closed"]


async def test_several_control_planes_write_one_notice_and_send_it_once(url, clock):
    patients = [Patient(f"type-{number}") for number in range(8)]
    for patient in patients:
        patient.trip()
    async with AsyncExitStack() as stack:
        count = 1 if url == "sqlite://" else 3
        planes = [await stack.enter_async_context(open_ledger(url, clock, incident_rules=RULES)) for _ in range(count)]
        await asyncio.gather(*(tell(plane, *patient.seen) for plane in planes for patient in patients))
        claimed = await asyncio.gather(*(plane.notices.claim(3, LEASE_MS) for plane in planes for _ in range(4)))
        ids = [notice.notice_id for some in claimed for notice in some]
        assert len(ids) == len(set(ids)) <= 8
        ids += [notice.notice_id for notice in await planes[0].notices.claim(10, LEASE_MS)]
        assert len(ids) == len(set(ids)) == 8


async def test_without_a_webhook_nothing_is_written(url, clock):
    async with open_ledger(url, clock) as ledger:
        await tell(ledger, Patient().trip())
        assert await ledger.notices.waiting() == 0


async def test_notices_that_nobody_sends_any_more_are_forgotten(ledger, clock):
    await tell(ledger, Patient().trip())
    await ledger.writer.prune(clock.now + NOTICE_RETENTION_MS)
    assert await ledger.notices.waiting() == 0

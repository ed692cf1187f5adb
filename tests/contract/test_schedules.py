"""The port of schedules: kept, changed, listed, pruned. `test_schedule_firing.py` lets them fire."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sickbay.adapters.sql import schedules as store_module
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.errors import Aborted, AlreadyExists, ErrorReason, InvalidArgument, NotFound, ResourceExhausted
from sickbay.domain.schedule import (
    RUN_RETENTION_MS,
    NewRun,
    Origin,
    RunOutcome,
    ScheduleKey,
    ScheduleQuery,
    ScheduleState,
    Timing,
    Trigger,
)
from sickbay.domain.schedule_changes import paused
from sickbay.domain.schedule_firing import decide
from tests.support.clock import START
from tests.support.schedules import KEY, fire, schedule

pytest_plugins = ["tests.support.ledger_fixtures"]


async def test_a_schedule_is_kept_as_it_was_given(ledger):
    made = schedule(
        cron="0 3 * * *",
        timezone="Europe/Berlin",
        payload_json=b'{"a": "\xc3\xa4"}',
        description="every night",
        origin=Origin.CODE,
        handler="reports.nightly",
        code_since=START,
        next_at=START + 5,
    )
    assert await ledger.schedules.create_schedule(made) == made
    assert await ledger.schedules.get_schedule(made.key) == made


async def test_an_id_is_taken_once_in_each_tenant(ledger):
    await ledger.schedules.create_schedule(schedule())
    with pytest.raises(AlreadyExists) as raised:
        await ledger.schedules.create_schedule(schedule(every_ms=5_000))
    assert raised.value.reason is ErrorReason.SCHEDULE_EXISTS
    await ledger.schedules.create_schedule(schedule(key=ScheduleKey("other", KEY.schedule_id)))
    assert (await ledger.schedules.get_schedule(KEY)).spec.timing == Timing(every_ms=1_000)


@pytest.mark.parametrize("call", ["get", "change", "delete", "list_runs", "submit"])
async def test_what_is_not_there_is_not_found(ledger, call):
    """Nor is what another tenant has."""
    await ledger.schedules.create_schedule(schedule(key=ScheduleKey("other", KEY.schedule_id)))
    calls = {
        "get": lambda: ledger.schedules.get_schedule(KEY),
        "change": lambda: ledger.schedules.change_schedule(KEY, lambda found, _: found),
        "delete": lambda: ledger.schedules.delete_schedule(KEY),
        "list_runs": lambda: ledger.schedules.list_runs(KEY, None, 10, ""),
        "submit": lambda: ledger.schedules.submit_runs(KEY, []),
    }
    with pytest.raises(NotFound) as raised:
        await calls[call]()
    assert raised.value.reason is ErrorReason.SCHEDULE_NOT_FOUND


async def test_there_is_a_bound(ledger, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_SCHEDULES", 2)
    for number in range(2):
        await ledger.schedules.create_schedule(schedule(key=ScheduleKey("default", f"s{number}")))
    with pytest.raises(ResourceExhausted) as raised:
        await ledger.schedules.create_schedule(schedule())
    assert raised.value.reason is ErrorReason.TOO_MANY_SCHEDULES


@pytest.mark.servers
async def test_the_bound_holds_for_two_that_come_at_once(postgres, clock, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_SCHEDULES", 1)
    async with open_ledger(postgres.url, clock) as one, open_ledger(postgres.url, clock) as other:
        made = [ledger.schedules.create_schedule(schedule(key=ScheduleKey(name, "s"))) for ledger, name in ((one, "a"), (other, "b"))]
        results = await asyncio.gather(*made, return_exceptions=True)
        assert sorted(isinstance(result, ResourceExhausted) for result in results) == [False, True]


async def test_a_change_makes_another_revision_and_another_etag(ledger, clock):
    before = await ledger.schedules.create_schedule(schedule())
    clock.now += 10
    told = []
    after = await ledger.schedules.change_schedule(KEY, lambda found, now: told.append(now) or paused(found, "holidays", "ann"))
    assert told == [START + 10]
    assert (after.state, after.pause_note, after.paused_by, after.next_at) == (ScheduleState.PAUSED, "holidays", "ann", 0)
    assert (after.revision, after.updated_at, after.created_at) == (before.revision + 1, START + 10, before.created_at)
    assert after.etag != before.etag
    assert await ledger.schedules.get_schedule(KEY) == after


async def test_what_changes_nothing_is_no_revision(ledger, clock):
    before = await ledger.schedules.create_schedule(schedule())
    clock.now += 10
    assert await ledger.schedules.change_schedule(KEY, lambda found, _: replace(found)) == before
    assert await ledger.schedules.get_schedule(KEY) == before


async def test_a_change_that_raises_has_no_effect(ledger):
    before = await ledger.schedules.create_schedule(schedule())

    def refuse(_found, _now):
        raise InvalidArgument("no")

    with pytest.raises(InvalidArgument):
        await ledger.schedules.change_schedule(KEY, refuse)
    assert await ledger.schedules.get_schedule(KEY) == before


async def test_of_an_old_etag_nothing_is_changed_or_deleted(ledger):
    old = (await ledger.schedules.create_schedule(schedule())).etag
    new = (await ledger.schedules.change_schedule(KEY, lambda found, _: paused(found, "", ""), old)).etag
    for call in (
        ledger.schedules.change_schedule(KEY, lambda found, _: replace(found, pause_note="x"), old),
        ledger.schedules.delete_schedule(KEY, old),
    ):
        with pytest.raises(Aborted) as raised:
            await call
        assert raised.value.reason is ErrorReason.ETAG_MISMATCH
    await ledger.schedules.delete_schedule(KEY, new)
    with pytest.raises(NotFound):
        await ledger.schedules.get_schedule(KEY)


async def test_of_two_changes_at_once_none_is_lost(url, clock):
    async with open_ledger(url, clock) as ledger:
        await ledger.schedules.create_schedule(schedule())

        def count(found, _now):
            return replace(found, spec=replace(found.spec, description=f"{found.spec.description}x"))

        await asyncio.gather(*(ledger.schedules.change_schedule(KEY, count) for _ in range(8)))
        after = await ledger.schedules.get_schedule(KEY)
        assert (after.spec.description, after.revision) == ("x" * 8, 8)


async def test_of_two_changes_of_one_etag_one_is_aborted(ledger):
    etag = (await ledger.schedules.create_schedule(schedule())).etag
    changes = [ledger.schedules.change_schedule(KEY, lambda found, _, who=who: paused(found, who, ""), etag) for who in ("ann", "bob")]
    results = await asyncio.gather(*changes, return_exceptions=True)
    assert sorted(isinstance(result, Aborted) for result in results) == [False, True]


async def test_lists_are_by_tenant_and_id_page_by_page(ledger):
    names = [("a", "s1"), ("a", "s2"), ("b", "s1"), ("default", "s0"), ("default", "s9")]
    for tenant, name in reversed(names):
        await ledger.schedules.create_schedule(schedule(key=ScheduleKey(tenant, name), job_type="email" if name == "s1" else "report"))
    found, cursor = [], ""
    while True:
        page = await ledger.schedules.list_schedules(ScheduleQuery(), 2, cursor)
        found += [tuple(one.key) for one in page.items]
        if not (cursor := page.cursor):
            break
    assert found == names
    for query, wanted in (
        (ScheduleQuery(tenants=frozenset({"a", "b"})), names[:3]),
        (ScheduleQuery(tenants=frozenset()), []),
        (ScheduleQuery(job_type="email"), [names[0], names[2]]),
        (ScheduleQuery(state=ScheduleState.PAUSED), []),
        (ScheduleQuery(origin=Origin.API), names),
    ):
        listed = (await ledger.schedules.list_schedules(query, 10, "")).items
        assert [tuple(one.key) for one in listed] == wanted
    with pytest.raises(InvalidArgument) as raised:
        await ledger.schedules.list_schedules(ScheduleQuery(), 2, "x")
    assert raised.value.reason is ErrorReason.INVALID_PAGE_TOKEN


async def test_a_deleted_schedule_leaves_its_jobs_and_none_of_its_runs(ledger, clock):
    await ledger.schedules.create_schedule(schedule(overlap="ALLOW"))
    clock.now += 3_000
    (fired,) = await fire(ledger)
    await ledger.schedules.delete_schedule(KEY)
    assert await ledger.schedules.next_due_ms() is None
    for run in fired.runs:
        assert (await ledger.reader.get(run.job_id)).job.schedule_id == KEY.schedule_id
    await ledger.schedules.create_schedule(schedule(next_at=START + 60_000))
    assert (await ledger.schedules.list_runs(KEY, None, 10, "")).items == []


async def test_runs_are_listed_newest_first_page_by_page(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    for _ in range(5):  # the first job never ends
        clock.now += 1_000
        await ledger.schedules.fire_due(decide, lambda *_: False, 10)
    found, cursor = [], ""
    while True:
        page = await ledger.schedules.list_runs(KEY, None, 2, cursor)
        found += page.items
        if not (cursor := page.cursor):
            break
    assert [run.tick_at for run in found] == [START + 1_000 * number for number in (5, 4, 3, 2, 1)]
    assert [run.outcome for run in found] == [RunOutcome.SKIPPED_OVERLAP] * 4 + [RunOutcome.SUBMITTED]
    (only,) = (await ledger.schedules.list_runs(KEY, RunOutcome.SUBMITTED, 10, "")).items
    assert only == found[-1]
    with pytest.raises(InvalidArgument):
        await ledger.schedules.list_runs(KEY, None, 2, "x")


async def test_old_runs_are_deleted_but_not_those_whose_job_has_not_ended(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    for _ in range(3):
        clock.now += 1_000
        await fire(ledger)
    assert await ledger.schedules.prune_runs() == 0
    clock.now += RUN_RETENTION_MS - 500
    assert await ledger.schedules.prune_runs() == 1
    clock.now += 501
    assert await ledger.schedules.prune_runs() == 1
    (left,) = (await ledger.schedules.list_runs(KEY, None, 10, "")).items
    assert left.outcome is RunOutcome.SUBMITTED
    assert (await ledger.schedules.get_schedule(KEY)).last_run == left


async def test_the_times_that_have_a_job_are_those_for_which_none_is_submitted(ledger, clock):
    """Not those that were skipped, and not those at which somebody asked for a job."""
    await ledger.schedules.create_schedule(schedule(overlap="SKIP"))
    clock.now += 1_000
    await fire(ledger)
    clock.now += 1_000
    await fire(ledger)
    first, skipped, asked = START + 1_000 - START % 1_000, START + 2_000 - START % 1_000, clock.now
    await ledger.schedules.submit_runs(KEY, [NewRun(asked, asked, Trigger.MANUAL, "k"), NewRun(first - 5_000, asked, Trigger.BACKFILL)])
    with_jobs = await ledger.schedules.times_with_jobs(KEY, first - 5_000, asked + 1)
    assert with_jobs == {first - 5_000, first}
    assert await ledger.schedules.times_with_jobs(KEY, first - 4_999, first) == set()
    assert await ledger.schedules.times_with_jobs(ScheduleKey("other", KEY.schedule_id), 0, asked + 1) == set()
    again = [NewRun(at, asked, Trigger.BACKFILL) for at in (first - 5_000, first, skipped)]
    assert [run is not None for run in await ledger.schedules.submit_runs(KEY, again)] == [False, False, True]

"""The control plane keeps the schedules in the code of workers: during deployments, rollbacks and outages, and beside people's own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from controlplane.code_schedules import FULL_LOOK_S, GONE_S, STALE_S, CodeScheduleReconciler
from sickbay.adapters.embedded.code_schedules import EmbeddedCodeSchedules
from sickbay.adapters.embedded.workers import EmbeddedWorkerRegistry
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.code_schedule import CodeSchedule, set_of
from sickbay.domain.errors import ErrorReason, NotFound, ResourceExhausted, Unavailable
from sickbay.domain.schedule import Origin, Schedule, ScheduleKey, ScheduleQuery, ScheduleSpec, ScheduleState, Timing
from sickbay.domain.schedule_changes import new_schedule, paused
from sickbay.domain.workers import Worker
from sickbay.fleet import FleetView
from sickbay.ports import Queue
from tests.support.clock import ManualClock
from tests.support.embedded_backends import Flaky

REPORT = ScheduleKey("default", "report")


def code(cron="0 3 * * *", name="report", tenant="default", handler="reports.make", payload=b"{}"):
    return CodeSchedule(ScheduleKey(tenant, name), ScheduleSpec(name, Timing(cron), payload), handler)


class World:
    """A ledger, the registries, and any number of control planes; `consumers` is what the broker counts, None if it is away."""

    def __init__(self, ledger, clock):
        self.clock = clock
        self.store = Flaky(ledger.schedules)
        self.registry = Flaky(EmbeddedCodeSchedules(clock))
        self.workers = Flaky(EmbeddedWorkerRegistry(clock))
        self.extra = 0
        self.fired = 0
        self.planes = [self.plane()]

    def plane(self):
        def count():
            self.fired += 1

        view = FleetView(self.workers, self, self.seconds)
        return CodeScheduleReconciler(self.store, self.registry, view, on_change=count, seconds=self.seconds)

    async def consumers(self, queue):
        if queue is Queue.POOLS:
            return 0
        if self.extra is None:
            raise Unavailable("RabbitMQ is unavailable")
        return len((await self.workers._inner.fleet()).workers) + self.extra

    def seconds(self):
        return self.clock.now / 1000

    async def worker(self, name, since, *schedules, draining=False):
        """A worker with this code starts, or announces itself again."""
        found = set_of(schedules)
        if found is not None:
            await self.registry._inner.announce([found])
        await self.workers._inner.announce(
            Worker(name, name, ("report",), schedules=found.digest if found else "", code_since=since, draining=draining)
        )

    async def look(self, after_s=2.0):
        """All control planes look, after so many seconds in which all workers go on announcing themselves."""
        left = round(after_s * 1000)
        while left > 0:
            step = min(left, 5_000)
            self.clock.now += step
            left -= step
            for one in (await self.workers._inner.fleet()).workers:
                await self.workers._inner.announce(one)
        for plane in self.planes:
            await plane.look()

    async def get(self, key=REPORT):
        return await self.store.get_schedule(key)

    async def cron(self, key=REPORT):
        return (await self.get(key)).spec.timing.cron

    async def all(self):
        return {one.key.schedule_id for one in (await self.store.list_schedules(ScheduleQuery(), 100, "")).items}


@pytest.fixture
async def world():
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        yield World(await stack.enter_async_context(open_ledger("sqlite://", clock)), clock)


async def test_a_missing_one_is_created_under_the_mark_of_its_code(world):
    await world.worker("w1", 7, code(), code("@hourly", "poll", "acme"))
    await world.look()
    found = await world.get()
    assert (found.origin, found.handler, found.code_since, found.state) == (Origin.CODE, "reports.make", 7, ScheduleState.ACTIVE)
    assert found.next_at > world.clock.now
    assert (await world.get(ScheduleKey("acme", "poll"))).spec.timing.cron == "@hourly"
    assert world.fired == 2
    await world.look()
    assert await world.get() == found


async def test_another_spec_in_the_code_changes_it_and_a_paused_one_stays_paused(world):
    await world.worker("w1", 1, code(), code("@hourly", "poll"))
    await world.look()
    poll = ScheduleKey("default", "poll")
    await world.store.change_schedule(poll, lambda before, _: paused(before, "too much", "ada"))
    await world.worker("w1", 2, code("0 4 * * *"), code("@daily", "poll"))
    await world.look()
    assert (await world.cron(), await world.cron(poll)) == ("0 4 * * *", "@daily")
    found = await world.get(poll)
    assert (found.state, found.pause_note, found.paused_by, found.next_at) == (ScheduleState.PAUSED, "too much", "ada", 0)


async def test_a_change_that_leaves_its_times_keeps_what_is_due(world):
    await world.worker("w1", 1, code())
    await world.look()
    due = (await world.get()).next_at
    await world.store.change_schedule(REPORT, lambda before, now: replace(before, next_at=now - 5))
    await world.worker("w1", 2, code(payload=b'{"a":1}', handler="reports.other"))
    await world.look()
    found = await world.get()
    assert (found.spec.payload_json, found.handler) == (b'{"a":1}', "reports.other")
    assert found.next_at < world.clock.now < due


async def test_a_rolling_deployment_and_a_rollback_do_not_flap(world):
    """Three control planes; the first worker of a version brings it, also an older version that is brought back."""
    world.planes = [world.plane() for _ in range(3)]
    for name in ("a1", "a2"):
        await world.worker(name, 1, code("0 1 * * *"))
    await world.look()
    await world.worker("b1", 10, code("0 2 * * *"))
    await world.look()
    assert await world.cron() == "0 2 * * *"
    changed = (await world.get()).revision
    await world.worker("a2", 1, code("0 1 * * *"), draining=True)
    for _ in range(5):
        await world.look()
    assert (await world.cron(), (await world.get()).revision) == ("0 2 * * *", changed)
    await world.workers.leave("a1")
    await world.workers.leave("a2")
    await world.look()
    assert (await world.get()).revision == changed
    await world.worker("a3", 20, code("0 1 * * *"))
    await world.look()
    assert await world.cron() == "0 1 * * *"
    assert (await world.get()).revision == changed + 1


async def test_a_deployment_that_is_given_up_leaves_the_older_code_in_force(world):
    """Its worker is gone: not at once, since it might only not be seen."""
    await world.worker("a", 1, code("0 1 * * *"))
    await world.worker("b", 10, code("0 2 * * *"))
    await world.look()
    await world.workers.leave("b")
    await world.look()
    await world.look(GONE_S - 1)
    assert await world.cron() == "0 2 * * *"
    await world.look()
    assert await world.cron() == "0 1 * * *"


async def test_older_code_does_not_come_back_while_the_newer_one_is_not_seen(world):
    """A Redis that lost everything hears first of the older worker."""
    await world.worker("a", 1, code("0 1 * * *"))
    await world.worker("b", 10, code("0 2 * * *"))
    await world.look()
    await world.workers.leave("b")
    await world.look(5)
    await world.look(5)
    await world.worker("b", 10, code("0 2 * * *"))
    await world.look(GONE_S)
    await world.workers.leave("b")
    await world.look(5)
    assert await world.cron() == "0 2 * * *"


async def test_a_set_that_the_registry_has_lost_changes_nothing(world):
    await world.worker("a", 1, code())
    await world.look()
    world.registry._inner._known.clear()
    await world.look(FULL_LOOK_S)
    found = await world.get()
    assert not world.planes[0].is_orphaned(found)
    assert world.planes[0].may_be_in_code(found)
    assert world.planes[0].orphans == 0


async def test_one_that_no_live_worker_has_is_orphaned_and_goes_on(world, caplog):
    await world.worker("a", 1, code())
    await world.look()
    await world.worker("a", 2)
    await world.look()
    (plane,) = world.planes
    found = await world.get()
    assert (plane.is_orphaned(found), plane.may_be_in_code(found), plane.orphans) == (True, False, 1)
    assert found.state is ScheduleState.ACTIVE
    await world.look(FULL_LOOK_S)
    assert caplog.text.count("'report' is orphaned: no live worker has it in its code any more (it was in reports.make)") == 1
    await world.worker("a", 3, code())
    await world.look()
    assert (plane.is_orphaned(found), plane.orphans) == (False, 0)
    await world.worker("a", 4)
    await world.look()
    assert caplog.text.count("is orphaned") == 2


@pytest.mark.parametrize(
    "trouble",
    [
        "no worker is live",
        "the registry of workers is away",
        "that of schedules is away",
        "the broker is away",
        "an unknown worker consumes",
    ],
)
async def test_what_is_not_certain_orphans_nothing(world, trouble):
    await world.worker("a", 1, code())
    await world.look()
    if trouble == "no worker is live":
        await world.workers.leave("a")
    else:
        await world.worker("a", 2, *([code("@hourly", "poll")] if "schedules" in trouble else []))
    if trouble == "the registry of workers is away":
        world.workers.fail("fleet", 99)
    if trouble == "that of schedules is away":
        world.registry.fail("announced", 99)
    world.extra = {"the broker is away": None, "an unknown worker consumes": 1}.get(trouble, 0)
    await world.look()
    found, (plane,) = await world.get(), world.planes
    assert (plane.is_orphaned(found), plane.orphans) == (False, 0)
    assert plane.may_be_in_code(found) is (trouble != "no worker is live")


async def test_a_schedule_of_a_person_with_its_name_is_not_taken_over(world, caplog):
    """Neither changed nor orphaned; the log says it once. When it is gone, that of the code comes."""
    own = new_schedule(REPORT, ScheduleSpec("other", Timing("@weekly")), world.clock.now)
    await world.store.create_schedule(own)
    await world.worker("a", 1, code())
    await world.look()
    await world.look(FULL_LOOK_S)
    found = await world.get()
    assert found == own
    assert caplog.text.count("'report' in the code of reports.make is not created: somebody has created one of that name") == 1
    assert not world.planes[0].may_be_in_code(found)
    await world.store.delete_schedule(REPORT)
    await world.look(FULL_LOOK_S)
    assert await world.cron() == "0 3 * * *"


async def test_one_that_was_deleted_comes_back_while_it_is_in_the_code(world):
    await world.worker("a", 1, code())
    await world.look()
    await world.store.delete_schedule(REPORT)
    await world.look(FULL_LOOK_S)
    assert (await world.get()).origin is Origin.CODE
    await world.worker("a", 2)
    await world.look()
    await world.store.delete_schedule(REPORT)
    await world.look(FULL_LOOK_S)
    assert await world.all() == set()


async def test_three_control_planes_at_once_create_each_one_once(world):
    world.planes = [world.plane() for _ in range(3)]
    await world.worker("a", 1, *(code("@hourly", f"poll{n}") for n in range(20)))
    await asyncio.gather(*(plane.look() for plane in world.planes))
    assert len(await world.all()) == 20
    assert world.fired == 20
    await world.worker("a", 2, *(code("@daily", f"poll{n}") for n in range(20)))
    world.clock.now += 2_000
    await asyncio.gather(*(plane.look() for plane in world.planes))
    found = (await world.store.list_schedules(ScheduleQuery(), 100, "")).items
    assert {(one.spec.timing.cron, one.revision) for one in found} == {("@daily", 1)}


async def test_one_that_was_held_up_changes_nothing(world):
    """What it saw is old by the time of its transaction; it looks again."""
    await world.worker("a", 1, code("0 1 * * *"))
    await world.look()
    await world.worker("b", 2, code("0 2 * * *"))
    inner = world.store._inner.change_schedule

    async def late(key, change, etag=""):
        world.clock.now += round(STALE_S * 1000) + 1
        return await inner(key, change, etag)

    world.store.change_schedule = late
    await world.look()
    assert await world.cron() == "0 1 * * *"
    world.store.change_schedule = inner
    await world.worker("b", 2, code("0 2 * * *"))
    await world.look()
    assert await world.cron() == "0 2 * * *"


@pytest.mark.parametrize("after", [False, True], ids=["before it happened", "after it happened"])
@pytest.mark.parametrize("verb", ["list_schedules", "now", "create_schedule", "change_schedule"])
async def test_a_ledger_that_goes_away_in_the_middle_is_caught_up_with(world, verb, after):
    await world.worker("a", 1, code("0 1 * * *"))
    await world.look()
    await world.worker("a", 2, code("0 2 * * *"), code("@hourly", "poll"))
    world.store.fail(verb, after=after)
    with pytest.raises(Unavailable):
        await world.look()
    await world.look()
    assert (await world.cron(), await world.all()) == ("0 2 * * *", {"report", "poll"})
    assert (await world.get()).revision == 1


async def test_one_that_disappears_in_the_middle_is_created_anew(world):
    await world.worker("a", 1, code("0 1 * * *"))
    await world.look()
    await world.worker("a", 2, code("0 2 * * *"))
    world.store.fail("change_schedule", error=NotFound("there is no schedule 'report'", ErrorReason.SCHEDULE_NOT_FOUND))
    await world.look()
    await world.store.delete_schedule(REPORT)
    await world.look(FULL_LOOK_S)
    assert await world.cron() == "0 2 * * *"


async def test_what_cannot_be_created_or_is_invalid_hinders_no_other(world, caplog):
    await world.worker("a", 1, code("0 0 0 0", "bad"), code(payload=b"[]", name="list"), code(), code("@hourly", "poll"))
    world.store.fail("create_schedule", error=ResourceExhausted("there are 100,000 schedules, and no more may be"))
    await world.look()
    await world.look(FULL_LOOK_S)
    assert await world.all() == {"report", "poll"}
    assert caplog.text.count("the schedule 'bad' of reports.make is ignored: ") == 1
    assert caplog.text.count("the schedule 'list' of reports.make is ignored: the payload must be a JSON object") == 1
    assert caplog.text.count("cannot be created: there are 100,000 schedules") == 1


async def test_one_whose_end_has_come_is_kept_as_ended_and_runs_again_with_another_end(world):
    ended = replace(code(), spec=ScheduleSpec("report", Timing("@daily", end_at=world.clock.now - 1)))
    await world.worker("a", 1, ended)
    await world.look()
    assert (await world.get()).state is ScheduleState.ENDED
    await world.worker("a", 2, code())
    await world.look()
    assert (await world.get()).state is ScheduleState.ACTIVE


async def test_without_schedules_in_code_the_registry_is_not_asked(world):
    await world.worker("a", 1)
    world.registry.fail("announced", 99)
    await world.look()
    assert not world.planes[0].may_be_in_code(Schedule(REPORT, ScheduleSpec("report", Timing("@daily")), origin=Origin.CODE))


async def test_it_reads_the_stored_ones_only_when_something_is_new_or_it_is_time(world):
    await world.worker("a", 1, code())
    await world.look()
    world.store.fail("list_schedules", 99)
    await world.look()
    with pytest.raises(Unavailable):
        await world.look(FULL_LOOK_S)


async def test_it_runs_until_it_is_cancelled_and_outlives_an_outage(world, caplog):
    world.store.fail("create_schedule", 1)
    await world.worker("a", 1, code())
    (plane,) = world.planes
    created = asyncio.Event()
    plane._on_change = created.set
    waits = []

    async def changed(seconds):
        waits.append(seconds)
        await asyncio.sleep(0)

    world.registry.changed = changed
    running = asyncio.create_task(plane.run())
    await created.wait()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    assert "are not looked after, retrying in" in caplog.text
    assert waits[0] < 3

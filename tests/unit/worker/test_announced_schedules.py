"""A worker announces the schedules of its handlers as one set, and says since when its code has them."""

from __future__ import annotations

import asyncio
from functools import partial

from sickbay import handler
from sickbay.adapters.embedded.code_schedules import EmbeddedCodeSchedules
from sickbay.domain.errors import Unavailable
from sickbay.handlers.registry import marks_of
from tests.support.clock import ManualClock
from worker.announced_schedules import AnnouncedSchedules


def specs(*schedules):
    """A handler for each of these."""
    return [marks_of(handler(f"type{number}", schedule=one)(partial(print)))[0] for number, one in enumerate(schedules)]


class Registry(EmbeddedCodeSchedules):
    """Remembers what was announced; unavailable while `away`."""

    def __init__(self):
        super().__init__(ManualClock())
        self.away = False
        self.calls = asyncio.Queue()

    async def announce(self, sets):
        self.calls.put_nowait([[one.key.schedule_id for one in each.schedules] for each in sets])
        if self.away:
            raise Unavailable("Redis is unavailable")
        await super().announce(sets)


async def test_all_of_a_worker_are_one_set():
    registry, clock = Registry(), ManualClock()
    schedules = AnnouncedSchedules(registry, specs("@daily", None, "@hourly"), clock)
    await schedules.announce()
    assert await registry.calls.get() == [["type0", "type2"]]
    assert [*await registry.announced({})] == [schedules.digest]
    assert schedules.since == clock.now


async def test_other_code_is_announced_at_once_with_its_own_time():
    registry, clock = Registry(), ManualClock()
    schedules = AnnouncedSchedules(registry, specs("@daily"), clock, every_s=3_600)
    await schedules.announce()
    began, before = schedules.since, schedules.digest
    running = asyncio.create_task(schedules.run())
    clock.now += 5
    schedules.replace(specs("@daily"))
    assert (schedules.since, schedules.digest) == (began, before)
    schedules.replace(specs("@hourly"))
    assert (schedules.since, schedules.digest != before) == (began + 5, True)
    assert [await registry.calls.get(), await registry.calls.get()] == [[["type0"]], [["type0"]]]
    clock.now -= 3_600_000
    schedules.replace(specs("@weekly"))
    assert schedules.since == began + 6
    running.cancel()
    await asyncio.wait({running})


async def test_what_is_gone_is_named_no_more_and_counts_as_a_change():
    schedules = AnnouncedSchedules(Registry(), specs("@daily"), clock := ManualClock())
    clock.now += 1
    schedules.replace(specs(None))
    assert (schedules.digest, schedules.since) == ("", clock.now)


async def test_without_schedules_or_a_registry_nothing_happens():
    registry = Registry()
    schedules = AnnouncedSchedules(registry, specs(None), ManualClock())
    await schedules.announce()
    await schedules.renew()
    assert (registry.calls.empty(), schedules.digest) == (True, "")
    await AnnouncedSchedules(None, specs("@daily"), ManualClock()).announce()


async def test_an_unavailable_registry_is_told_once_and_gets_them_later(caplog):
    registry = Registry()
    schedules = AnnouncedSchedules(registry, specs("@daily"), ManualClock())
    registry.away = True
    await schedules.announce()
    await schedules.renew()
    assert caplog.text.count("cannot announce the schedules of its handlers, so they remain as they are") == 1
    registry.away = False
    await schedules.renew()
    assert [*await registry.announced({})] == [schedules.digest]

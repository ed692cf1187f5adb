"""A worker announces its schemas once, and again when the registry has lost them; an unavailable registry hinders nothing."""

from __future__ import annotations

import asyncio

from sickbay.adapters.embedded.job_types import EmbeddedJobTypes
from sickbay.domain.errors import Unavailable
from sickbay.domain.job_type import TypeSchema
from tests.support.clock import ManualClock
from worker.announced_types import AnnouncedTypes

EMAIL, SMS = TypeSchema("email", b"{}"), TypeSchema("sms", b"{}")


class Registry(EmbeddedJobTypes):
    """Remembers what was announced; unavailable while `away`."""

    def __init__(self):
        super().__init__(ManualClock())
        self.away = False
        self.calls = asyncio.Queue()

    async def announce(self, schemas):
        self.calls.put_nowait([one.job_type for one in schemas])
        if self.away:
            raise Unavailable("Redis is unavailable")
        await super().announce(schemas)

    async def renew(self, keys):
        if self.away:
            raise Unavailable("Redis is unavailable")
        return await super().renew(keys)


async def test_they_are_announced_once_and_then_renewed():
    registry = Registry()
    types = AnnouncedTypes(registry, [EMAIL, SMS])
    assert types.keys == [EMAIL.key, SMS.key]
    await types.announce()
    await types.renew()
    assert registry.calls.qsize() == 1


async def test_what_the_registry_has_lost_is_announced_again():
    registry = Registry()
    types = AnnouncedTypes(registry, [EMAIL, SMS], every_s=0.001)
    await types.announce()
    registry._known.pop(EMAIL.key)
    running = asyncio.create_task(types.run())
    assert [await registry.calls.get(), await registry.calls.get()] == [["email", "sms"], ["email"]]
    running.cancel()
    await asyncio.wait({running})


async def test_those_of_new_handlers_are_announced_at_once():
    registry = Registry()
    types = AnnouncedTypes(registry, [EMAIL], every_s=3_600)
    await types.announce()
    running = asyncio.create_task(types.run())
    types.replace([EMAIL, SMS])
    assert [await registry.calls.get(), await registry.calls.get()] == [["email"], ["email", "sms"]]
    types.replace([SMS])
    assert types.keys == [SMS.key]
    await types.renew()
    assert registry.calls.empty()
    running.cancel()
    await asyncio.wait({running})


async def test_an_unavailable_registry_is_told_once_and_gets_them_later(caplog):
    registry = Registry()
    types = AnnouncedTypes(registry, [EMAIL], again_s=0.001)
    registry.away = True
    await types.announce()
    running = asyncio.create_task(types.run())
    for _ in range(3):
        await registry.calls.get()
    registry.away = False
    while not await registry.announced({}):
        await registry.calls.get()
    running.cancel()
    await asyncio.wait({running})
    assert caplog.text.count("cannot announce the schemas") == 1


async def test_a_registry_that_goes_away_gets_them_when_it_is_back():
    registry = Registry()
    types = AnnouncedTypes(registry, [EMAIL])
    await types.announce()
    registry.away = True
    await types.renew()
    registry.away = False
    registry._known.clear()
    await types.renew()
    assert [one.schema for one in await registry.announced({})] == [EMAIL]


async def test_without_schemas_or_a_registry_nothing_happens():
    await AnnouncedTypes(None, [EMAIL]).announce()
    await AnnouncedTypes(None, [EMAIL]).renew()
    registry = Registry()
    await AnnouncedTypes(registry, []).announce()
    await AnnouncedTypes(registry, []).renew()
    assert registry.calls.empty()

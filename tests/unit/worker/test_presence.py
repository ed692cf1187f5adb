"""A worker announces itself while it runs, says when it drains, and leaves at its end; an unavailable registry hinders nothing."""

import asyncio
import logging

from sickbay.adapters.embedded.workers import EmbeddedWorkerRegistry
from sickbay.domain.errors import Unavailable
from sickbay.domain.workers import Worker
from tests.support.clock import ManualClock
from worker.presence import Presence

ME = Worker("w1", "anna", ("email",), slots=4)


class Registry(EmbeddedWorkerRegistry):
    """Wakes the test at each announcement; unavailable while `away`."""

    def __init__(self):
        super().__init__(ManualClock())
        self.away = False
        self.calls = asyncio.Queue()

    async def announce(self, worker):
        self.calls.put_nowait(worker)
        if self.away:
            raise Unavailable("Redis is unavailable")
        await super().announce(worker)

    async def leave(self, worker_id):
        if self.away:
            raise Unavailable("Redis is unavailable")
        await super().leave(worker_id)


async def listed(registry):
    return (await registry.fleet()).workers


async def test_it_is_announced_again_and_again_with_its_slots_until_it_leaves():
    registry, in_use = Registry(), iter(range(100))
    presence = Presence(registry, ME, lambda: next(in_use), every_s=0.001)
    await presence.announce()
    running = asyncio.create_task(presence.run())
    assert [(await registry.calls.get()).slots_in_use for _ in range(3)] == [0, 1, 2]
    running.cancel()
    await asyncio.wait({running})
    assert [worker.worker_id for worker in await listed(registry)] == ["w1"]
    await presence.leave()
    assert await listed(registry) == []


async def test_the_tenants_whose_jobs_run_are_announced_with_their_slots():
    registry = Registry()
    await Presence(registry, ME, lambda: 3, running=lambda: {"acme": 1, "beta": 2}).announce()
    assert [worker.tenants for worker in await listed(registry)] == [(("beta", 2), ("acme", 1))]


async def test_a_drain_is_announced_without_waiting_for_the_next_heartbeat():
    registry = Registry()
    presence = Presence(registry, ME, lambda: 0, every_s=3_600)
    running = asyncio.create_task(presence.run())
    presence.drain()
    assert (await registry.calls.get()).draining
    running.cancel()
    await asyncio.wait({running})


async def test_a_registry_that_stays_unavailable_is_logged_once_and_again_when_it_is_back(caplog):
    caplog.set_level(logging.INFO)
    registry = Registry()
    registry.away = True
    presence = Presence(registry, ME, lambda: 0)
    await presence.announce()
    assert caplog.records == []
    for _ in range(3):
        await presence.announce()
    await presence.leave()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    registry.away = False
    for _ in range(2):
        await presence.announce()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]
    assert len(await listed(registry)) == 1

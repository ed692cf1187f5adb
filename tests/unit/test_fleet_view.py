"""What a process may conclude from the registry: that a type lacks a worker only if every consumer has announced itself."""

from dataclasses import replace

import pytest

from sickbay.adapters.embedded.workers import EmbeddedWorkerRegistry
from sickbay.domain.errors import Unavailable
from sickbay.domain.workers import UNKNOWN, Worker
from sickbay.fleet import MAX_AGE_S, OLD_S, FleetView
from sickbay.ports import Queue
from tests.support.clock import ManualClock

EMAIL = Worker("w1", "anna", ("email",))


class Consumers:
    """A broker that only counts consumers; unavailable if `number` is None."""

    def __init__(self, number):
        self.number = number

    async def consumers(self, queue):
        if queue is Queue.POOLS:
            return 0
        if self.number is None:
            raise Unavailable("RabbitMQ is unavailable")
        return self.number


class Registry(EmbeddedWorkerRegistry):
    def __init__(self):
        super().__init__(ManualClock())
        self.away = False
        self.reads = 0

    async def fleet(self):
        self.reads += 1
        if self.away:
            raise Unavailable("Redis is unavailable")
        return await super().fleet()


@pytest.fixture
def registry():
    return Registry()


@pytest.mark.parametrize(
    ("consumers", "unannounced", "lacks_fax"),
    [(1, 0, True), (0, 0, True), (2, 1, False), (None, None, False)],
)
async def test_a_type_lacks_a_worker_only_if_all_consumers_are_known(registry, consumers, unannounced, lacks_fax):
    await registry.announce(EMAIL)
    fleet = await FleetView(registry, Consumers(consumers)).look()
    assert (fleet.unannounced, fleet.lacks("fax"), fleet.lacks("email"), fleet.handles("email")) == (unannounced, lacks_fax, False, True)


async def test_a_draining_worker_takes_no_jobs_and_its_consumer_does_not_count(registry):
    await registry.announce(replace(EMAIL, draining=True))
    assert (await FleetView(registry, Consumers(0)).look()).lacks("email")
    assert not (await FleetView(registry, Consumers(1)).look()).lacks("email")


async def test_without_the_registry_nothing_is_known(registry):
    registry.away = True
    fleet = await FleetView(registry, Consumers(0)).look()
    assert fleet is UNKNOWN
    assert not fleet.lacks("email")


async def test_many_questions_within_a_second_cost_one_call(registry):
    now = 0.0
    view = FleetView(registry, Consumers(0), lambda: now)
    for _ in range(3):
        await view.look()
    assert registry.reads == 1
    now = MAX_AGE_S
    await registry.announce(EMAIL)
    assert (await view.look()).handles("email")
    assert registry.reads == 2


async def test_what_was_seen_is_unknown_before_the_first_look_and_when_it_is_old(registry):
    now = 0.0
    view = FleetView(registry, Consumers(0), lambda: now)
    assert view.seen is UNKNOWN
    fleet = await view.look()
    now = OLD_S
    assert view.seen is fleet
    now = OLD_S + 1
    assert view.seen is UNKNOWN

"""The job types as a service sees them: which schemas count, and what is rejected while something is unknown."""

from __future__ import annotations

import pytest

from sickbay.adapters.embedded.job_types import EmbeddedJobTypes
from sickbay.adapters.embedded.workers import EmbeddedWorkerRegistry
from sickbay.domain.errors import ErrorReason, FailedPrecondition, Unavailable
from sickbay.domain.job_type import TypeSchema
from sickbay.domain.workers import Worker
from sickbay.job_types.view import JobTypeView
from tests.support.clock import ManualClock

OLD = TypeSchema("email", b'{"type":"object","required":["to"]}', on_submit=True)
NEW = TypeSchema("email", b'{"type":"object","required":["address"]}', on_submit=True)
LAX = TypeSchema("email", b'{"type":"object","required":["address"]}')
BROKEN = TypeSchema("email", b'{"type":"nonsense"}', on_submit=True)
ADDRESS, TO, NEITHER = b'{"address":1}', b'{"to":1}', b"{}"


class World:
    """A registry of each kind, and a view of both that a test refreshes."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.away = False
        self.types, self.workers = Types(self), EmbeddedWorkerRegistry(self.clock)
        self.view = JobTypeView(self.types, self.workers, stale_s=0)

    async def start(self, name: str, *schemas: TypeSchema, job_types: tuple[str, ...] = ("email",), **more: object) -> None:
        self.clock.now += 1
        await self.types.announce(schemas)
        await self.workers.announce(Worker(name, name, job_types, schemas=tuple(one.key for one in schemas), **more))

    async def rejected(self, *payloads: bytes) -> list[bool]:
        await self.view.refresh()
        return [self.view.rejection("email", payload) is not None for payload in payloads]


class Types(EmbeddedJobTypes):
    """Unavailable while the world says so; counts how often it was asked."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self.world = world

    async def announced(self, seen):
        if self.world.away:
            raise Unavailable("Redis is unavailable")
        return await super().announced(seen)


@pytest.fixture
def world():
    return World()


async def test_nothing_is_rejected_before_a_worker_says_so(world):
    assert await world.rejected(NEITHER) == [False]
    await world.start("a", LAX)
    assert await world.rejected(NEITHER) == [False]
    await world.start("a", NEW)
    assert await world.rejected(NEITHER, ADDRESS) == [True, False]


async def test_while_two_versions_are_live_what_one_of_them_takes_is_not_rejected(world):
    await world.start("a", OLD)
    await world.start("b", NEW)
    assert await world.rejected(TO, ADDRESS, NEITHER) == [False, False, True]
    assert "payload.address: it is missing" in str(world.view.rejection("email", NEITHER))  # by the newest of them
    await world.workers.leave("a")
    assert await world.rejected(TO, ADDRESS) == [True, False]


@pytest.mark.parametrize("other", [(), (LAX,)], ids=["without a schema", "with one that is checked later"])
async def test_as_long_as_a_live_worker_takes_anything_nothing_is_rejected(world, other):
    """Such as one of a version that announces no schemas."""
    await world.start("a", OLD)
    await world.start("b", *other)
    assert await world.rejected(NEITHER) == [False]


async def test_a_draining_worker_takes_nothing(world):
    await world.start("a", OLD, draining=True)
    await world.start("b", NEW)
    assert await world.rejected(TO) == [True]


async def test_without_a_live_worker_the_newest_schema_counts(world):
    await world.start("a", OLD)
    await world.start("b", NEW)
    await world.workers.leave("a")
    await world.workers.leave("b")
    assert await world.rejected(TO, ADDRESS) == [True, False]


async def test_a_schema_that_is_not_known_yet_takes_anything(world):
    """After a restart of Redis its worker announces it again, a little later."""
    await world.start("a", OLD)
    await world.workers.announce(Worker("b", "b", ("email",), schemas=(NEW.key,)))
    assert await world.rejected(NEITHER) == [False]


async def test_a_schema_that_cannot_be_used_rejects_nothing_and_is_logged_once(world, caplog):
    await world.start("a", BROKEN)
    assert await world.rejected(NEITHER) == [False]
    assert await world.rejected(NEITHER) == [False]
    assert caplog.text.count("their schema cannot be used") == 1


async def test_while_the_registry_is_away_what_was_known_holds_for_a_while(world):
    await world.start("a", OLD)
    view = JobTypeView(world.types, world.workers, stale_s=60)
    await view.refresh()
    world.away = True
    await view.refresh()
    assert view.rejection("email", NEITHER) is not None
    await world.view.refresh()
    assert await world.rejected(NEITHER) == [False]
    assert await view.mistake("email", NEITHER) is None
    with pytest.raises(Unavailable):
        await view.look()


async def test_an_edit_is_checked_whatever_the_schema_says_of_submits(world):
    await world.start("a", LAX)
    found = await world.view.mistake("email", NEITHER)
    assert found is not None
    assert (found.reason, found.violations) == (ErrorReason.INVALID_PAYLOAD, (("payload.address", "it is missing"),))
    assert await world.view.mistake("email", ADDRESS) is None
    assert await world.view.mistake("sms", NEITHER) is None
    await world.start("b")
    assert await world.view.mistake("email", NEITHER) is None


async def test_types_without_a_schema_are_listed_with_their_workers(world):
    await world.start("a", NEW, job_types=("email", "sms"), pool="mail")
    await world.start("b", job_types=("sms",))
    found = await world.view.look()
    assert {name: (one.workers, list(one.pools), one.newest is None) for name, one in found.items()} == {
        "email": (1, ["mail"], False),
        "sms": (2, ["mail"], True),
    }


async def test_without_a_registry_nothing_is_known_and_nothing_rejected():
    view = JobTypeView(None, None)
    await view.refresh()
    assert view.rejection("email", NEITHER) is None
    assert await view.mistake("email", NEITHER) is None
    with pytest.raises(FailedPrecondition, match="REDIS_URL"):
        await view.look()
    async with view.watched():
        pass

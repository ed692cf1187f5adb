"""How many breakers of made-up names may be held, and what finding that out costs."""

import pytest

from controlplane.held_breakers import COUNT_AGAIN_S, MAX_HELD, MAX_HELD_UNKNOWN, HeldBreakers
from sickbay.domain.breaker import Action, BreakerKey, BreakerState, Snapshot
from sickbay.domain.errors import ResourceExhausted


class Fleet:
    """What of it is asked; `looks` counts how often all of it was."""

    def __init__(self):
        self.states = {}
        self.looks = 0

    async def keys(self):
        return sorted(self.states)

    async def snapshots(self):
        self.looks += 1
        return [Snapshot(key, state, 0, 0, 0) for key, state in sorted(self.states.items())]


@pytest.fixture
def fleet():
    return Fleet()


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def held(fleet, clock):
    return HeldBreakers(fleet, lambda: clock[0])


async def hold(held, fleet, key, action=Action.FORCE_OPEN):
    await held.check(key, action)
    fleet.states[key] = BreakerState.FORCED_OPEN
    held.record(key, action)


async def test_made_up_names_are_bounded_and_counted_once_a_second(held, fleet, clock):
    for number in range(MAX_HELD_UNKNOWN):
        await hold(held, fleet, BreakerKey(f"made-up-{number}"))
    with pytest.raises(ResourceExhausted, match="are already held"):
        await hold(held, fleet, BreakerKey("one-more"))
    assert fleet.looks == 1
    clock[0] += COUNT_AGAIN_S
    with pytest.raises(ResourceExhausted):
        await hold(held, fleet, BreakerKey("one-more"))
    assert fleet.looks == 2


async def test_who_sets_one_free_may_hold_another_at_once(held, fleet):
    for number in range(MAX_HELD_UNKNOWN):
        await hold(held, fleet, BreakerKey(f"made-up-{number}"))
    fleet.states[BreakerKey("made-up-7")] = BreakerState.CLOSED
    held.record(BreakerKey("made-up-7"), Action.RESET)
    await hold(held, fleet, BreakerKey("another"))


async def test_breakers_that_are_known_may_be_held_without_a_look(held, fleet):
    fleet.states = {BreakerKey(f"type-{number}"): BreakerState.FORCED_OPEN for number in range(MAX_HELD)}
    await hold(held, fleet, BreakerKey("type-3"))
    assert fleet.looks == 0


async def test_known_types_have_more_room_for_new_tenants(held, fleet):
    fleet.states = {BreakerKey(f"type-{number}"): BreakerState.FORCED_OPEN for number in range(MAX_HELD_UNKNOWN)}
    await hold(held, fleet, BreakerKey("type-3", "tenant"))
    with pytest.raises(ResourceExhausted):
        await hold(held, fleet, BreakerKey("unknown"))


@pytest.mark.parametrize("action", [Action.RESET, Action.AUTO])
async def test_what_holds_nothing_is_not_counted(held, fleet, action):
    await held.check(BreakerKey("never-seen"), action)
    assert fleet.looks == 0


async def test_what_others_hold_counts(held, fleet, clock):
    await hold(held, fleet, BreakerKey("mine"))
    fleet.states |= {BreakerKey(f"theirs-{number}"): BreakerState.DISABLED for number in range(MAX_HELD_UNKNOWN)}
    clock[0] += COUNT_AGAIN_S
    with pytest.raises(ResourceExhausted):
        await hold(held, fleet, BreakerKey("another"))

"""What watchers of the breakers of this process hear of, and when."""

import asyncio
from random import Random

from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, BreakerState, Command
from sickbay.domain.outcome import SUCCESS
from tests.support.clock import ManualClock

EMAIL = BreakerKey("email")


async def run(breakers, count):
    for number in range(count):
        await breakers.settle(await breakers.admit(EMAIL, f"j{number}"), SUCCESS)


async def test_a_ramp_that_moves_is_told_together_and_another_change_at_once():
    clock = ManualClock()
    breakers = EmbeddedBreakers(BreakerConfig(), clock, Random(1))
    await breakers.command(EMAIL, Command(Action.FORCE_OPEN))
    await breakers.command(EMAIL, Command(Action.RESET))
    async with breakers.watch() as changes, breakers.watch() as others:
        before = (await breakers.snapshots())[0].rev
        await run(breakers, 2)
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        assert not waiting.done(), "four steps of the ramp"
        told = await waiting
        assert (told, await anext(others)) == ((await breakers.snapshots())[0],) * 2
        assert (told.rev > before, told.recovering) == (True, True)

        clock.now += 1_000
        await run(breakers, 1)
        await breakers.command(EMAIL, Command(Action.FORCE_OPEN))
        assert (await anext(changes)).state is BreakerState.FORCED_OPEN
        waiting = asyncio.ensure_future(anext(changes))
        await breakers.command(EMAIL, Command(Action.DISABLE))
        assert (await waiting).state is BreakerState.DISABLED, "the step before is no news any more"


async def test_a_ramp_whose_breaker_is_gone_when_it_is_told_is_no_news():
    acme = BreakerKey("email", "acme")
    breakers = EmbeddedBreakers(BreakerConfig(), ManualClock(), Random(1))
    await breakers.command(acme, Command(Action.FORCE_OPEN))
    await breakers.command(acme, Command(Action.RESET))
    async with breakers.watch() as changes:
        await breakers.settle(await breakers.admit(acme, "j"), SUCCESS)
        breakers._forget(acme)
        await breakers.command(EMAIL, Command(Action.FORCE_OPEN))
        assert (await anext(changes)).key == EMAIL
        breakers._announcements._tell_moved()
        await breakers.command(EMAIL, Command(Action.DISABLE))
        assert (await anext(changes)).key == EMAIL

"""A breaker's parameters may change at any time: the next decision uses them."""

from random import Random

from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.domain.breaker import BreakerConfig, BreakerKey, BreakerState
from sickbay.domain.outcome import Outcome, OutcomeKind

EMAIL, SMS = BreakerKey("email"), BreakerKey("sms")


async def fail(breakers, key, job_id):
    """One failed run; returns the breaker's state after it."""
    permit = await breakers.admit(key, job_id)
    return await breakers.settle(permit, Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT"))


async def test_a_new_threshold_and_cooldown_act_at_the_next_failure():
    """For this type alone."""
    configs = {EMAIL: BreakerConfig(), SMS: BreakerConfig()}
    breakers = EmbeddedBreakers(configs.__getitem__, lambda: 1_000, Random(1))
    for key in (EMAIL, SMS):
        assert await fail(breakers, key, "a") is BreakerState.CLOSED
    configs[EMAIL] = BreakerConfig(failure_threshold=2, cooldown_ms=7_000)
    assert await fail(breakers, SMS, "b") is BreakerState.CLOSED
    assert await fail(breakers, EMAIL, "b") is BreakerState.OPEN
    (seen,) = await breakers.snapshots([EMAIL])
    assert seen.cooldown_ms == 7_000

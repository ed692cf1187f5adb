"""Jobs for circuits, for the tests of what shares them."""

from sickbay.domain.breaker import BreakerKey, Permit

KEY = BreakerKey("email")


async def run(breakers, outcome, times=1, key=KEY):
    """So many jobs in a row that a closed circuit lets run, all with this outcome."""
    for number in range(times):
        permit = await breakers.admit(key, f"job-{number}")
        assert isinstance(permit, Permit)
        await breakers.settle(permit, outcome)

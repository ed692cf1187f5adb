"""How many breakers of made-up names admins can command, whatever they do with them afterwards."""

from random import Random

import pytest

from controlplane import held_breakers
from controlplane.breaker_service import BreakerApi
from sickbay.adapters.embedded.breakers import RESET_MS, EmbeddedBreakers
from sickbay.breakers.v1 import breaker_service_pb2 as pb
from sickbay.domain.breaker import BreakerConfig, BreakerKey, BreakerScope
from sickbay.domain.errors import ErrorReason, ResourceExhausted

HOUR_S = RESET_MS // 1000
MOST = {"MAX_HELD_UNKNOWN": 10, "MAX_HELD": 30, "MAX_OF_DEFAULT": 20}


class System:
    """A control plane on circuits in memory, and the time."""

    def __init__(self):
        self.now = 1_700_000_000_000
        self.breakers = EmbeddedBreakers(BreakerConfig(), lambda: self.now, Random(0))
        self.api = BreakerApi(self.breakers, None, None, lambda: self.now, scope=BreakerScope.TENANT)

    async def hold(self, job_type, tenant="", seconds=0):
        request = pb.ForceOpenBreakerRequest(job_type=job_type, tenant=tenant)
        if seconds:
            request.duration.seconds = seconds
        await self.api.ForceOpenBreaker(request, None)

    async def reset(self, job_type, tenant=""):
        await self.api.ResetBreaker(pb.ResetBreakerRequest(job_type=job_type, tenant=tenant), None)

    async def auto(self, job_type, tenant=""):
        await self.api.SetBreakerAuto(pb.SetBreakerAutoRequest(job_type=job_type, tenant=tenant), None)

    async def wait(self, seconds):
        self.now += seconds * 1000
        await self.breakers.snapshots()

    async def refusal(self, job_type, tenant=""):
        with pytest.raises(ResourceExhausted) as caught:
            await self.hold(job_type, tenant)
        assert caught.value.reason is ErrorReason.TOO_MANY_NAMES
        return str(caught.value)


@pytest.fixture
def system(monkeypatch):
    for name, number in MOST.items():
        monkeypatch.setattr(held_breakers, name, number)
    return System()


async def test_the_advice_is_good(system):
    """One of the others is reset, then there is room for this one."""
    for number in range(MOST["MAX_HELD_UNKNOWN"]):
        await system.hold(f"made-up-{number}")
    assert "reset some of the others" in await system.refusal("wanted")
    await system.reset("made-up-0")
    await system.hold("wanted")


@pytest.mark.parametrize("end", ["auto", "time"])
async def test_a_hold_that_ended_still_counts(system, end):
    """Its circuit waits for a probe, and no job ever comes; a reset helps here, too."""
    for number in range(MOST["MAX_HELD_UNKNOWN"]):
        await system.hold(f"made-up-{number}", seconds=1)
        if end == "auto":
            await system.auto(f"made-up-{number}")
    await system.wait(2)
    assert "wait for a probe" in await system.refusal("wanted")
    await system.reset("made-up-0")
    await system.hold("wanted")


async def test_holding_and_resetting_one_name_after_the_other_ends_too(system):
    """Those that were reset are kept for an hour, so they count as well; then they are forgotten."""
    for number in range(MOST["MAX_OF_DEFAULT"]):
        await system.hold(f"made-up-{number}")
        await system.reset(f"made-up-{number}")
    assert "deleted after an hour" in await system.refusal("wanted")
    await system.hold("made-up-0")
    await system.reset("made-up-0")
    await system.wait(HOUR_S)
    assert not await system.breakers.keys()
    await system.hold("wanted")


async def test_made_up_tenants_of_a_known_type_end_too(system):
    for number in range(MOST["MAX_HELD"]):
        await system.hold("email", f"made-up-{number}")
    await system.refusal("email", "wanted")
    await system.reset("email", "made-up-0")
    await system.hold("email", "wanted")
    for number in range(1, MOST["MAX_HELD"]):
        await system.reset("email", f"made-up-{number}")
    assert await system.breakers.keys() == [BreakerKey("email", "wanted")], "a tenant's circuit is gone with its reset"


async def test_a_circuit_that_runs_jobs_is_not_forgotten_after_its_reset(system):
    await system.hold("email")
    await system.reset("email")
    await system.breakers.admit(BreakerKey("email"), "job-1")
    await system.wait(2 * HOUR_S)
    assert await system.breakers.keys() == [BreakerKey("email")]

"""What ProbeBreaker answers."""

import logging
from random import Random

import pytest

from controlplane import breaker_service
from controlplane.breaker_service import BreakerApi
from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.breakers.v1 import breaker_service_pb2 as pb
from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, Command
from sickbay.domain.errors import ErrorReason, FailedPrecondition, NotFound
from sickbay.domain.outcome import Outcome, OutcomeKind
from tests.support.clock import ManualClock

EMAIL = BreakerKey("email")
REQUEST = pb.ProbeBreakerRequest(job_type="email")


class System:
    """A control plane on circuits in memory."""

    def __init__(self):
        clock = ManualClock()
        self.breakers = EmbeddedBreakers(BreakerConfig(), clock, Random(0))
        self.api = BreakerApi(self.breakers, None, None, clock)

    async def open(self):
        for number in range(5):
            permit = await self.breakers.admit(EMAIL, f"job-{number}")
            await self.breakers.settle(permit, Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT"))

    async def probe(self):
        return (await self.api.ProbeBreaker(REQUEST, None)).breaker


async def test_an_open_breaker_is_due_and_the_log_says_why(caplog):
    system = System()
    await system.open()
    with caplog.at_level(logging.INFO, breaker_service.__name__):
        shown = await system.probe()
    assert (shown.state, shown.cooldown_elapsed, shown.probe_job_id) == (Breaker.STATE_OPEN, True, "")
    assert caplog.messages == ["a probe of email was requested: its next job is the probe"]


async def test_a_running_probe_is_named_and_no_second_one_starts(caplog):
    system = System()
    await system.open()
    await system.probe()
    await system.breakers.admit(EMAIL, "the-probe")
    caplog.clear()  # where a test before has left the logger at this level, the first request is there, too
    with caplog.at_level(logging.INFO, breaker_service.__name__):
        shown = await system.probe()
    assert (shown.state, shown.probe_job_id) == (Breaker.STATE_HALF_OPEN, "the-probe")
    assert caplog.messages == ["a probe of email was requested; job the-probe is running as one already"]


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Action.RESET, "is CLOSED, and only an OPEN one can be probed"),
        (Action.FORCE_OPEN, "is FORCED_OPEN, and only an OPEN one can be probed; end the hold first"),
        (Action.DISABLE, "is DISABLED"),
        (Action.METRICS_ONLY, "is METRICS_ONLY"),
    ],
)
async def test_other_states_are_a_failed_precondition(action, text):
    system = System()
    await system.open()
    await system.breakers.command(EMAIL, Command(action))
    with pytest.raises(FailedPrecondition, match=text) as caught:
        await system.probe()
    assert caught.value.reason is ErrorReason.WRONG_STATE


async def test_a_hold_beside_a_running_probe_is_a_failed_precondition_too():
    system = System()
    await system.open()
    await system.probe()
    await system.breakers.admit(EMAIL, "the-probe")
    await system.breakers.command(EMAIL, Command(Action.FORCE_OPEN))
    with pytest.raises(FailedPrecondition, match="FORCED_OPEN"):
        await system.probe()


async def test_an_unknown_type_is_not_found():
    with pytest.raises(NotFound):
        await System().probe()

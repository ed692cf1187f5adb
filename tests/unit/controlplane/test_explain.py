"""Explaining a breaker: with the number of jobs that wait for it, as far as it is known."""

from dataclasses import replace

import pytest

from controlplane.breaker_service import BreakerApi
from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import ExplainBreakerRequest, GetBreakerRequest, ListBreakersRequest
from sickbay.breakers.v1.explanation_pb2 import BreakerExplanation
from sickbay.domain.breaker import Action, BreakerKey, BreakerScope, Command, DependencyRule
from sickbay.domain.errors import NotFound
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from sickbay.domain.workers import UNKNOWN, Fleet, Worker
from sickbay.server.rest.views import breaker_view
from tests.support.embedded_backends import open_backends

EVENTS = [
    JobEvent(Job(f"job-{number}", "email", tenant=tenant, submitted_at=1), JobState.PARKED, 2, reason=Reason.CIRCUIT_OPEN)
    for number, tenant in enumerate(("default", "acme", "acme"))
]


def serve(backends, scope=BreakerScope.TYPE, fleet=UNKNOWN):
    parked = backends.quarantine.parked
    return BreakerApi(backends.breakers, backends.broker, backends.writer, backends.clock, scope=scope, parked=parked, fleet=lambda: fleet)


async def explain(api, tenant=""):
    return (await api.ExplainBreaker(ExplainBreakerRequest(job_type="email", tenant=tenant), None)).explanation


@pytest.mark.parametrize(("scope", "tenant", "count"), [(BreakerScope.TYPE, "acme", 3), (BreakerScope.TENANT, "acme", 2)])
async def test_the_jobs_that_wait_for_this_breaker_are_counted(scope, tenant, count):
    async with open_backends() as backends:
        await backends.writer.apply(EVENTS)
        await backends.breakers.command(scope.key_of("email", tenant), Command(Action.FORCE_OPEN, by="ada"))
        explained = await explain(serve(backends, scope), tenant)
        assert explained.parked_jobs == count
        assert explained.sentences[-1] == f"{count} jobs are parked and wait until the circuit closes."


async def test_an_unknown_type():
    async with open_backends() as backends:
        with pytest.raises(NotFound):
            await explain(serve(backends))


async def test_without_the_ledger_the_number_is_unknown_and_the_rest_is_said():
    async with open_backends() as backends:
        await backends.breakers.command(BreakerKey("email"), Command(Action.DISABLE, by="ada"))
        backends.quarantine.fail("parked")
        explained = await explain(serve(backends))
        assert not explained.HasField("parked_jobs")
        assert explained.sentences[0] == "The breaker of email was disabled by ada."


async def test_the_breaker_of_a_dependency_counts_the_jobs_of_all_its_types():
    rule = DependencyRule(BreakerScope.TYPE, lambda: {"email": "mail", "welcome": "mail"})
    async with open_backends() as backends:
        await backends.writer.apply([*EVENTS, replace(EVENTS[0], job=Job("job-9", "welcome", submitted_at=1))])
        await backends.breakers.command(BreakerKey("dependency:mail"), Command(Action.FORCE_OPEN, by="ada"))
        explained = await explain(serve(backends, rule))
        assert (explained.breaker.job_type, explained.breaker.dependency, explained.parked_jobs) == ("email", "mail", 4)
        assert "email and welcome share this circuit, because of the dependency mail." in explained.sentences


NOBODY = Fleet(1, [Worker("w", "anna", ("sms",))], unannounced=0)
SOMEBODY = Fleet(1, [Worker("w", "anna", ("email",))], unannounced=0)
INCOMPLETE = Fleet(1, [], unannounced=1)


async def trip(backends, key=BreakerKey("email")):  # noqa: B008 - frozen
    for number in range(5):
        permit = await backends.breakers.admit(key, f"job-{number}")
        await backends.breakers.settle(permit, Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "no answer"))


@pytest.mark.parametrize(
    ("fleet", "waits"),
    [(NOBODY, True), (SOMEBODY, False), (INCOMPLETE, False), (UNKNOWN, False)],
    ids=["nobody", "one", "incomplete", "unknown"],
)
async def test_an_open_breaker_says_that_it_waits_for_a_worker(fleet, waits):
    """Everywhere: alone, in lists, over REST and in its explanation; and only if that is certain."""
    async with open_backends() as backends:
        await trip(backends)
        await backends.writer.apply(EVENTS)
        api = serve(backends, fleet=fleet)
        (listed,) = (await api.ListBreakers(ListBreakersRequest(), None)).breakers
        alone = (await api.GetBreaker(GetBreakerRequest(job_type="email"), None)).breaker
        explained = await explain(api)
        assert [one.waiting_for for one in (listed, alone, explained.breaker)] == ["worker" if waits else ""] * 3
        assert breaker_view(listed).get("waitingFor") == ("worker" if waits else None)
        step = BreakerExplanation.NEXT_STEP_WORKER_COMES if waits else BreakerExplanation.NEXT_STEP_PROBE
        assert (explained.next_step, explained.HasField("next_time")) == (step, not waits)
        assert ("No live worker handles email: until one does, nothing of it is probed or released." in explained.sentences) == waits
        assert any("next probe" in sentence for sentence in explained.sentences) != waits
        ending = "wait for a worker." if waits else "wait until the circuit closes."
        assert explained.sentences[-1] == f"3 jobs are parked and {ending}"


async def test_a_closed_breaker_waits_for_nothing_and_its_parked_jobs_for_a_worker():
    async with open_backends() as backends:
        await backends.breakers.settle(await backends.breakers.admit(BreakerKey("email"), "job-9"), SUCCESS)
        api = serve(backends, fleet=NOBODY)
        explained = await explain(api)
        assert (explained.breaker.state, explained.breaker.waiting_for) == (Breaker.STATE_CLOSED, "")
        assert explained.next_step == BreakerExplanation.NEXT_STEP_NONE
        await backends.writer.apply(EVENTS)
        explained = await explain(api)
        assert explained.next_step == BreakerExplanation.NEXT_STEP_WORKER_COMES
        assert explained.sentences[-1] == "3 jobs are parked and wait for a worker."


async def test_the_breaker_of_a_dependency_waits_only_if_none_of_its_types_has_a_worker():
    rule = DependencyRule(BreakerScope.TYPE, lambda: {"email": "mail", "welcome": "mail"})
    async with open_backends() as backends:
        await trip(backends, BreakerKey("dependency:mail"))
        for job_type, waits in (("sms", True), ("welcome", False)):
            api = serve(backends, rule, Fleet(1, [Worker("w", "anna", (job_type,))], unannounced=0))
            (listed,) = (await api.ListBreakers(ListBreakersRequest(), None)).breakers
            assert listed.waiting_for == ("worker" if waits else "")

"""Explaining a breaker: with the number of jobs that wait for it, as far as it is known."""

from dataclasses import replace

import pytest

from controlplane.breaker_service import BreakerApi
from sickbay.breakers.v1.breaker_service_pb2 import ExplainBreakerRequest
from sickbay.domain.breaker import Action, BreakerKey, BreakerScope, Command, DependencyRule
from sickbay.domain.errors import NotFound
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from tests.support.embedded_backends import open_backends

EVENTS = [
    JobEvent(Job(f"job-{number}", "email", tenant=tenant, submitted_at=1), JobState.PARKED, 2, reason=Reason.CIRCUIT_OPEN)
    for number, tenant in enumerate(("default", "acme", "acme"))
]


def serve(backends, scope=BreakerScope.TYPE):
    return BreakerApi(backends.breakers, backends.broker, backends.writer, backends.clock, scope=scope, parked=backends.quarantine.parked)


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

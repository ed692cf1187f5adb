"""Jobs that are to be rejected rather than parked: nothing of them stays, and nothing else is rejected."""

from contextlib import asynccontextmanager

import pytest

from sickbay.contract.requests import Submission
from sickbay.domain.breaker import Action, BreakerKey, BreakerScope, Command
from sickbay.domain.errors import ErrorReason, FailedPrecondition, Refused, Unavailable
from sickbay.domain.queries import Accepted
from sickbay.ports import Queue
from sickbay.submission import keys as keys_module
from sickbay.submission.circuits import Circuits
from sickbay.submission.recent import RecentJobs
from sickbay.submission.submit import JobSubmitter
from tests.support.embedded_backends import open_backends

EMAIL = BreakerKey("email")
HOLD = Command(Action.FORCE_OPEN, 10_000, "ada")


@asynccontextmanager
async def open_intake(scope=BreakerScope.TYPE):
    async with open_backends() as backends:
        circuits = Circuits(backends.breakers.view(), scope)
        yield JobSubmitter(backends.broker, backends.keys, RecentJobs(), backends.clock, circuits=circuits), backends


def wish(key="", tenant="default", *, rejects=True):
    return Submission("email", tenant, b"{}", key, rejects)


async def test_a_rejected_job_is_nowhere_and_says_when_to_try_again():
    async with open_intake() as (intake, backends):
        await backends.breakers.command(EMAIL, HOLD)
        (rejected,) = await intake.accept([wish()])
        assert isinstance(rejected, Refused)
        assert (rejected.reason, rejected.retry_after) == (ErrorReason.CIRCUIT_OPEN, 10.0)
        assert await backends.broker.depth(Queue.MAIN) == await backends.broker.depth(Queue.LEDGER) == 0


async def test_a_rejected_job_leaves_no_key_behind():
    """The same key is a new request, even with another payload, as soon as the answer has come."""
    async with open_intake() as (intake, backends):
        await backends.breakers.command(EMAIL, HOLD)
        (rejected,) = await intake.accept([wish("k")])
        assert rejected.reason is ErrorReason.CIRCUIT_OPEN
        await backends.breakers.command(EMAIL, Command(Action.RESET))
        (accepted,) = await intake.accept([Submission("email", "default", b'{"other": 1}', "k", True)])
        assert isinstance(accepted, Accepted)
        assert (accepted.duplicate, accepted.job.maybe_duplicate) == (False, False)


async def test_the_key_of_a_rejected_job_is_released_when_its_store_is_back(monkeypatch):
    monkeypatch.setattr(keys_module, "AGAIN_S", (0.0, 0.0))
    async with open_intake() as (intake, backends):
        await backends.breakers.command(EMAIL, HOLD)
        backends.keys.fail("release", times=2)
        (rejected,) = await intake.accept([wish("k")])
        assert rejected.reason is ErrorReason.CIRCUIT_OPEN
        await intake.detached.close()
        await backends.breakers.command(EMAIL, Command(Action.RESET))
        (accepted,) = await intake.accept([wish("k")])
        assert isinstance(accepted, Accepted)


async def test_a_repeat_of_an_accepted_job_is_no_new_job():
    """Its client learns that the job is accepted, instead of sending it elsewhere, too."""
    async with open_intake() as (intake, backends):
        (first,) = await intake.accept([wish("k")])
        await backends.breakers.command(EMAIL, HOLD)
        (again,) = await intake.accept([wish("k")])
        assert (again.duplicate, again.job.job_id) == (True, first.job.job_id)


async def test_a_job_that_may_be_in_the_queue_already_is_not_rejected():
    async with open_intake() as (intake, backends):
        backends.broker.fail("publish", after=True)
        (lost,) = await intake.accept([wish("k")])
        assert isinstance(lost, Unavailable)
        backends.clock.now += 31_000
        await backends.breakers.command(EMAIL, HOLD)
        (again,) = await intake.accept([wish("k")])
        assert again.job.maybe_duplicate


async def test_items_of_a_batch_are_judged_one_by_one():
    async with open_intake() as (intake, backends):
        await backends.breakers.command(EMAIL, HOLD)
        parked, rejected, other = await intake.accept([wish(rejects=False), wish(), Submission("sms", "default", b"{}", "", True)])
        assert isinstance(parked, Accepted)
        assert rejected.reason is ErrorReason.CIRCUIT_OPEN
        assert isinstance(other, Accepted)
        assert await backends.broker.depth(Queue.MAIN) == 2


async def test_the_job_that_may_be_the_probe_is_accepted():
    async with open_intake() as (intake, backends):
        await backends.breakers.command(EMAIL, HOLD)
        backends.clock.now += 10_000
        (accepted,) = await intake.accept([wish()])
        assert isinstance(accepted, Accepted)


@pytest.mark.parametrize(("scope", "is_accepted"), [(BreakerScope.TYPE, False), (BreakerScope.TENANT, True)])
async def test_whose_breaker_it_is_depends_on_the_scope(scope, is_accepted):
    async with open_intake(scope) as (intake, backends):
        await backends.breakers.command(EMAIL, HOLD)
        (answer,) = await intake.accept([wish(tenant="acme")])
        assert isinstance(answer, Accepted) == is_accepted


async def test_who_cannot_see_breakers_does_not_promise_to_reject():
    async with open_backends() as backends:
        intake = JobSubmitter(backends.broker, backends.keys, RecentJobs(), backends.clock)
        refused, accepted = await intake.accept([wish("k"), wish(rejects=False)])
        assert isinstance(refused, FailedPrecondition)
        assert (refused.reason, "REDIS_URL" in str(refused)) == (ErrorReason.NOT_CONFIGURED, True)
        assert isinstance(accepted, Accepted)

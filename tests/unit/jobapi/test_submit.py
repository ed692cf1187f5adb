"""Taking jobs in: accepted means durable, and an idempotency key never makes two jobs of one."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sickbay.contract.requests import Submission
from sickbay.domain.errors import Aborted, AlreadyExists, Refused, Unavailable
from sickbay.domain.job import Job, JobRecord, JobState
from sickbay.domain.queries import KeyClaim
from sickbay.messages.codec import decode_job
from sickbay.ports import Queue
from sickbay.submission import keys as keys_module
from sickbay.submission.recent import RecentJobs
from sickbay.submission.submit import Accepted, JobSubmitter
from tests.support.embedded_backends import open_backends


@asynccontextmanager
async def open_intake():
    async with open_backends() as backends:
        yield JobSubmitter(backends.broker, backends.keys, RecentJobs(), backends.clock), backends


def wish(key="", payload=b'{"a": 1}'):
    return Submission("email", "default", payload, key)


async def jobs_in_main(backends):
    count = await backends.broker.depth(Queue.MAIN)
    async with backends.broker.consume(Queue.MAIN, 100) as consumer:
        return [decode_job(delivery.body, "", 0) for delivery in (await consumer.get(100) if count else ())]


async def test_an_accepted_job_is_durable():
    async with open_intake() as (intake, backends):
        (result,) = await intake.accept([wish()])
        (stored,) = await jobs_in_main(backends)
        assert (result.job, result.duplicate) == (stored, False)
        assert await backends.broker.depth(Queue.LEDGER) == 1


async def test_a_repeat_gets_the_first_answer():
    async with open_intake() as (intake, backends):
        (first,) = await intake.accept([wish("k")])
        (second,) = await intake.accept([wish("k")])
        assert (second.job.job_id, second.duplicate) == (first.job.job_id, True)
        assert await backends.broker.depth(Queue.MAIN) == 1


async def test_the_same_key_with_another_body_is_refused():
    async with open_intake() as (intake, _):
        await intake.accept([wish("k")])
        (result,) = await intake.accept([wish("k", b'{"a": 2}')])
        assert isinstance(result, AlreadyExists)


async def test_a_key_is_one_of_its_principal():
    """Of the client's one before access control was on, too; and handlers see what the client sent."""
    async with open_intake() as (intake, _):
        callers = [wish("k"), *(replace(wish("k"), principal=name) for name in ("ann", "bob", "ann\x1fk"))]
        first = await intake.accept(callers)
        assert len({one.job.job_id for one in first}) == len(callers)
        assert not any(one.duplicate for one in first)
        repeated = [(await intake.accept([one]))[0] for one in callers]
        assert [(one.job.job_id, one.duplicate) for one in repeated] == [(one.job.job_id, True) for one in first]


async def test_a_key_of_before_stays_valid_while_access_control_is_off():
    async with open_intake() as (intake, backends):
        claim = KeyClaim("default", "k", wish("k").digest, "earlier")
        await backends.keys.reserve([claim])
        await backends.keys.confirm([claim])
        (result,) = await intake.accept([wish("k")])
        assert (result.job.job_id, result.duplicate) == ("earlier", True)


async def test_a_repeat_in_the_same_call_gets_the_first_answer():
    async with open_intake() as (intake, backends):
        results = await intake.accept([wish("k"), wish(), wish("k"), wish("other"), wish("k", b'{"a": 2}'), wish()])
        first, _, again, _, different, _ = results
        assert (first.duplicate, again.duplicate, again.job) == (False, True, first.job)
        assert isinstance(different, AlreadyExists)
        assert len({job.job_id for job in await jobs_in_main(backends)}) == 4


async def test_a_repeat_of_a_refused_submission_in_the_same_call_is_refused():
    async with open_intake() as (intake, backends):
        backends.broker.fail("publish")
        first, again = await intake.accept([wish("k"), wish("k")])
        assert isinstance(first, Unavailable)
        assert again is first


async def test_a_key_whose_first_request_is_under_way_is_aborted():
    async with open_intake() as (intake, backends):
        backends.broker.fail("publish")
        (first,) = await intake.accept([wish("k")])
        (second,) = await intake.accept([wish("k")])
        assert isinstance(first, Unavailable)
        assert isinstance(second, Aborted)


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_request_that_vanished_half_way_goes_on_under_the_same_id(arrived):
    async with open_intake() as (intake, backends):
        backends.broker.fail("publish", after=arrived)
        await intake.accept([wish("k")])
        backends.clock.now += 31_000
        (again,) = await intake.accept([wish("k")])
        assert isinstance(again, Accepted)
        stored = await jobs_in_main(backends)
        assert {job.job_id for job in stored} == {again.job.job_id}
        assert stored[-1].maybe_duplicate
        assert len(stored) == (2 if arrived else 1)


async def test_many_at_once_with_one_key_make_one_job():
    async with open_intake() as (intake, backends):
        results = await asyncio.gather(*(intake.accept([wish("k")]) for _ in range(20)))
        accepted = [one for (one,) in results if isinstance(one, Accepted)]
        assert {one.job.job_id for one in accepted} == {accepted[0].job.job_id}
        assert await backends.broker.depth(Queue.MAIN) == 1
        assert all(isinstance(one, Accepted | Aborted) for (one,) in results)


async def test_a_batch_shares_one_publish_and_its_failure():
    async with open_intake() as (intake, backends):
        backends.broker.fail("publish")
        results = await intake.accept([wish(), wish("k"), wish()])
        assert all(isinstance(result, Unavailable) for result in results)


def test_the_latest_are_remembered_and_the_oldest_go():
    recent = RecentJobs(2)
    for name in "abc":
        recent.add(JobRecord(Job(name, "email"), JobState.QUEUED, 1))
    assert recent.get("a") is None
    assert recent.get("c").job.job_id == "c"


async def freed(intake):
    """What the intake does behind its answers is done."""
    await intake.detached.close()


async def test_a_key_is_free_at_once_when_nothing_was_accepted():
    """The broker has certainly taken nothing, so a repeat need not wait for the lease."""
    async with open_intake() as (intake, backends):
        backends.broker.fail("publish", error=Refused("no"))
        (first,) = await intake.accept([wish("k")])
        await freed(intake)
        (second,) = await intake.accept([wish("k", b'{"corrected": true}')])
        assert isinstance(first, Refused)
        assert isinstance(second, Accepted)
        assert not second.job.maybe_duplicate


async def test_a_key_is_free_at_once_when_the_broker_cannot_carry_the_job():
    """A ValueError comes before anything is stored."""
    async with open_intake() as (intake, backends):
        backends.broker.fail("publish", error=ValueError("too large"))
        with pytest.raises(ValueError, match="too large"):
            await intake.accept([wish("k")])
        await freed(intake)
        (second,) = await intake.accept([wish("k")])
        assert isinstance(second, Accepted)


async def test_a_key_whose_first_request_may_have_arrived_is_not_freed_by_the_second():
    """The second was refused for certain, but of the first nobody knows: its job id stays."""
    async with open_intake() as (intake, backends):
        backends.broker.fail("publish", after=True)
        await intake.accept([wish("k")])
        backends.clock.now += 31_000
        backends.broker.fail("publish", error=Refused("no"))
        await intake.accept([wish("k")])
        await freed(intake)
        backends.clock.now += 31_000
        (third,) = await intake.accept([wish("k")])
        assert {job.job_id for job in await jobs_in_main(backends)} == {third.job.job_id}


@pytest.mark.parametrize("after", [True, False])
async def test_a_key_that_may_have_been_reserved_is_freed(after):
    """The store did not answer; what it has done all the same is undone."""
    async with open_intake() as (intake, backends):
        backends.keys.fail("reserve", after=after)
        (first,) = await intake.accept([wish("k")])
        await freed(intake)
        (second,) = await intake.accept([wish("k")])
        assert isinstance(first, Unavailable)
        assert isinstance(second, Accepted)
        assert await backends.broker.depth(Queue.MAIN) == 1


async def test_an_accepted_job_is_accepted_although_its_key_cannot_be_confirmed(monkeypatch):
    """It is confirmed later, before its lease runs out."""
    monkeypatch.setattr(keys_module, "AGAIN_S", (0, 0, 0))
    async with open_intake() as (intake, backends):
        backends.keys.fail("confirm", 2)
        (first,) = await intake.accept([wish("k")])
        assert isinstance(first, Accepted)
        await freed(intake)
        (second,) = await intake.accept([wish("k")])
        assert (second.job.job_id, second.duplicate) == (first.job.job_id, True)


async def test_keys_of_a_batch_go_to_their_store_together(monkeypatch):
    """In slices; one that the store does not answer is the failure of its jobs alone, and their keys are free again."""
    monkeypatch.setattr(keys_module, "MAX_CLAIMS", 3)
    async with open_intake() as (intake, backends):
        backends.keys.fail("reserve", after=True)
        batch = [wish(f"k{number}") for number in range(8)]
        results = await intake.accept(batch)
        assert [isinstance(result, Accepted) for result in results] == [False] * 3 + [True] * 5
        assert all(isinstance(result, Unavailable) for result in results[:3])
        await freed(intake)
        again = await intake.accept(batch)
        assert [result.duplicate for result in again] == [False] * 3 + [True] * 5
        assert await backends.broker.depth(Queue.MAIN) == 8


async def test_a_store_that_is_away_fails_the_jobs_with_keys_alone():
    async with open_intake() as (intake, backends):
        backends.keys.fail("reserve")
        keyed, plain = await intake.accept([wish("k"), wish()])
        assert isinstance(keyed, Unavailable)
        assert isinstance(plain, Accepted)


async def test_keys_that_cannot_be_confirmed_are_confirmed_later(monkeypatch):
    """Of a slice, while the others are confirmed at once."""
    monkeypatch.setattr(keys_module, "AGAIN_S", (0, 0))
    monkeypatch.setattr(keys_module, "MAX_CLAIMS", 2)
    async with open_intake() as (intake, backends):
        backends.keys.fail("confirm")
        batch = [wish(f"k{number}") for number in range(4)]
        first = await intake.accept(batch)
        await freed(intake)
        again = await intake.accept(batch)
        assert [(one.job.job_id, one.duplicate) for one in again] == [(one.job.job_id, True) for one in first]

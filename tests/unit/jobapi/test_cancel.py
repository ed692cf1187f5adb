"""Cancelling a job, step by step: what the workers say, what the ledger says, and what is answered."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from jobapi import cancel
from jobapi.cancel import Canceller
from sickbay.domain.errors import FailedPrecondition, Unavailable
from sickbay.domain.job import Job, JobRecord, JobState
from sickbay.domain.queries import HoldAnswer
from sickbay.messages.codec import decode_events
from sickbay.ports import Queue

JOB = Job("j", "email")
BEGUN = HoldAnswer(frozenset("j"), 1)
NONE = HoldAnswer(frozenset(), 1)


class World:
    """A ledger, a broker and workers that say what a test wants."""

    def __init__(self, *states, heard=None, workers=1):
        self.states = list(states)
        self.heard = heard or [NONE]
        self.workers = workers
        self.steps = []
        self.news = asyncio.Event()
        self.news.set()
        self.canceller = Canceller(self, self, self, lambda: 7, self.find)

    async def find(self, job_id):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return JobRecord(JOB, state, 5)

    @asynccontextmanager
    async def hold(self, job_ids):
        assert job_ids == ["j"]
        try:
            yield self
        finally:
            self.steps.append("let go")

    async def ask(self, workers):
        assert workers == self.workers
        self.steps.append("asked")
        return self.heard.pop(0) if len(self.heard) > 1 else self.heard[0]

    async def consumers(self, queue):
        return self.workers if queue is Queue.MAIN else 0

    async def publish(self, messages):
        (event,) = decode_events(messages[0].body)
        self.steps.append(f"told {event.state}")

    @asynccontextmanager
    async def watch(self, job_id):
        async def changes():
            await self.news.wait()
            yield None

        yield changes()


async def test_the_workers_hold_the_job_before_the_ledger_is_told_and_are_asked_again_after():
    world = World(JobState.QUEUED, JobState.QUEUED, JobState.CANCELLED)
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED
    assert world.steps == ["asked", "told CANCELLED", "asked", "let go"]


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUCCEEDED, JobState.DISCARDED])
async def test_nobody_is_asked_about_a_job_that_runs_or_has_ended(state):
    world = World(state)
    with pytest.raises(FailedPrecondition):
        await world.canceller.cancel("j")
    assert world.steps == []


async def test_it_is_too_late_once_a_run_has_begun_though_the_ledger_does_not_know_it_yet():
    world = World(JobState.QUEUED, heard=[BEGUN])
    with pytest.raises(FailedPrecondition, match="has begun"):
        await world.canceller.cancel("j")
    assert world.steps == ["asked", "let go"], "and nothing has changed"


async def test_a_run_that_began_beside_the_cancellation_is_not_hidden():
    world = World(JobState.QUEUED, JobState.QUEUED, JobState.CANCELLED, heard=[NONE, BEGUN])
    with pytest.raises(FailedPrecondition, match="had just begun"):
        await world.canceller.cancel("j")


async def test_a_worker_that_does_not_answer_may_begin_a_run():
    world = World(JobState.QUEUED, workers=3)
    with pytest.raises(Unavailable, match="2 of 3 workers did not answer"):
        await world.canceller.cancel("j")
    assert world.steps == ["asked", "let go"], "and nothing has changed"


async def test_a_cancelled_job_can_be_cancelled_again():
    world = World(JobState.CANCELLED)
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED
    assert "told CANCELLED" not in world.steps


async def test_a_ledger_that_does_not_decide_is_told_a_few_times(monkeypatch):
    monkeypatch.setattr(cancel, "PATIENCE_S", 0.01)
    world = World(JobState.PARKED)
    world.news.clear()
    with pytest.raises(Unavailable, match="being released"):
        await world.canceller.cancel("j")
    assert world.steps == ["asked", "told CANCELLED"] * 3 + ["let go"]


async def test_the_late_news_of_an_earlier_run_is_no_reason_to_say_that_it_is_too_late():
    """The workers said that no run is under way, and the cancellation has been told already."""
    world = World(JobState.RETRYING, JobState.RETRYING, JobState.RUNNING, JobState.RUNNING, JobState.CANCELLED)
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED


async def test_a_release_that_was_faster_is_cancelled_in_its_new_generation():
    world = World(JobState.PARKED, JobState.PARKED, JobState.QUEUED, JobState.QUEUED, JobState.CANCELLED)
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED
    assert world.steps == ["asked", "told CANCELLED"] * 2 + ["asked", "let go"]

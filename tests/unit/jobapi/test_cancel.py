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


def asked(state=JobState.RUNNING):
    """A job that somebody has asked to cancel."""
    return JobRecord(JOB, state, 5, cancel_requested_at=6)


def record_of(found):
    return found if isinstance(found, JobRecord) else JobRecord(JOB, found, 5)


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
        return record_of(self.states.pop(0) if len(self.states) > 1 else self.states[0])

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
        self.steps.append("told to end" if event.cancel_requested else f"told {event.state}")

    @asynccontextmanager
    async def watch(self, job_id):
        async def changes():
            while True:
                await self.news.wait()
                yield record_of(self.states[0]), None
                await asyncio.sleep(0)

        yield changes()


async def test_the_workers_hold_the_job_before_the_ledger_is_told_and_are_asked_again_after():
    world = World(JobState.QUEUED, JobState.QUEUED, JobState.CANCELLED)
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED
    assert world.steps == ["asked", "told CANCELLED", "asked", "let go"]


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.DISCARDED])
async def test_nobody_is_asked_about_a_job_that_has_ended(state):
    world = World(state)
    with pytest.raises(FailedPrecondition):
        await world.canceller.cancel("j")
    assert world.steps == []


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.RETRYING])
async def test_a_run_that_has_begun_is_asked_to_end_whatever_the_ledger_knows_of_it(state, monkeypatch):
    monkeypatch.setattr(cancel, "END_S", 0.01)
    world = World(state, state, asked(), heard=[BEGUN])
    record = await world.canceller.cancel("j")
    assert (record.state, record.cancel_requested_at) == (JobState.RUNNING, 6)
    assert world.steps == ["asked", "told to end", "let go"], "its worker may settle it while its end is waited for"


async def test_a_run_that_ends_at_once_is_told_as_cancelled():
    world = World(JobState.RUNNING, JobState.RUNNING, asked(), asked(), asked(), asked(JobState.CANCELLED), heard=[BEGUN])
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED


@pytest.mark.parametrize("heard", [BEGUN, NONE], ids=["its worker lives", "its worker is gone"])
async def test_a_job_is_asked_for_once(heard, monkeypatch):
    monkeypatch.setattr(cancel, "END_S", 0.01)
    world = World(asked(), heard=[heard])
    assert (await world.canceller.cancel("j")).cancel_requested_at == 6
    assert world.steps == ["asked", "let go"]


async def test_a_run_of_a_worker_that_is_gone_is_not_repeated():
    """Its copy comes to another worker, which ends the job: it may as well have succeeded, with that in flight."""
    world = World(JobState.RUNNING, JobState.RUNNING, asked(), asked(), asked(JobState.CANCELLED))
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED
    assert "told to end" in world.steps


async def test_a_success_that_was_faster_counts():
    world = World(JobState.RUNNING, JobState.RUNNING, asked(), asked(), asked(JobState.SUCCEEDED), heard=[BEGUN])
    with pytest.raises(FailedPrecondition, match="the job is SUCCEEDED"):
        await world.canceller.cancel("j")


async def test_a_run_that_was_faster_to_fail_leaves_a_waiting_job():
    world = World(JobState.RUNNING, JobState.RUNNING, JobState.PARKED, JobState.PARKED, JobState.CANCELLED, heard=[BEGUN, NONE])
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED
    assert world.steps == ["asked", "told to end", "let go", "asked", "told CANCELLED", "asked", "let go"]


async def test_a_run_whose_end_is_known_but_not_settled_is_waited_for(monkeypatch):
    monkeypatch.setattr(cancel, "LOOK_S", 0.0)
    world = World(JobState.QUARANTINED, JobState.QUARANTINED, JobState.QUARANTINED, JobState.CANCELLED, heard=[BEGUN, NONE])
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED
    assert world.steps == ["asked", "let go", "asked", "told CANCELLED", "asked", "let go"]


async def test_workers_of_an_earlier_version_cannot_cancel_a_run():
    world = World(JobState.QUEUED, heard=[HoldAnswer(frozenset("j"), 1, can_cancel=False)])
    with pytest.raises(FailedPrecondition, match="has begun"):
        await world.canceller.cancel("j")
    assert world.steps == ["asked", "let go"], "and nothing has changed"


async def test_a_request_that_the_ledger_does_not_take_is_no_promise(monkeypatch):
    monkeypatch.setattr(cancel, "PATIENCE_S", 0.01)
    world = World(JobState.RUNNING, heard=[BEGUN])
    world.news.clear()
    with pytest.raises(Unavailable, match="lags"):
        await world.canceller.cancel("j")
    assert world.steps == ["asked", "told to end", "let go"] * cancel.LOOKS


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


async def test_workers_are_not_asked_about_a_job_that_none_can_have():
    """So it is cancelled at once, although one of them may not answer."""
    world = World(JobState.SCHEDULED, JobState.CANCELLED, heard=[Unavailable("silence")], workers=3)
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED
    assert world.steps == ["told CANCELLED"]


async def test_a_job_that_is_being_sent_to_the_workers_is_cancelled_as_one_that_waits():
    world = World(JobState.SCHEDULED, JobState.QUEUED, JobState.QUEUED, JobState.CANCELLED)
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED
    assert world.steps == ["told CANCELLED", "asked", "told CANCELLED", "asked", "let go"]


async def test_a_change_of_its_time_is_not_taken_for_the_cancellation():
    world = World(JobState.SCHEDULED, JobState.SCHEDULED, JobState.CANCELLED)
    assert (await world.canceller.cancel("j")).state is JobState.CANCELLED
    assert world.steps == ["told CANCELLED", "told CANCELLED"]

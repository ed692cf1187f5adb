"""Events travel in batches, and a delivery is acknowledged only after its event is durable."""

import asyncio

import pytest

from sickbay.domain.job import JobEvent, JobState
from sickbay.messages import outbox as module
from sickbay.messages.codec import decode_events
from sickbay.messages.outbox import MAX_EVENTS, REMEMBERED_S, EventOutbox
from tests.support.engine_bench import StubBroker, StubDelivery, job


def event(name="j", state=JobState.SUCCEEDED):
    return JobEvent(job(name), state, 5, run="r")


async def test_many_events_share_messages_of_at_most_two_hundred():
    broker = StubBroker([])
    async with EventOutbox(broker) as stream:
        for n in range(2 * MAX_EVENTS + 50):
            stream.add(event(f"j{n}"))
        await stream.flush()
    assert [len(decode_events(message.body)) for message in broker.published] == [200, 200, 50]
    assert {message.key for message in broker.published} == {"job.events"}


async def test_flush_returns_after_the_acks():
    broker = StubBroker([])
    deliveries = [StubDelivery(b"", broker.log) for _ in range(3)]
    async with EventOutbox(broker, linger_s=60) as stream:
        for n, delivery in enumerate(deliveries):
            stream.add(event(f"j{n}"), delivery)
        await stream.flush()
        assert broker.log == ["published job.events", "ack", "ack", "ack"]
        await stream.flush()


async def test_a_begin_is_told_only_while_its_run_lasts():
    broker = StubBroker([])
    async with EventOutbox(broker, linger_s=60) as stream:
        stream.report_start(event("short", JobState.RUNNING))
        stream.report_start(event("parked", JobState.RUNNING))
        stream.report_start(event("long", JobState.RUNNING))
        stream.add(event("short"))
        stream.forget("parked")
        await stream.flush()
    assert [(one.job.job_id, one.state) for one in broker.events()] == [("long", JobState.RUNNING), ("short", JobState.SUCCEEDED)]


async def test_the_end_flushes_what_is_left():
    broker = StubBroker([])
    delivery = StubDelivery(b"", broker.log)
    async with EventOutbox(broker, linger_s=60) as stream:
        stream.add(event(), delivery)
    assert delivery.verdict == "ack"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(module, "MAX_RETRY_S", 0.0)


async def test_a_broker_that_is_away_is_tried_until_it_is_back(impatient):
    broker = StubBroker([])
    broker.failing = 20
    delivery = StubDelivery(b"", broker.log)
    async with EventOutbox(broker, linger_s=0) as stream:
        stream.add(event(), delivery)
        await delivery.settled.wait()
    assert broker.log == ["publish failed"] * 20 + ["published job.events", "ack"]


async def test_an_end_without_a_broker_leaves_the_deliveries_to_come_again(impatient):
    broker = StubBroker([])
    broker.failing = 10**9
    delivery = StubDelivery(b"", broker.log)
    async with asyncio.timeout(5), EventOutbox(broker, linger_s=0) as stream:
        stream.add(event(), delivery)
    assert delivery.verdict == ""


async def test_the_end_does_not_wait_for_ever_for_a_broker_that_is_away(monkeypatch):
    """A publish that hangs is broken off; its delivery is not acknowledged, so the job comes again."""
    monkeypatch.setattr(module, "CLOSE_S", 0.01)

    class Silent(StubBroker):
        async def publish(self, messages):
            await asyncio.Event().wait()

    broker = Silent([])
    delivery = StubDelivery(b"", broker.log)
    async with EventOutbox(broker, linger_s=0.001) as stream:
        stream.add(event(), delivery)
        await stream.flush(0.01)
    assert delivery.verdict == ""


async def test_only_the_end_of_a_run_is_untold():
    """Who cancels a job is told that it is too late while a run's end is on its way, and not because a copy of it was dropped."""
    broker = StubBroker([])
    async with EventOutbox(broker, linger_s=60) as stream:
        stream.add(event("ran", JobState.RETRYING))
        stream.add(JobEvent(job("dropped"), JobState.SUCCEEDED, 5, run="r", duplicate=True))
        assert stream.is_unreported("ran")
        assert not stream.is_unreported("dropped")
        await stream.flush()
        assert not stream.is_unreported("ran")
        assert not stream.is_unreported("dropped")


async def test_a_success_is_remembered_until_the_ledger_has_long_read_it(monkeypatch):
    """One control plane may write that a job is CANCELLED while another still holds the news of its success."""
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    async with EventOutbox(StubBroker([]), linger_s=60) as stream:
        stream.add(event("early"))
        await stream.flush()
        now += REMEMBERED_S - 1
        stream.add(event("late"))
        await stream.flush()
        now += REMEMBERED_S - 2
        assert stream.is_unreported("early")
        assert stream.is_unreported("late")
        now += REMEMBERED_S + 3
        assert not stream.is_unreported("early")
        assert not stream.is_unreported("late")


async def test_what_is_remembered_of_successes_is_bounded(monkeypatch):
    """Of many the latest count."""
    monkeypatch.setattr(module, "MAX_REMEMBERED", 10)
    async with EventOutbox(StubBroker([]), linger_s=60) as stream:
        for number in range(40):
            stream.add(event(f"j{number}"))
            await stream.flush()
        remembered = [number for number in range(40) if stream.is_unreported(f"j{number}")]
    assert remembered == list(range(remembered[0], 40))
    assert 10 <= len(remembered) <= 20

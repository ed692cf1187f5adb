"""What the worker itself fails at: charged to the job, bounded, and with a person in the end; every delivery is settled."""

import asyncio

import pytest

from sickbay.domain.errors import Unavailable
from sickbay.domain.failure import Failure
from sickbay.domain.job import JobState, Reason
from sickbay.domain.retry import MAX_FAULTS, RetryPolicy, SetAside, after_fault
from tests.support.engine_bench import does, fine, job, open_bench


async def test_a_fault_of_the_worker_is_charged_and_goes_to_a_person_in_the_end():
    """Never repeated for ever: two retries with a growing delay, then quarantined with the place where it failed."""
    async with open_bench(does(fine)) as bench:

        async def broken(key, job_id, longest_ms, *, released):
            raise RuntimeError("no such breaker")

        bench.breakers.admit = broken
        copy = job()
        for attempt in range(MAX_FAULTS - 1):
            assert await bench.run_one(copy) == "ack"
            copy = bench.broker.copies()[-1]
            assert copy.attempt == attempt + 1
        assert [message.delay_ms for message in bench.broker.published if message.key == "retry"] == [5_000, 10_000]
        assert await bench.run_one(copy) == "ack"
        event = bench.broker.events()[-1]
        assert (event.state, event.reason, event.code) == (JobState.QUARANTINED, Reason.WORKER_FAULT, "WORKER_FAULT")
        assert event.message.startswith("RuntimeError: no such breaker (")
        assert "test_faults.py" in event.message
        assert len(event.job.failures) == MAX_FAULTS


async def test_a_fault_in_reading_a_message_keeps_its_bytes():
    """Not even its job can be told."""
    async with open_bench(does(fine)) as bench:

        class Odd(dict):
            def __bool__(self):
                raise RuntimeError("odd headers")

        delivery = bench.deliver(job())
        delivery.headers = Odd()
        await delivery.settled.wait()
        assert delivery.verdict == "ack"
        (event,) = bench.broker.events()
        assert (event.reason, event.job.job_id) == (Reason.WORKER_FAULT, "m-1")
        assert "odd headers" in event.message
        assert "contentBase64" in event.job.payload


async def test_a_fault_that_cannot_be_charged_gives_the_job_back():
    """Nothing is acknowledged whose successor is not durable."""
    async with open_bench(does(fine)) as bench:

        async def broken(key, job_id, longest_ms, *, released):
            raise RuntimeError

        bench.breakers.admit = broken
        bench.broker.failing_copies = 1
        assert await bench.run_one(job()) == "nack"
        assert bench.broker.published == []


async def test_a_broker_that_fails_in_ways_nobody_knows_gives_the_job_back():
    """The worst there is: neither the job nor its fault can be published, and no `Unavailable` says so."""
    async with open_bench(does(fine)) as bench:

        async def broken(messages):
            raise TypeError

        publish, bench.broker.publish = bench.broker.publish, broken
        bench.breakers.answer = object()
        assert await bench.run_one(job()) == "nack"
        bench.broker.publish = publish


async def test_an_event_that_cannot_be_told_does_not_keep_the_others(monkeypatch):
    """The batch is halved until only that one is left; its job is charged with a fault of the worker, the others are acknowledged."""
    from sickbay.messages import outbox as events

    encode = events.encode_events

    def picky(batch):
        some = list(batch)
        if any(event.job.job_id == "odd" and event.state is JobState.SUCCEEDED for event in some):
            raise ValueError("cannot be written")
        return encode(some)

    monkeypatch.setattr(events, "encode_events", picky)
    async with open_bench(does(fine)) as bench:
        bench.events._linger_s = 0.05
        deliveries = [bench.deliver(job(name)) for name in ("a", "b", "odd", "c", "d")]
        await asyncio.gather(*(delivery.settled.wait() for delivery in deliveries))
        assert [delivery.verdict for delivery in deliveries] == ["ack"] * 5
        done = {event.job.job_id for event in bench.broker.events() if event.state is JobState.SUCCEEDED}
        assert done == {"a", "b", "c", "d"}
        (copy,) = bench.broker.copies()
        assert (copy.job_id, copy.attempt, copy.failures[0].code) == ("odd", 1, "WORKER_FAULT")


async def test_what_is_away_is_asked_less_and_less_often(monkeypatch):
    """The pause grows with the trouble, up to thirty times the first, and begins anew when it is over."""
    waits = []

    async def note(seconds):
        waits.append(seconds)

    async with open_bench(does(fine)) as bench:
        settler = bench.engine._settler
        settler.pause_s = 1.0
        monkeypatch.setattr("worker.settler.asyncio.sleep", note)
        monkeypatch.setattr("worker.settler.jitter", lambda: 1.0)
        await settler.pause()
        settler.trouble_since -= 10
        await settler.pause()
        settler.trouble_since -= 1_000
        await settler.pause()
        assert [round(wait) for wait in waits] == [1, 5, 30]
        monkeypatch.undo()
        settler.pause_s = 0.0
        await bench.run_one(job())
        assert settler.trouble_since is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, BaseExceptionGroup("g", [KeyboardInterrupt()])])
async def test_not_even_a_base_exception_on_the_way_leaves_a_delivery_unsettled(error):
    """Whatever our own code or a driver's raises."""
    async with open_bench(does(fine)) as bench:

        async def broken(key, job_id, longest_ms, *, released):
            raise error

        bench.breakers.admit = broken
        assert await bench.run_one(job()) == "ack"
        assert bench.broker.copies()[0].failures[0].code == "WORKER_FAULT"


async def test_a_worker_that_ends_in_the_middle_takes_no_crash_back():
    """The process may be dying of this very job; only a run that came to an end says that it did not."""
    async with open_bench(does(fine)) as bench:

        async def dying(key, job_id, longest_ms, *, released):
            raise asyncio.CancelledError

        bench.breakers.admit = dying
        assert await bench.run_one(job(), redelivered=True) == "nack"
        assert bench.fence.left == []


def test_faults_of_earlier_generations_do_not_count():
    """A person has looked at it since and sent it again."""
    old = tuple(Failure(1, 0, n, "WORKER_FAULT", "x") for n in range(5))
    copy = job(generation=1, failures=old)
    assert not isinstance(after_fault(copy, "x", RetryPolicy(), 9), SetAside)


async def test_unavailable_is_no_fault():
    """The broker is away: the job goes back as it was."""
    async with open_bench(does(fine)) as bench:

        async def away(key, job_id, longest_ms, *, released):
            raise Unavailable("away")

        bench.breakers.admit = away
        assert await bench.run_one(job()) == "nack"
        assert bench.broker.published == []

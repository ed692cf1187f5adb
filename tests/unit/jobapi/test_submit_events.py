"""What tells the ledger of accepted jobs: with payloads that are not too large, in messages that are not too large."""

from sickbay.contract.requests import Submission
from sickbay.domain.job import JobState
from sickbay.messages.codec import decode_events
from sickbay.ports import Queue
from sickbay.submission.recent import RecentJobs
from sickbay.submission.submit import MAX_EVENT_BYTES, JobSubmitter
from tests.support.embedded_backends import open_backends


async def told(kept_bytes, *sizes):
    """The messages on `jobs.ledger` after a batch of payloads of these sizes: of each its events."""
    async with open_backends() as backends:
        intake = JobSubmitter(backends.broker, backends.keys, RecentJobs(), backends.clock, kept_bytes=kept_bytes)
        await intake.accept([Submission("email", "default", b'{"a":"' + b"x" * (size - 8) + b'"}', "") for size in sizes])
        async with backends.broker.consume(Queue.LEDGER, 100) as consumer:
            return [decode_events(delivery.body) for delivery in await consumer.get(100)]


async def test_payloads_go_along_up_to_a_size():
    (events,) = await told(1_000, 999, 1_000, 1_001)
    assert [len(event.job.payload_json) for event in events] == [999, 1_000, 0]


async def test_no_payload_goes_along_where_none_is_kept():
    (events,) = await told(0, 10)
    assert events[0].job.payload_json == b""


async def test_a_job_that_runs_later_goes_along_whole_with_the_trace_of_its_call():
    """No other message has it; one that runs at once gets its trace in the message that carries it."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    async with open_backends() as backends:
        intake = JobSubmitter(backends.broker, backends.keys, RecentJobs(), backends.clock, trace=lambda: trace)
        payload = b'{"a": 1.0}'
        await intake.accept([Submission("email", "default", payload, delay_ms=delay) for delay in (60_000, 0)])
        async with backends.broker.consume(Queue.LEDGER, 1) as consumer:
            (delivery,) = await consumer.get(1)
    later, now = decode_events(delivery.body)
    assert (later.state, later.job.payload_json, later.job.trace) == (JobState.SCHEDULED, payload, trace)
    assert (now.state, now.job.payload_json, now.job.trace) == (JobState.QUEUED, b"", "")


async def test_many_large_payloads_go_in_several_messages():
    messages = await told(100_000, *[100_000] * 7)
    assert sum(map(len, messages)) == 7
    assert all(sum(len(event.job.payload_json) for event in events) <= MAX_EVENT_BYTES for events in messages)


async def test_one_that_is_larger_than_a_message_goes_alone():
    messages = await told(1_000_000, 10, 1_000_000, 10)
    assert [len(events) for events in messages] == [1, 1, 1]

"""What a handler returned travels with the event of its success, and its progress with events of its run; programs of before read both."""

import json
from dataclasses import replace

import msgspec
import pytest

from sickbay.domain.job import JobEvent, JobState
from sickbay.domain.progress import Progress
from sickbay.domain.result import MAX_RESULT_BYTES, Result
from sickbay.domain.storable import AHEAD_MS
from sickbay.messages import bodies
from sickbay.messages.codec import decode_events, encode_event, encode_events
from sickbay.messages.outbox import MAX_RESULT_BYTES as MAX_IN_MESSAGE
from sickbay.messages.outbox import EventOutbox
from tests.support.engine_bench import StubBroker, job

ODD = b'{ "n": 9007199254740993,\n "u": "\xc3\xa9", "dup": 1, "dup": 2 }'


def event(result=None, name="j", state=JobState.SUCCEEDED):
    return JobEvent(job(name), state, 5, run="r", result=result)


@pytest.mark.parametrize("result", [Result(ODD), Result(b"null"), Result(b'""'), Result(note="the result is too odd"), None])
def test_a_result_survives_the_trip_byte_for_byte(result):
    assert decode_events(encode_event(event(result)))[0].result == result
    assert [one.result for one in decode_events(encode_events([event(), event(result)]))] == [None, result]


def test_no_result_costs_no_byte():
    assert b"result" not in encode_event(event())


def without_new_fields(struct):
    """The body as programs of before know it."""
    new = {"result", "result_note", "progress"}
    old = [(field.name, field.type, field.default) for field in msgspec.structs.fields(struct) if field.name not in new]
    old = [(name, kind) if default is msgspec.NODEFAULT else (name, kind, default) for name, kind, default in old]
    return msgspec.defstruct("Before", old, rename="camel", omit_defaults=True)


@pytest.mark.parametrize("result", [Result(ODD), Result(b"[" * 200 + b"]" * 200), Result(b"9" * 4_300), Result(note="no")])
def test_a_program_of_before_reads_an_event_with_a_result(result):
    before = without_new_fields(bodies.Body)
    assert not hasattr(before, "result")
    assert msgspec.json.decode(encode_event(event(result)), type=before) == msgspec.json.decode(encode_event(event()), type=before)
    batch = msgspec.json.decode(encode_events([event(result)] * 2), type=dict[str, list[before]])
    assert [one.state for one in batch["events"]] == [JobState.SUCCEEDED] * 2


def test_an_event_of_before_has_no_result():
    old = msgspec.json.encode({"jobType": "email", "jobId": "j", "state": "SUCCEEDED", "at": 5, "run": "r"})
    assert decode_events(old)[0].result is None


@pytest.mark.parametrize(
    ("result", "note"),
    [
        (json.dumps("x" * MAX_RESULT_BYTES), "the result has 65,538 bytes of JSON; at most 65,536 are kept"),
        ('"\udcff"', "the result is not UTF-8"),
    ],
)
def test_a_result_that_somebody_else_sends_is_bounded_too(result, note):
    body = f'{{"jobType":"email","jobId":"j","state":"SUCCEEDED","result":{result}}}'.encode("utf-8", "surrogateescape")
    assert decode_events(body)[0].result == Result(note=note)


def test_only_a_success_has_a_result():
    body = b'{"jobType":"email","jobId":"j","state":"RETRYING","result":1,"resultNote":"x"}'
    assert decode_events(body)[0].result is None


HALF = Progress(0.5, "320 of 640", 7)


@pytest.mark.parametrize("progress", [HALF, Progress(0.0, at=7), Progress(1.0, "\u00e9", 7), None])
def test_progress_survives_the_trip(progress):
    running = replace(event(state=JobState.RUNNING), started_at=3, progress=progress)
    assert decode_events(encode_event(running)) == decode_events(encode_events([running]))
    assert decode_events(encode_event(running))[0].progress == progress
    assert (b"progress" in encode_event(running)) is (progress is not None)


def test_a_program_of_before_reads_progress_as_the_start_of_the_run():
    """Which it knows already, so it merges it into nothing."""
    before = without_new_fields(bodies.Body)
    running = replace(event(state=JobState.RUNNING), started_at=3)
    told = encode_event(replace(running, progress=HALF))
    assert msgspec.json.decode(told, type=before) == msgspec.json.decode(encode_event(running), type=before)


@pytest.mark.parametrize(
    ("body", "progress"),
    [
        ('"state":"RUNNING","progress":{"fraction":7,"at":5}', Progress(1.0, "", 5)),
        ('"state":"RUNNING","progress":{"fraction":-7.5,"at":5,"message":"a\\u0000b"}', Progress(0.0, "ab", 5)),
        (f'"state":"RUNNING","progress":{{"fraction":0.5,"at":{10**12},"message":"{"x" * 300}"}}', Progress(0.5, "x" * 200, AHEAD_MS + 9)),
        ('"state":"SUCCEEDED","progress":{"fraction":0.5,"at":5}', None),
    ],
)
def test_progress_that_somebody_else_sends_is_bounded(body, progress):
    assert decode_events(f'{{"jobType":"email","jobId":"j",{body}}}'.encode(), 9)[0].progress == progress


async def test_large_results_share_messages_that_a_broker_accepts():
    """Each message has a MiB of them at most, and small events follow as before."""
    broker = StubBroker([])
    large = Result(b'"' + b"x" * (MAX_RESULT_BYTES - 2) + b'"')
    async with EventOutbox(broker, linger_s=60) as stream:
        for number in range(40):
            stream.add(event(large, f"large{number}"))
        for number in range(250):
            stream.add(event(name=f"small{number}"))
        await stream.flush()
        stream.add(event(name="last"))
        await stream.flush()
    sent = [decode_events(message.body) for message in broker.published]
    assert max(len(message.body) for message in broker.published) < MAX_IN_MESSAGE + 100_000
    assert [len(events) for events in sent] == [16, 16, 200, 58, 1]
    assert sum(one.result == large for events in sent for one in events) == 40

"""Messages keep a job whole, and bad ones say why they are bad."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.envelope import Undecodable, decode_events, decode_job, encode_event, encode_events, encode_job, undecodable_job
from sickbay.job import Event, Failure, Job, Reason, State, is_name

texts = st.text(max_size=40)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
numbers = st.integers(0, 2**40)
failures = st.builds(Failure, at=numbers, generation=st.integers(0, 9), attempt=st.integers(0, 9), code=names, message=texts)
objects = st.dictionaries(texts, st.one_of(st.none(), st.integers(), texts, st.lists(st.booleans())), max_size=4)
jobs = st.builds(
    Job,
    job_id=st.text("abc-123", min_size=1, max_size=64),
    job_type=names,
    payload_json=objects.map(lambda value: json.dumps(value, ensure_ascii=False).encode()),
    tenant=names,
    attempt=st.integers(0, 99),
    generation=st.integers(0, 99),
    failures=st.lists(failures, max_size=10).map(tuple),
    submitted_at=st.integers(1, 2**40),
    maybe_duplicate=st.booleans(),
)


@given(jobs)
def test_a_job_survives_the_trip_byte_for_byte(job):
    assert decode_job(encode_job(job), "other", 1) == job


def test_the_payload_is_not_reformatted():
    raw = b'{ "big": 9007199254740993,\n "e": 1.50, "dup": 1, "dup": 2 }'
    assert decode_job(encode_job(Job("i", "email", raw, submitted_at=1)), "m", 1).payload_json == raw


def test_a_foreign_message_needs_only_type_and_payload():
    job = decode_job(b'{"jobType": "email", "payload": {"to": "x"}, "somethingElse": [1]}', "m-1", 42)
    assert (job.job_id, job.tenant, job.attempt, job.generation, job.submitted_at) == ("m-1", "default", 0, 0, 42)
    assert job.payload == {"to": "x"}
    assert job.is_fresh


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"not json",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"jobType": "email"}',
        b'{"payload": {}}',
        b'{"jobType": "", "payload": {}}',
        b'{"jobType": "Has Blanks", "payload": {}}',
        b'{"jobType": 5, "payload": {}}',
        b'{"jobType": "email", "payload": []}',
        b'{"jobType": "email", "payload": null}',
        b'{"jobType": "email", "payload": {}, "attempt": -1}',
        b'{"jobType": "email", "payload": {}, "attempt": "1"}',
        b'{"jobType": "email", "payload": {}, "generation": 99999999999999999999}',
        b'{"jobType": "email", "payload": {}, "submittedAt": 9999999999999999}',
        b'{"jobType": "email", "payload": {}, "tenant": "-"}',
        b'{"jobType": "email", "payload": {}, "jobId": "' + b"x" * 65 + b'"}',
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_job_says_so(body):
    with pytest.raises(Undecodable, match=r".{10}"):
        decode_job(body, "m", 1)


@given(jobs, st.sampled_from(list(State)), st.booleans())
def test_an_event_survives_the_trip_and_carries_the_payload_only_when_set_aside(job, state, duplicate):
    event = Event(job, state, 5, started_at=4, run="r", actor="w", reason=Reason.BROKER, code="C", message="m", duplicate=duplicate)
    (alone,) = decode_events(encode_event(event))
    assert list(decode_events(encode_events([event, event]))) == [alone, alone]
    assert alone.job.payload_json == (job.payload_json if state.is_set_aside else b"")
    assert (alone.state, alone.order, alone.run, alone.duplicate) == (state, event.order, "r", duplicate)
    assert alone.job.failures == job.failures


@pytest.mark.parametrize("body", [b"", b"{}", b'{"events": 5}', b'{"events": [{}]}', b'{"jobType": "email", "payload": {}}'])
def test_what_is_no_event_says_so(body):
    with pytest.raises(Undecodable):
        decode_events(body)


def test_an_unreadable_message_keeps_its_bytes():
    kept = undecodable_job(b"\x00\xffabc", "m-7", "why", 9)
    assert kept.payload == {"contentBase64": "AP9hYmM=", "problem": "why"}
    assert is_name(kept.job_type)
    assert decode_job(encode_job(kept), "x", 1) == kept

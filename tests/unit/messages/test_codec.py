"""Messages keep a job whole, and bad ones say why they are bad."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.failure import Failure
from sickbay.domain.job import Job, JobEvent, JobState, Reason, is_name
from sickbay.domain.priority import Priority
from sickbay.domain.storable import UNREACHABLE, id_of, is_storable
from sickbay.messages.codec import Undecodable, decode_events, decode_job, encode_event, encode_events, encode_job
from sickbay.messages.undecodable import undecodable_job

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
numbers = st.integers(0, 2**40)
failures = st.builds(
    Failure,
    at=numbers,
    generation=st.integers(0, 9),
    attempt=st.integers(0, 9),
    code=names,
    message=texts,
    retry_at=numbers,
    blameless=st.integers(0, 9),
)
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
    priority=st.sampled_from(Priority),
    run_at=st.integers(0, 2**40),
    schedule_id=st.one_of(st.just(""), names),
    tick_at=st.integers(0, 2**40),
)


@pytest.mark.no_cover  # many examples; shorter tests cover the same
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
    assert job.priority is Priority.NORMAL


def test_the_default_priority_costs_no_byte_and_others_are_said_by_name():
    """So a worker of before, which ignores it, gets the message that it knows."""
    job = Job("i", "email", submitted_at=1)
    assert b"priority" not in encode_job(job) + encode_event(JobEvent(job, JobState.PARKED, 5))
    urgent = json.loads(encode_job(replace(job, priority=Priority.HIGH)))
    assert urgent == json.loads(encode_job(job)) | {"priority": "HIGH"}


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
        b'{"jobType": "email", "payload": {}, "priority": "high"}',
        b'{"jobType": "email", "payload": {}, "priority": 1}',
        b'{"jobType": "email", "payload": {}, "jobId": "' + b"x" * 65 + b'"}',
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_job_says_so(body):
    with pytest.raises(Undecodable, match=r".{10}"):
        decode_job(body, "m", 1)


@given(jobs, st.sampled_from(list(JobState)), st.booleans())
def test_an_event_survives_the_trip_and_carries_the_payload_only_when_in_the_ledger_alone_or_accepted(job, state, duplicate):
    event = JobEvent(job, state, 5, started_at=4, run="r", actor="w", reason=Reason.BROKER, code="C", message="m", duplicate=duplicate)
    (alone,) = decode_events(encode_event(event))
    assert list(decode_events(encode_events([event, event]))) == [alone, alone]
    assert alone.job.payload_json == (job.payload_json if state.is_in_ledger_alone or (state is JobState.QUEUED and not duplicate) else b"")
    assert (alone.state, alone.run, alone.duplicate) == (state, "r", duplicate)
    assert (alone.job.generation, alone.job.attempt) == (job.generation, job.attempt)
    assert (alone.job.failures, alone.job.priority) == (job.failures, job.priority)
    later = (job.run_at, job.schedule_id, job.tick_at) if state is JobState.SCHEDULED else (0, "", 0)
    assert (alone.job.run_at, alone.job.schedule_id, alone.job.tick_at) == later


@pytest.mark.parametrize("body", [b"", b"{}", b'{"events": 5}', b'{"events": [{}]}', b'{"jobType": "email", "payload": {}}'])
def test_what_is_no_event_says_so(body):
    with pytest.raises(Undecodable):
        decode_events(body)


def test_an_unreadable_message_keeps_its_bytes():
    kept = undecodable_job(b"\x00\xffabc", "m-7", "why", 9)
    assert kept.payload == {"contentBase64": "AP9hYmM=", "problem": "why"}
    assert is_name(kept.job_type)
    assert decode_job(encode_job(kept), "x", 1) == kept


@pytest.mark.parametrize(
    "fields",
    [
        {"jobId": "a\0b"},
        {"generation": 2**31 - 1},
        {"attempt": 2**31 - 1},
        {"generation": 2**63},
        {"attempt": -1},
        {"submittedAt": 2**63},
        {"errors": [{"time": 1, "attempt": 2**40, "code": "C"}]},
    ],
    ids=str,
)
def test_what_no_database_keeps_or_the_next_copy_could_not_say_is_refused(fields):
    """An id with a NUL and counters without room to count on are no jobs and no events."""
    body = {"jobType": "email", "payload": {}, "jobId": "i"} | fields
    with pytest.raises(Undecodable):
        decode_job(json.dumps(body).encode(), "m", 1)
    with pytest.raises(Undecodable):
        decode_events(json.dumps(body | {"state": "QUEUED"}).encode())


def test_a_payload_that_is_not_utf8_is_refused():
    """A handler could not read it, and neither could a person."""
    with pytest.raises(Undecodable, match="not UTF-8"):
        decode_job(b'{"jobType": "email", "payload": {"a": "\xff"}}', "m", 1)


def test_a_message_without_an_id_that_can_be_kept_gets_one_that_stays():
    """The same message id gives the same job id; ids that can be kept stay as they are."""
    body = b'{"jobType": "email", "payload": {}}'
    first, again, other = (decode_job(body, message_id, 1).job_id for message_id in ("a\0", "a\0", "b\0"))
    assert first == again != other
    assert is_storable(first)
    assert decode_job(body, "Auftrag 7/ü", 1).job_id == "Auftrag 7/ü"


@pytest.mark.parametrize("name", sorted(UNREACHABLE))
def test_an_id_that_no_url_reaches_is_refused_and_as_the_id_of_a_message_replaced(name):
    """REST could not show such a job; whoever publishes it learns that from the quarantine."""
    with pytest.raises(Undecodable, match="such a job has no URL"):
        decode_job(json.dumps({"jobType": "email", "payload": {}, "jobId": name}).encode(), "m", 1)
    assert decode_job(b'{"jobType": "email", "payload": {}}', name, 1).job_id == id_of(name) != name
    assert undecodable_job(b"", name, "why", 1).job_id == id_of(name)


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"), max_size=300))
def test_texts_of_an_event_can_be_kept_whatever_they_are(text, long):
    """NULs go, lengths are bounded: an index of a database takes no more than a few kilobytes."""
    told = {"jobType": "email", "jobId": "i", "state": "RETRYING", "run": text, "actor": long, "code": long * 9, "message": text}
    (event,) = decode_events(json.dumps(told | {"errors": [{"time": 1, "attempt": 0, "code": long, "message": text}]}).encode())
    (failure,) = event.job.failures
    kept = (event.run, event.actor, event.code, event.message, failure.code, failure.message)
    assert all(map(is_storable, kept))
    assert all(len(name) <= 200 for name in (event.run, event.actor, event.code, failure.code))


def test_times_far_ahead_are_taken_for_tomorrow():
    """A row of the year 9999 would never be past its retention."""
    told = {"jobType": "email", "jobId": "i", "state": "SUCCEEDED", "at": 10**14, "startedAt": 10**14, "submittedAt": 10**14}
    (event,) = decode_events(json.dumps(told).encode(), 1_000)
    assert {event.at, event.started_at, event.job.submitted_at} == {1_000 + 86_400_000}


def test_a_job_is_set_aside_with_all_that_its_release_needs():
    """An event without payload would be released as a message that nobody can read."""
    told = {"jobType": "email", "jobId": "i", "state": "PARKED"}
    with pytest.raises(Undecodable, match="payload"):
        decode_events(json.dumps(told).encode())
    with pytest.raises(Undecodable, match="jobType"):
        decode_events(json.dumps(told | {"jobType": "", "payload": {}}).encode())


def test_a_message_too_large_to_be_published_again_is_kept_in_part():
    """RabbitMQ takes 16 MiB; a copy with its errors, or in base64, must fit."""
    body = b'{"jobType": "email", "payload": {"a": "' + b"x" * 15 * 1024 * 1024 + b'"}}'
    with pytest.raises(Undecodable, match="at most"):
        decode_job(body, "m", 1)
    kept = undecodable_job(body, "m", "too large", 1)
    assert len(encode_job(kept)) < 16 * 1024 * 1024
    assert kept.payload["bytes"] == len(body)

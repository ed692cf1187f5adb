"""A job's trace context as one text: what W3C's headers say, and nothing else."""

import pytest

from sickbay.domain.job import Job, JobEvent, JobState
from sickbay.domain.trace import trace_headers, trace_of, valid_trace
from sickbay.messages.codec import decode_events, decode_job, encode_event, encode_job, job_message
from sickbay.ports import TO_MAIN, TO_RETRY

PARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"


@pytest.mark.parametrize("headers", [{}, {"traceparent": PARENT}, {"traceparent": PARENT, "tracestate": "acme=1,sickbay=00f067aa0ba902b7"}])
def test_headers_become_a_text_and_headers_again(headers):
    assert trace_headers(trace_of(headers)) == headers


@pytest.mark.parametrize("parent", ["", "nonsense", PARENT.upper(), PARENT + "\0", "00-ab-cd-01", PARENT + "\n"])
def test_what_is_no_traceparent_is_dropped(parent):
    assert trace_of({"traceparent": parent}) == valid_trace(parent) == ""


@pytest.mark.parametrize("state", ["a" * 513, "a=\0", "a=ü"])
def test_a_bad_tracestate_is_dropped_alone(state):
    assert trace_of({"traceparent": PARENT, "tracestate": state}) == PARENT


def test_a_tracestate_alone_says_nothing():
    assert trace_of({"tracestate": "acme=1", "other": "x"}) == ""


def test_the_message_of_a_job_says_its_trace_in_its_headers():
    job = Job("j", "email", submitted_at=1, trace=f"{PARENT} acme=1")
    message = job_message(TO_RETRY, job, 5)
    assert (message.key, message.delay_ms, message.headers) == (TO_RETRY, 5, {"traceparent": PARENT, "tracestate": "acme=1"})
    assert decode_job(message.body, "m", 1, message.headers) == job
    assert decode_job(message.body, "m", 1).trace == ""
    assert job_message(TO_MAIN, Job("j", "email")).headers == {}


@pytest.mark.parametrize("state", JobState)
def test_an_event_says_the_trace_of_a_job_that_it_sets_aside(state):
    event = JobEvent(Job("j", "email", submitted_at=1, trace=PARENT), state, 2)
    (told,) = decode_events(encode_event(event))
    assert told.job.trace == (PARENT if state.is_in_ledger_alone else "")


def test_what_a_stranger_says_in_an_event_is_checked():
    body = encode_event(JobEvent(Job("j", "email", trace=PARENT), JobState.PARKED, 2)).replace(PARENT.encode(), b"\\u0000")
    (told,) = decode_events(body)
    assert told.job.trace == ""


def test_a_jobs_body_does_not_say_it_again():
    assert b"trace" not in encode_job(Job("j", "email", trace=PARENT))

"""What programs say on the stream: valid, or a sentence that says what to correct."""

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from sickbay.contract.work import failed, registration, succeeded
from sickbay.domain.errors import InvalidArgument
from sickbay.domain.failure import MAX_MESSAGE_CHARS, MAX_TRACEBACK_BYTES
from sickbay.domain.job import is_code
from sickbay.domain.outcome import FAILURE_KINDS, SUCCESS, OutcomeKind, kind_of
from sickbay.domain.program import Offer
from sickbay.domain.result import MAX_RESULT_BYTES
from sickbay.jobs.v1 import work_pb2 as pb

Failed = pb.WorkRequest.Failed


def message(*types, name="p", slots=4, **fields):
    return pb.WorkRequest.Register(name=name, slots=slots, types=types, **fields)


def handled(job_type="email", seconds=None, **fields):
    timeout = None if seconds is None else Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))
    return pb.WorkRequest.HandledType(job_type=job_type, timeout=timeout, **fields)


def test_a_registration_says_types_timeouts_and_slots():
    found = registration(
        message(handled(seconds=1.5), handled("sms", concurrency=2), handled("fax", concurrency=9), version="1", language="go")
    )
    assert found.offers == (Offer("email", 1.5, 4), Offer("sms", None, 2), Offer("fax", None, 4))
    assert str(found) == "p 1 (go)"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (message(handled(), name=""), "the name of the program is missing"),
        (message(handled(), name="x" * 101), "the name of the program is 101 characters long"),
        (message(handled(), name="a\nb"), "unprintable"),
        (message(handled(), version="x" * 101), "the version of the program"),
        (message(handled(), language="\0"), "the language of the program"),
        (message(handled(), slots=0), "slots must be 1 to 10,000, not 0"),
        (message(handled(), slots=-1), "slots must be 1 to 10,000, not -1"),
        (message(handled(), slots=10_001), "slots must be 1 to 10,000, not 10,001"),
        (message(), "a program registers 1 to 100 job types, not 0"),
        (message(*[handled(f"t{number}") for number in range(101)]), "not 101"),
        (message(handled("")), "the job type is missing"),
        (message(handled("E Mail")), "the job type 'E Mail' is invalid"),
        (message(handled(), handled("sms"), handled()), "the job type 'email' is registered twice"),
        (message(handled(seconds=0)), "the timeout of 'email' must be"),
        (message(handled(seconds=1501)), "must be 0.001 to 1500 seconds"),
        (message(handled(concurrency=-1)), "the concurrency of 'email' must be at least 1"),
    ],
)
def test_an_invalid_registration_is_refused_with_what_to_correct(said, why):
    with pytest.raises(InvalidArgument) as caught:
        registration(said)
    assert why in str(caught.value)


@pytest.mark.parametrize(("text", "kept"), [("1", b"1"), ('{"a": "\u00e4"}', '{"a": "\u00e4"}'.encode()), ("null", None), ("", None)])
def test_a_result_is_kept_byte_for_byte(text, kept):
    outcome = succeeded(pb.WorkRequest.Succeeded(result_json=text))
    assert outcome.kind is OutcomeKind.SUCCESS
    assert (outcome.result.json if outcome.result else None) == kept


@pytest.mark.parametrize("text", ["{", "undefined", "NaN", "[" * 100_000, "1 2", "'a'"])
def test_a_result_that_is_not_json_is_not_kept_and_the_run_has_succeeded_all_the_same(text):
    outcome = succeeded(pb.WorkRequest.Succeeded(result_json=text))
    assert outcome == SUCCESS or outcome.result.note
    assert outcome.kind is OutcomeKind.SUCCESS


def test_a_result_that_is_too_large_is_not_kept():
    assert "65,538 bytes" in succeeded(pb.WorkRequest.Succeeded(result_json=f'"{"x" * MAX_RESULT_BYTES}"')).result.note


@pytest.mark.parametrize("code", ["API_TIMEOUT", "HTTP_404", "HTTP_503", "SMTP_DOWN"])
def test_the_kind_of_a_failure_is_that_of_its_code_unless_it_says_one(code):
    assert failed(Failed(code=code)).kind is kind_of(code)
    assert failed(Failed(code=code, kind=Failed.KIND_DATA)).kind is OutcomeKind.DATA


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Failed(message="lost"), "the error code must match"),
        (Failed(code="no route"), "not 'no route'"),
        (Failed(code="x" * 10_000), "the error code must match"),
        (Failed(code="A", kind=9), "the kind 9 is unknown"),
        (Failed(code="A", retry_after=Duration(seconds=-1)), "retry_after must be 0 to 86400 seconds, not -1"),
        (Failed(code="A", retry_after=Duration(seconds=86_401)), "retry_after must be"),
        (Failed(code="A", retry_after=Duration(nanos=2**31 - 1)), "not a valid google.protobuf.Duration"),
    ],
)
def test_a_failure_that_is_not_valid_is_one_all_the_same_and_says_what_to_correct(said, why):
    outcome = failed(said)
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "INVALID_ANSWER")
    assert why in outcome.message
    assert said.message in outcome.message


@given(
    st.builds(
        Failed,
        code=st.text(max_size=60),
        kind=st.integers(0, 6),
        message=st.text(max_size=2_000),
        traceback=st.text(max_size=6_000),
        retry_after=st.none() | st.builds(Duration, seconds=st.integers(-10, 10**6), nanos=st.integers(-1, 10**9)),
    )
)
def test_whatever_a_failure_says_its_outcome_is_within_bounds(said):
    outcome = failed(said)
    assert outcome.kind in FAILURE_KINDS
    assert is_code(outcome.code)
    assert len(outcome.message) <= MAX_MESSAGE_CHARS
    assert len(outcome.traceback.encode("utf-8", "replace")) <= MAX_TRACEBACK_BYTES
    assert outcome.retry_after_ms is None or 0 <= outcome.retry_after_ms <= 86_400_000

"""What an answer of an endpoint means, and that each means something."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.http_handler.response import Head, failure_of_answer, result_of_answer
from sickbay.domain.job import is_code
from sickbay.domain.outcome import FAILURE_KINDS, OutcomeKind
from sickbay.domain.result import MAX_RESULT_BYTES, Result
from sickbay.handlers.call import outcome_of_error
from sickbay.handlers.registry import HandlerSpec

DATA, SYSTEMIC, TRANSIENT, UNKNOWN = OutcomeKind.DATA, OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.UNKNOWN
JSON = {"content-type": "application/json; charset=utf-8"}
PROBLEM = {"content-type": "application/problem+json"}
SPEC = HandlerSpec("invoice", print)


def failed(status, body=None, headers=None, secrets=()):
    """The outcome of the run."""
    return outcome_of_error(failure_of_answer(Head(status, headers or {}), body, "billing.internal", secrets), SPEC)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "BAD_REQUEST", DATA),
        (401, "HTTP_401", DATA),
        (404, "NOT_FOUND", DATA),
        (408, "HTTP_408", TRANSIENT),
        (422, "VALIDATION_ERROR", DATA),
        (425, "HTTP_425", TRANSIENT),
        (429, "RATE_LIMITED", TRANSIENT),
        (500, "HTTP_500", SYSTEMIC),
        (503, "SERVICE_UNAVAILABLE", SYSTEMIC),
        (599, "HTTP_599", SYSTEMIC),
        (302, "REDIRECTED", SYSTEMIC),
        (304, "REDIRECTED", SYSTEMIC),
        (101, "BAD_RESPONSE", TRANSIENT),
        (700, "BAD_RESPONSE", TRANSIENT),
    ],
)
def test_a_status_means_what_it_means_everywhere(status, code, kind):
    """As if a handler had raised the HTTPStatusError of httpx, or of requests; there is no traceback."""
    outcome = failed(status)
    assert (outcome.code, outcome.kind, outcome.traceback) == (code, kind, "")
    assert outcome.message.startswith(f"billing.internal answered {status}")


def test_a_redirect_says_what_to_do():
    assert "redirects are not followed: name the final address in the settings file" in failed(307).message


def test_a_problem_gives_code_kind_and_message():
    """RFC 9457: `detail`, else `title`; `code` and `kind` are members of ours."""
    problem = {"title": "Out of stock", "detail": "item 7", "code": "out-of-stock", "kind": "data"}
    outcome = failed(503, json.dumps(problem).encode(), PROBLEM)
    assert (outcome.code, outcome.kind, outcome.message) == ("OUT_OF_STOCK", DATA, "billing.internal answered 503: item 7")
    outcome = failed(500, b'{"title": "Boom", "code": "no code!", "kind": "success"}', PROBLEM)
    assert (outcome.code, outcome.kind, outcome.message) == ("HTTP_500", SYSTEMIC, "billing.internal answered 500: Boom")


def test_a_limit_stays_one_whatever_the_problem_calls_it():
    """The breaker acts on the code: it opens at once, for as long as the answer says."""
    outcome = failed(429, b'{"code": "QUOTA"}', PROBLEM | {"retry-after": "7"})
    assert (outcome.code, outcome.retry_after_ms, outcome.is_rate_limit) == ("RATE_LIMITED", 7_000, True)


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({"retry-after": "120"}, 120_000),
        ({"retry-after": "999999999"}, 86_400_000),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30_000),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({}, None),
    ],
)
def test_an_answer_says_when_to_come_again(headers, wait_ms):
    """In seconds, or as a date by its own clock."""
    assert failed(503, None, headers).retry_after_ms == wait_ms


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        (JSON, b'{"detail": "no such customer"}', "no such customer"),
        (JSON, b'{"error": {"nested": 1}, "message": "a\\nb"}', "a b"),
        (JSON, b"[1]", "Unprocessable Entity"),
        (JSON, b"{", "Unprocessable Entity"),
        (JSON, b"[" * 100_000, "Unprocessable Entity"),
        ({"content-type": "text/plain"}, b"no\n  luck\xff", "no luck\ufffd"),
        ({"content-type": "text/html"}, b"<h1>no</h1>", "Unprocessable Entity"),
        (JSON | {"content-encoding": "gzip"}, b"\x1f\x8b", "Unprocessable Entity"),
        (JSON, None, "Unprocessable Entity"),
    ],
)
def test_what_a_failure_says(headers, body, words):
    """The words of JSON or of plain text, on one line; a page for people says nothing."""
    assert failed(422, body, headers).message == f"billing.internal answered 422: {words}"


def test_an_answer_that_repeats_secrets_is_not_believed_to_be_harmless():
    """A debugging endpoint echoes its request."""
    outcome = failed(
        500, b"Authorization: Bearer hunter2-hunter2", {"content-type": "text/plain"}, ["Bearer hunter2-hunter2", "hunter2-hunter2"]
    )
    assert outcome.message == "billing.internal answered 500: Authorization: ***"


@pytest.mark.parametrize(
    ("head", "body", "result"),
    [
        (Head(200, JSON), b' {"n": 1.10}\n', Result(b'{"n": 1.10}')),
        (Head(202, {"content-type": "application/vnd.acme+json"}), b"[]", Result(b"[]")),
        (Head(200, JSON), b"null", None),
        (Head(200, JSON), b" ", None),
        (Head(204, JSON), None, None),
        (Head(200, {}), None, None),
        (Head(200, {"content-type": "text/html"}), None, None),
        (Head(200, JSON), b"{", "the result is not JSON: Expecting property name"),
        (Head(200, JSON), b"NaN", "the result is not JSON: it has the number nan"),
        (Head(200, JSON), b'"\\ud800"', "the result is not JSON: it has a character that UTF-8 does not have"),
        (Head(200, JSON), b'"\xff"', "the result is not JSON: it is not UTF-8"),
        (Head(200, JSON), b"9" * 5_000, "the result is not JSON: it has an integer of more than 4,300 digits"),
        (Head(200, JSON), b"[" * 300 + b"]" * 300, "the result is not JSON: it is nested more than 200 levels deep"),
        (Head(200, JSON), b"[" * 30_000, "the result is not JSON: it is nested more than 200 levels deep"),
        (Head(200, JSON | {"content-length": "81234"}), None, "the result has 81,234 bytes of JSON; at most 65,536 are kept"),
        (Head(200, JSON), None, "the result has more than 65,536 bytes of JSON, the most that is kept"),
        (Head(200, JSON | {"content-encoding": "br"}), None, "the result is not JSON: it is compressed (br), which was not asked for"),
    ],
)
def test_what_is_kept_of_a_success(head, body, result):
    """The text as it came, by the rules for what a handler in Python returns; a result never makes a run fail."""
    kept = result_of_answer(head, body)
    if isinstance(result, str):
        assert kept is not None
        assert (kept.json, kept.note.startswith(result)) == (b"", True), kept.note
    else:
        assert kept == result


_HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "content-length", "content-encoding", "retry-after", "date"]),
    st.sampled_from([*JSON.values(), *PROBLEM.values(), "text/plain", "7", "gzip", "9" * 5_000, "\u0663"]) | st.text(max_size=20),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
)
_MEMBERS = st.dictionaries(
    st.sampled_from(["code", "kind", "detail", "title", "message", "error"]), _JSON | st.sampled_from(["data", "A_B", "x"])
)
_BODIES = st.none() | st.binary(max_size=50) | (_MEMBERS | _JSON).map(lambda value: json.dumps(value).encode())


@given(st.integers(min_value=0, max_value=999), _HEADERS, _BODIES)
def test_every_answer_means_something(status, headers, body):
    """Law: a success with a result that can be stored, or a failure with a valid code, a kind and a message."""
    head = Head(status, headers)
    if head.is_success:
        kept = result_of_answer(head, body if head.has_result else None)
        assert kept is None or bool(kept.json) != bool(kept.note)
        if kept is not None and kept.json:
            json.loads(kept.json)
            assert len(kept.json) <= MAX_RESULT_BYTES
        return
    outcome = outcome_of_error(failure_of_answer(head, body, "h"), SPEC)
    assert is_code(outcome.code)
    assert outcome.kind in FAILURE_KINDS
    assert outcome.message.startswith(f"h answered {status}")
    assert outcome.retry_after_ms is None or 0 <= outcome.retry_after_ms <= 86_400_000

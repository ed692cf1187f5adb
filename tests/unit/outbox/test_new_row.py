"""What becomes a row: exactly what the Job API could accept."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay import job_type
from sickbay.client import InvalidRequest, NewJob, OnOpen, Priority
from sickbay.client.job_calls import submit_request
from sickbay.contract.requests import submission
from sickbay.domain.job import MAX_PAYLOAD_BYTES
from sickbay.outbox.new_row import COLUMNS, new_row

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3),
    max_leaves=10,
)


def test_the_values():
    job = NewJob("email", {"to": "ü@example.com"}, "acme", Priority.HIGH, "order-17", OnOpen.REJECT)
    assert new_row(job, now=1.5) == {
        "request_id": "order-17",
        "job_type": "email",
        "tenant": "acme",
        "priority": "HIGH",
        "payload": '{"to":"ü@example.com"}',
        "on_open": "REJECT",
        "created_at": 1_500,
    }
    assert tuple(new_row(job)) == COLUMNS


def test_the_time_of_a_job_for_later():
    """None if it has passed: then it needs no column."""
    at = datetime(2027, 1, 1, tzinfo=UTC)
    assert new_row(NewJob("email", {}, delay=0.25), now=1.5)["run_at"] == 1_750
    assert new_row(NewJob("email", {}, run_at=at), now=1.5)["run_at"] == 1_798_761_600_000
    for job in (NewJob("email", {}, delay=0), NewJob("email", {}, run_at=at)):
        assert tuple(new_row(job, now=2e9)) == COLUMNS


def test_what_is_not_given_is_empty_but_the_key():
    one, other = new_row(NewJob("email", " {} ")), new_row(NewJob("email", {}))
    assert (one["tenant"], one["priority"], one["on_open"], one["payload"]) == ("", "", "", " {} ")
    assert len(one["request_id"]) == 36
    assert one["request_id"] != other["request_id"]


@pytest.mark.parametrize(
    ("job", "reason", "words"),
    [
        (NewJob("Not a type", {}), "INVALID_JOB_TYPE", "job type"),
        (NewJob("", {}), "INVALID_JOB_TYPE", "missing"),
        (NewJob("email", {}, tenant="No Tenant"), "INVALID_FIELD", "tenant"),
        (NewJob("email", {}, request_id="ü"), "INVALID_FIELD", "printable ASCII"),
        (NewJob("email", {}, priority="URGENT"), "INVALID_FIELD", "priority"),
        (NewJob("email", {}, on_open="WAIT"), "INVALID_FIELD", "on_open"),
        (NewJob("email", "[]"), "INVALID_PAYLOAD", "JSON object"),
        (NewJob("email", "{"), "INVALID_PAYLOAD", "not valid JSON"),
        (NewJob("email", {"n": float("nan")}), "INVALID_PAYLOAD", "cannot be written"),
        (NewJob("email", '{"n":1e999}'), "NUMBER_TOO_LARGE", "too large"),
        (NewJob("email", {"text": "x" * MAX_PAYLOAD_BYTES}), "PAYLOAD_TOO_LARGE", "bytes"),
        (NewJob("email", {"text": "\ud800"}), "INVALID_FIELD", "surrogate"),
    ],
)
def test_what_no_job_api_accepts_is_refused(job: NewJob, reason: str, words: str):
    with pytest.raises(InvalidRequest, match=words) as caught:
        new_row(job)
    assert (caught.value.reason, caught.value.code) == (reason, "INVALID_ARGUMENT")


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), JSON, max_size=4), st.sampled_from([None, *Priority]))
def test_the_relay_sends_what_was_submitted(payload, priority):
    """The same digest: otherwise a repeat would be a conflict."""
    job = NewJob("email", payload, "acme", priority, "key")
    row = new_row(job)
    again = NewJob(row["job_type"], row["payload"], row["tenant"], row["priority"] or None, row["request_id"], row["on_open"] or None)
    assert submission(submit_request(again)) == submission(submit_request(job))


def test_without_msgspec_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    for name in ("sickbay.contract.requests", "sickbay.contract.payload"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sickbay\[outbox\]'"):
        new_row(NewJob("email", {}))


@job_type("email")
@dataclass
class Email:
    to: str


def test_an_object_says_its_job_type():
    row = new_row(NewJob(Email("ü")))
    assert (row["job_type"], row["payload"]) == ("email", '{"to":"ü"}')
    with pytest.raises(InvalidRequest, match="not of 'sms'"):
        new_row(NewJob("sms", Email("ü")))

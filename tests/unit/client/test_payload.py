"""Payloads as they are sent."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay import job_type
from sickbay.client import InvalidRequest, NewJob
from sickbay.client.job_calls import submit, submit_request
from sickbay.client.payload import named, payload_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES))
def test_a_mapping_survives(payload):
    assert json.loads(payload_text(payload)) == payload


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"a": [1, 2], "b": "ä"}, '{"a":[1,2],"b":"ä"}'),
        (MappingProxyType({"n": 2**64}), '{"n":18446744073709551616}'),
        ('{"a":  1}', '{"a":  1}'),
        (b'{"a":  1}', '{"a":  1}'),
        ("no JSON", "no JSON"),
    ],
)
def test_what_is_sent(payload, text):
    assert payload_text(payload) == text


LOOP: dict[str, object] = {}
LOOP["self"] = LOOP


@pytest.mark.parametrize("payload", [{"x": float("nan")}, {"x": {1, 2}}, LOOP, [1], None, b"\xff", {(1, 2): 3}])
def test_what_is_no_payload(payload):
    with pytest.raises(InvalidRequest) as caught:
        payload_text(payload)
    assert (caught.value.reason, caught.value.code) == ("INVALID_PAYLOAD", "INVALID_ARGUMENT")


@job_type("email")
@dataclass
class Email:
    to: str
    at: datetime | None = None
    size: float = 0.0


@dataclass
class Other:
    what: object = None


def test_an_object_is_sent_with_all_its_fields():
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert payload_text(Email("ä", at)) == '{"to":"ä","at":"2026-01-02T00:00:00Z","size":0.0}'


def test_an_object_says_its_job_type():
    assert named(Email("x"), None) == ("email", Email("x"))
    assert named("email", Email("x")) == ("email", Email("x"))
    assert named("other", Other()) == ("other", Other())
    for request in (submit(Email("x"), request_id="r").request, submit_request(NewJob(Email("x"), request_id="r"))):
        assert (request.job_type, request.payload_json) == ("email", '{"to":"x","at":null,"size":0.0}')


@pytest.mark.parametrize(
    ("arguments", "reason", "message"),
    [
        (("sms", Email("x")), "INVALID_PAYLOAD", "Email is a payload of the job type 'email', not of 'sms'"),
        ((Email("x"), {}), "INVALID_PAYLOAD", "there are two payloads: Email is one"),
        (("email", None), "INVALID_PAYLOAD", "the payload is missing"),
        ((Other(), None), "INVALID_JOB_TYPE", "Other does not say its job type: write @job_type"),
        ((Email, None), "INVALID_JOB_TYPE", "an object of that class, not the class"),
        ((5, {}), "INVALID_JOB_TYPE", "the job type must be its name, or an object such as Email(...), not int"),
    ],
)
def test_what_cannot_be_meant(arguments, reason, message):
    with pytest.raises(InvalidRequest) as caught:
        named(*arguments)
    assert caught.value.reason == reason
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [Email("x", size=math.nan), Other(object()), Email])
def test_an_object_that_cannot_be_written(value):
    with pytest.raises(InvalidRequest):
        payload_text(value)

"""What is posted for a job: the same event for each of its runs, signed, and nothing that a payload or an id could break out of."""

import base64
import re

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.http_handler.request import header_mistake, headers_of
from sickbay.adapters.webhook.signature import parse_secret
from sickbay.domain.job import Job
from tests.support.webhook_receiver import SECRET, Received, verify

NOW = 1_700_000_000_123
JOB = Job("0190f2a0-1111-7000-8000-000000000001", "invoice", b'{"n": 1.10}', "acme", submitted_at=NOW - 5_000)


def of(job, **options):
    """Its headers by names in lower case."""
    return {name.lower(): value for name, value in headers_of(job, **{"now": NOW, "timeout_s": 30.0} | options).items()}


def test_the_headers_of_a_job():
    """CloudEvents in binary mode, the key of the effect, whose job and which run it is, and until when."""
    assert of(JOB) == {
        "user-agent": of(JOB)["user-agent"],
        "accept": "application/json, application/problem+json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "11",
        "ce-specversion": "1.0",
        "ce-id": f"{JOB.job_id}.0",
        "ce-source": "/sickbay",
        "ce-type": "invoice",
        "ce-subject": JOB.job_id,
        "ce-time": "2023-11-14T22:13:15.123Z",
        "idempotency-key": f"{JOB.job_id}.0",
        "webhook-id": f"{JOB.job_id}-0",
        "sickbay-tenant": "acme",
        "sickbay-attempt": "1",
        "sickbay-deadline": "2023-11-14T22:13:50.123Z",
        "sickbay-timeout": "30.000",
    }


def test_a_retry_is_the_same_event_and_a_released_job_another_one():
    """`ce-id`, `webhook-id` and `Idempotency-Key` say the same."""
    same = [of(JOB.charged(), now=NOW + 60_000)[name] for name in ("ce-id", "webhook-id", "idempotency-key")]
    assert same == [of(JOB)[name] for name in ("ce-id", "webhook-id", "idempotency-key")]
    other = Job(JOB.job_id, "invoice", generation=1)
    assert not {of(other)[name] for name in ("ce-id", "webhook-id", "idempotency-key")} & set(same)


def test_it_is_signed_with_each_secret():
    """Whoever knows one of both accepts it, at the time of this run."""
    other = f"whsec_{base64.b64encode(b'x' * 24).decode()}"
    headers = of(JOB, keys=[parse_secret(other), parse_secret(SECRET)])
    for secret in (SECRET, other):
        verify(Received("", headers, JOB.payload_json), secret, now=NOW / 1000)
    with pytest.raises(AssertionError, match="not signed"):
        verify(Received("", headers, JOB.payload_json + b" "), SECRET, now=NOW / 1000)


def test_the_operators_headers_are_added():
    assert of(JOB, more={"Authorization": "Bearer x"})["authorization"] == "Bearer x"


@given(st.text(max_size=60), st.integers(min_value=0, max_value=2**70), st.integers(), st.floats(min_value=0.001, max_value=1500))
def test_whatever_a_job_is_called_its_headers_can_be_sent(job_id, generation, submitted_at, timeout_s):
    """Law: other programs may publish any id, and none becomes a second header; what is signed has three parts that cannot be moved."""
    headers = headers_of(Job(job_id, "a", generation=generation, submitted_at=submitted_at), now=NOW, timeout_s=timeout_s, keys=[b"k" * 24])
    h11.Request(method="POST", target="/", headers=[("Host", "x"), *headers.items()])
    assert re.fullmatch(r"[^.]*-[0-9]+", headers["webhook-id"])
    assert all(value.isascii() and value.isprintable() for value in headers.values())


@pytest.mark.parametrize(
    "name", ["Host", "content-LENGTH", "ce-id", "Webhook-Signature", "Sickbay-Tenant", "traceparent", "Idempotency-Key"]
)
def test_our_own_headers_are_not_the_operators(name):
    assert header_mistake(name) == "is set by Sickbay itself"


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_header_without_a_mistake_can_be_sent(name, value):
    """Law: the check lets nothing through at which the driver would fail later."""
    if not header_mistake(name, value):
        h11.Request(method="POST", target="/", headers=[("Host", "x"), (name, value)])

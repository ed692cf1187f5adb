"""What the exceptions that everybody knows mean."""

import socket

import httpx
import msgspec
import pydantic
import pytest

from sickbay import JobError
from sickbay.domain.outcome import OutcomeKind
from sickbay.handlers.classify import classify, timed_out
from sickbay.handlers.registry import HandlerSpec

PLAIN = HandlerSpec("email", print)
REQUEST = httpx.Request("GET", "http://x.example")


def http(status, headers=None):
    return httpx.HTTPStatusError("no", request=REQUEST, response=httpx.Response(status, headers=headers, request=REQUEST))


def pydantic_error():
    class Model(pydantic.BaseModel):
        a: int

    with pytest.raises(pydantic.ValidationError) as caught:
        Model.model_validate({})
    return caught.value


class AuthExpired(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (JobError("API_TIMEOUT"), "API_TIMEOUT", OutcomeKind.SYSTEMIC),
        (TimeoutError(), "API_TIMEOUT", OutcomeKind.SYSTEMIC),
        (ConnectionRefusedError(), "CONNECTION_REFUSED", OutcomeKind.SYSTEMIC),
        (ConnectionResetError(), "NETWORK_ERROR", OutcomeKind.TRANSIENT),
        (socket.gaierror(), "NETWORK_ERROR", OutcomeKind.TRANSIENT),
        (pydantic_error(), "VALIDATION_ERROR", OutcomeKind.DATA),
        (msgspec.ValidationError("no"), "VALIDATION_ERROR", OutcomeKind.DATA),
        (httpx.ReadTimeout("slow"), "API_TIMEOUT", OutcomeKind.SYSTEMIC),
        (httpx.ConnectError("no"), "CONNECTION_REFUSED", OutcomeKind.SYSTEMIC),
        (httpx.RemoteProtocolError("no"), "NETWORK_ERROR", OutcomeKind.TRANSIENT),
        (http(500), "HTTP_500", OutcomeKind.SYSTEMIC),
        (http(503), "SERVICE_UNAVAILABLE", OutcomeKind.SYSTEMIC),
        (http(429), "RATE_LIMITED", OutcomeKind.TRANSIENT),
        (http(408), "HTTP_408", OutcomeKind.TRANSIENT),
        (http(422), "VALIDATION_ERROR", OutcomeKind.DATA),
        (http(418), "HTTP_418", OutcomeKind.DATA),
        (KeyError("x"), "KEY_ERROR", OutcomeKind.DATA),
        (AuthExpired("x"), "AUTH_EXPIRED", OutcomeKind.UNKNOWN),
        (type("E" + "x" * 80, (Exception,), {})(), "E" + "X" * 47, OutcomeKind.UNKNOWN),
        (type("Ünïcode", (Exception,), {})(), "N_CODE", OutcomeKind.UNKNOWN),
        (SystemExit(500), "SYSTEM_EXIT", OutcomeKind.UNKNOWN),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_known_exceptions(error, code, kind):
    outcome = classify(error, PLAIN)
    assert (outcome.code, outcome.kind) == (code, kind)


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (http(429, {"Retry-After": "7"}), 7_000),
        (http(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), None),
        (http(429, {"Retry-After": "-1"}), None),
        (http(429, {"Retry-After": "nan"}), None),
        (JobError("RATE_LIMITED", retry_after=1.5), 1_500),
        (JobError("RATE_LIMITED"), None),
    ],
)
def test_the_wait_that_an_error_asks_for(error, wait):
    assert classify(error, PLAIN).retry_after_ms == wait


def test_a_handlers_own_mapping_comes_first_and_the_nearest_class_wins():
    spec = HandlerSpec("email", print, codes={Exception: "ANY", AuthExpired: "LOGIN"}, kinds={"LOGIN": OutcomeKind.SYSTEMIC})
    assert (classify(AuthExpired(), spec).code, classify(AuthExpired(), spec).kind) == ("LOGIN", OutcomeKind.SYSTEMIC)
    assert classify(KeyError(), spec).code == "ANY"


def test_a_kind_can_be_mapped_for_a_job_error_too():
    spec = HandlerSpec("email", print, kinds={"API_TIMEOUT": OutcomeKind.TRANSIENT})
    assert classify(JobError("API_TIMEOUT"), spec).kind is OutcomeKind.TRANSIENT


def test_messages_are_bounded():
    assert len(classify(ValueError("x" * 9_999), PLAIN).message) == 500


def test_a_timeout_of_ours_has_its_own_code():
    assert timed_out(30, PLAIN).code == "HANDLER_TIMEOUT"
    assert timed_out(30, PLAIN).kind is OutcomeKind.SYSTEMIC

"""When a call is made again; the clock is moved."""

from __future__ import annotations

import math

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.client.retry import FIRST_S, LIMITS, MOST_S, Retries, draw, is_limit, is_passing, room
from sickbay.contract.faults import Fault
from sickbay.domain.errors import ErrorReason

AWAY = Fault(grpc.StatusCode.UNAVAILABLE, "no connection")
BUSY = Fault(grpc.StatusCode.UNAVAILABLE, "the broker does not answer", "BACKEND_UNAVAILABLE", 2.0)
OPEN = Fault(grpc.StatusCode.UNAVAILABLE, "the circuit is open", "CIRCUIT_OPEN", 2.0)
BEGUN = Fault(grpc.StatusCode.ABORTED, "the first is in progress", "REQUEST_IN_PROGRESS")
STALE = Fault(grpc.StatusCode.ABORTED, "the etag is outdated", "ETAG_MISMATCH")
FULL = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "the limit is reached", "SUBMISSION_RATE_EXCEEDED", 2.0)


def retries(**options) -> Retries:
    given_ = {"begun": 0.0, "timeout": 10.0, "is_safe": True, "jitter": lambda most: most}
    return Retries(**given_ | options)


def test_the_bound_of_the_delay_doubles_up_to_a_most():
    row = retries(timeout=None)
    assert [row.delay(AWAY, 0.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    row.succeeded()
    assert row.delay(AWAY, 0.0) == FIRST_S


def test_the_advice_of_the_service_is_the_least_delay():
    assert retries().delay(BUSY, 0.0) == 2.1
    assert retries(jitter=lambda _: 0.0).delay(BUSY, 0.0) == 2.0


@given(st.floats(0, MOST_S))
def test_the_jitter_is_full(most):
    assert 0 <= draw(most) <= most


@pytest.mark.parametrize(("fault", "again"), [(AWAY, True), (BUSY, True), (BEGUN, True), (OPEN, False), (STALE, False), (FULL, False)])
def test_what_passes(fault, again):
    assert is_passing(fault) is again
    assert (retries().delay(fault, 0.0) is not None) is again
    assert retries(is_safe=False).delay(fault, 0.0) is None


@pytest.mark.parametrize("code", set(grpc.StatusCode) - {grpc.StatusCode.UNAVAILABLE})
def test_nothing_else_is_tried_again(code):
    assert retries().delay(Fault(code, "m"), 0.0) is None


@given(st.floats(0.1, 100), st.floats(0, 200), st.floats(0, 50))
def test_a_delay_never_goes_beyond_the_deadline(timeout, now, advice):
    pause = retries(timeout=timeout).delay(Fault(grpc.StatusCode.UNAVAILABLE, "m", "BACKEND_UNAVAILABLE", advice), now)
    assert pause is None or now + pause < timeout


def test_what_is_left_of_the_deadline():
    assert (retries().left(4.0), retries().left(11.0), retries(timeout=None).left(4.0)) == (6.0, 0.0, None)


@pytest.mark.parametrize("reason", ErrorReason)
def test_the_limits_are_known(reason):
    assert is_limit(Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "m", reason.value)) is (reason in LIMITS)


def test_waiting_for_room_within_the_deadline():
    """Also for what is not safe: a limit has accepted nothing."""
    row = retries(room_s=math.inf, is_safe=False)
    assert [row.delay(FULL, 0.0), row.delay(FULL, 7.9), row.delay(FULL, 8.1)] == [2.0, 2.0, None]


def test_waiting_for_room_beyond_the_deadline_but_not_for_ever():
    """The time waited for room does not count against the timeout."""
    row = retries(room_s=5.0)
    assert [row.delay(FULL, 9.0), row.left(11.0), row.delay(FULL, 11.0), row.delay(FULL, 13.0)] == [2.0, 1.0, 2.0, None]


@pytest.mark.parametrize(("option", "seconds"), [(False, 0.0), (True, math.inf), (0, 0.0), (2.5, 2.5)])
def test_the_option(option, seconds):
    assert room(option) == seconds


@pytest.mark.parametrize("option", [-1, math.nan])
def test_the_option_misspelt(option):
    with pytest.raises(ValueError, match="wait_for_limits must be"):
        room(option)

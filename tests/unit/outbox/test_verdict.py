"""What answers mean for rows, and how long a relay pauses."""

from __future__ import annotations

import pytest

from sickbay.client import (
    CircuitOpen,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    LimitReached,
    PermissionDenied,
    ServerFault,
    Unauthenticated,
    Unavailable,
)
from sickbay.outbox.verdict import Pace, Verdict, delay_s, verdict


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, Verdict.ACCEPTED),
        (InvalidRequest("no", reason="INVALID_JOB_TYPE"), Verdict.REFUSED),
        (CircuitOpen("open", reason="CIRCUIT_OPEN", code="UNAVAILABLE"), Verdict.REFUSED),
        (Conflict("another", reason="IDEMPOTENCY_KEY_REUSED"), Verdict.REFUSED),
        (Conflict("soon", reason="REQUEST_IN_PROGRESS"), Verdict.LATER),
        (Unavailable("soon", reason="REQUEST_IN_PROGRESS"), Verdict.LATER),
        (InvalidRequest("of a proxy", code="INVALID_ARGUMENT"), Verdict.LATER),
        (LimitReached("full", reason="TOO_MANY_QUEUED"), Verdict.LATER),
        (ServerFault("a fault", reason="INTERNAL", code="INTERNAL"), Verdict.LATER),
        (FailedPrecondition("no keys", reason="NOT_CONFIGURED"), Verdict.LATER),
        (PermissionDenied("no"), Verdict.LATER),
        (Unavailable("no connection"), Verdict.AWAY),
        (Unavailable("the broker is down", reason="BACKEND_UNAVAILABLE"), Verdict.AWAY),
        (DeadlineExceeded("no answer"), Verdict.AWAY),
        (Unauthenticated("expired"), Verdict.AWAY),
        (ServerFault("not a Job API", code="UNIMPLEMENTED"), Verdict.AWAY),
    ],
)
def test_verdicts(error, expected):
    assert verdict(error) is expected


def test_a_row_is_delayed_as_the_service_asks_and_longer_with_each_attempt():
    limited = LimitReached("full", reason="SUBMISSION_RATE_EXCEEDED", retry_after=7.0)
    assert [delay_s(limited, attempts) for attempts in (1, 2, 4, 5, 1_000)] == [7.0, 7.0, 8.0, 16.0, 60.0]
    assert delay_s(ServerFault("a fault"), 1) == 1.0


def test_the_pause_grows_while_there_is_nothing_and_ends_with_work():
    pace = Pace(poll_s=1.0)
    assert [pace.idle() for _ in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert pace.worked() == 0.0
    assert pace.idle() == 0.05
    assert Pace(poll_s=0.01).idle() == 0.01


def test_the_pause_grows_while_nobody_answers():
    pace = Pace(poll_s=1.0, jitter=lambda most: most)
    assert [pace.away() for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert pace.failures == 8
    pace.worked()
    assert pace.failures == 0
    assert Pace(poll_s=1.0, jitter=lambda _: 0.0).away() == 0.25

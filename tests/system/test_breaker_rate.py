"""A breaker with the policy `rate` opens by the share of runs that failed or were slow, in both forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forms import BOTH, System, running
from tests.support.waiting import until

FILE = """
[defaults]
breaker = { policy = "rate", rate = 0.5, calls = 20, window = "5m" }
[types.email]
breaker = { slow = "5ms" }
[types.sms]
retry = { delay = "50ms" }
[types.webhook]
retry = { delay = "5m" }
"""
ENV = {"LOG_FORMAT": "json", "JOB_HANDLERS": "clinic_handlers", "SICKBAY_CONFIG": "sickbay.toml"}
FAILS_ONCE = {"do": ["SERVICE_UNAVAILABLE", "ok"]}
"""And the next attempt succeeds."""


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "sickbay.toml").write_text(FILE)
    with running(request.param, "clinic_handlers", tmp_path, ENV) as system:
        yield system


def test_slow_and_failing_dependencies_open_their_breakers_and_a_few_errors_do_not(system: System):
    """Every run of `email` takes 20 ms; of `webhook` 60 % fail, of `sms` 30 %."""
    sickbay = system.clients
    sickbay.submit_all("webhook", *(FAILS_ONCE if number % 5 < 3 else {} for number in range(40)))
    few = sickbay.submit_all("sms", *(FAILS_ONCE if number % 10 in {2, 5, 8} else {} for number in range(40)))
    sickbay.submit_all("email", *({} for _ in range(20)))

    until(lambda: sickbay.plane.get("/breakers/email").json().get("state") == "OPEN")
    reason = sickbay.breaker("email")["reason"]
    assert (reason["code"], reason["count"]) == ("SLOW_CALLS", 20)
    assert reason["message"].startswith("a run took ")

    until(lambda: sickbay.plane.get("/breakers/webhook").json().get("state") == "OPEN")
    reason = sickbay.breaker("webhook")["reason"]
    assert reason["code"] == "SERVICE_UNAVAILABLE"
    assert reason["count"] >= 10

    sickbay.wait_all(few, "SUCCEEDED")
    breaker = sickbay.breaker("sms")
    assert breaker["state"] == "CLOSED"
    assert "recovering" not in breaker
    assert "failuresInRow" not in breaker
    assert 12 <= breaker["recentRuns"] <= 52
    assert 0.2 < breaker["recentFailureRate"] < 0.5

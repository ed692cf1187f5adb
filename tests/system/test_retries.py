"""Scenario 3: a passing network error is retried after the delay, and nobody notices."""

from __future__ import annotations

from tests.support import scenarios as stories
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic

RETRY_DELAY_MS = 300


def test_one_network_error_is_retried_after_the_delay(sickbay: Clients, clinic: Clinic):
    """By the clock of the handlers, too; the circuit has counted the failure, and that is all."""
    job_id = stories.transient(sickbay, stories.CLINIC, "blip", RETRY_DELAY_MS)
    first, second = clinic.runs(job_id=job_id)
    assert second.at - first.at >= RETRY_DELAY_MS
    assert sickbay.breaker("blip") == {"jobType": "blip", "state": "CLOSED", "totalFailures": 1}

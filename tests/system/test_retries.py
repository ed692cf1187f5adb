"""Scenario 3: a passing network error is retried after the delay, and nobody notices."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.system.clients import Clients
from tests.system.clinic import Clinic

RETRY_DELAY_MS = 300


def ms(change: dict[str, Any]) -> float:
    return datetime.fromisoformat(change["time"]).timestamp() * 1000


def test_one_network_error_is_retried_after_the_delay(sickbay: Clients, clinic: Clinic):
    job_id = sickbay.submit("blip", {"do": ["NETWORK_ERROR", "ok"]})
    sickbay.wait(job_id, "RETRYING")
    sickbay.wait(job_id, "SUCCEEDED")
    job = sickbay.job(job_id)
    assert [(change["state"], change["attempt"]) for change in job["history"]] == [
        ("QUEUED", 0),
        ("RUNNING", 0),
        ("RETRYING", 1),
        ("RUNNING", 1),
        ("SUCCEEDED", 1),
    ]
    assert [error["code"] for error in job["errors"]] == ["NETWORK_ERROR"]
    retrying, again = job["history"][2:4]
    assert ms(again) - ms(retrying) >= RETRY_DELAY_MS
    first, second = clinic.runs(job_id=job_id)
    assert second.at - first.at >= RETRY_DELAY_MS
    assert sickbay.circuit("blip") == {"jobType": "blip", "state": "CLOSED", "totalFailures": 1}

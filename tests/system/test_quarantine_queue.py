"""The quarantine as an operator sees it in the broker: its queue holds exactly the jobs that are set aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.system_under_test import Product

LOOKS: Final = 400


@pytest.fixture
def alone(own_clinic: Clinic, start: Callable[..., Product]) -> Any:
    """A product whose numbers nobody else moves."""
    env = {"JOB_HANDLERS": "clinic_handlers", "COOLDOWN_PERIOD": "600", "MAX_RETRIES": "0"}
    with Clients(start(own_clinic.folder, env).ready()) as clients:
        yield clients


def set_aside(metrics: dict[str, Any]) -> int:
    states = metrics["jobs"]["byState"]
    return int(states["PARKED"] + states["QUARANTINED"])


def settled(sickbay: Clients, jobs: int) -> dict[str, Any]:
    """Ask for the metrics until the queue agrees with the ledger (there is no event for it), at most LOOKS times."""
    metrics: dict[str, Any] = {}
    for _ in range(LOOKS):
        metrics = sickbay.plane.get("/metrics").json()
        if set_aside(metrics) == metrics["queues"]["jobs.quarantine"] == jobs:
            return metrics
        sickbay.worker.get("/health")
    raise AssertionError(f"it never settled: {metrics}")


def test_the_depth_of_the_queue_is_the_number_of_jobs_set_aside(alone: Clients, own_clinic: Clinic):
    """Also after resubmits, discards, cancellations and a release of parked jobs."""
    bad = alone.submit_all("bad", *({"do": "VALIDATION_ERROR", "number": number} for number in range(6)))
    alone.wait_all(bad, "QUARANTINED")
    own_clinic.break_down("depth", "STRANGE")  # of unknown kind: without retries those before the fifth are quarantined
    parked = alone.submit_all("depth", *({"number": number} for number in range(9)))
    alone.wait_all(parked, "PARKED", "QUARANTINED")
    metrics = settled(alone, 15)
    assert metrics["circuitBreakers"] == {"total": 2, "open": 1, "closed": 1}

    for job_id in bad[:3]:
        assert alone.plane.post(f"/quarantine/{job_id}/resubmit", json={"payload": {"do": "ok"}}).status_code == 200
    alone.wait_all(bad[:3], "SUCCEEDED")
    assert alone.plane.post(f"/quarantine/{bad[3]}/discard").status_code == 200
    assert alone.api.post(f"/jobs/{bad[4]}/cancel").status_code == 200
    settled(alone, 10)

    own_clinic.repair("depth")
    alone.plane.post("/breakers/depth/reset")
    waiting = alone.plane.get("/quarantine", params={"state": "PARKED"}).json()["count"]
    assert waiting <= 9
    left = [job["jobId"] for job in alone.plane.get("/quarantine", params={"state": "QUARANTINED"}).json()["jobs"]]
    alone.wait_all([job_id for job_id in parked if job_id not in left], "SUCCEEDED")
    metrics = settled(alone, len(left))
    empty = {f"jobs.{name}": 0 for name in ("high", "main", "demoted", "low", "retry", "ledger")}
    assert metrics["queues"] == empty | {"jobs.quarantine": len(left)}
    assert alone.case(bad[5])["state"] == "QUARANTINED"

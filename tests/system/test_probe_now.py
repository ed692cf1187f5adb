"""An admin who knows that the dependency is back need not wait for the cooldown, and need not trust it with more than one job."""

from __future__ import annotations

from pathlib import Path

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.system.conftest import QUICK, Start


def test_a_probe_now_brings_the_parked_jobs_back_long_before_the_cooldown_is_over(start: Start, tmp_path: Path):
    """One job runs for each request, fails while the dependency is down, and closes the circuit when it is back."""
    clinic = Clinic(tmp_path)
    product = start(clinic.folder, QUICK | {"COOLDOWN_PERIOD": "3600"}).ready()
    with Clients(product) as sickbay:
        sickbay.wait(sickbay.submit("outage"), "SUCCEEDED")
        refused = sickbay.plane.post("/breakers/outage/probe")
        assert (refused.status_code, refused.json()["reason"]) == (409, "WRONG_STATE")
        assert "is CLOSED, and only an OPEN one can be probed" in refused.json()["message"]
        clinic.break_down("outage")
        with sickbay.watching("outage") as breaker:
            jobs = sickbay.submit_all("outage", *({"number": number} for number in range(5)))
            breaker.until("OPEN")
            sickbay.wait_all(jobs, "PARKED")
            before = len(clinic.runs(job_type="outage"))
            answer = sickbay.plane.post("/breakers/outage/probe")
            assert (answer.status_code, answer.json()["jobType"]) == (200, "outage")
            probe = breaker.until("HALF_OPEN").probe_job_id
            assert breaker.until("OPEN").trips == 2
            assert [run.job for run in clinic.runs(job_type="outage")[before:]] == [probe]
            sickbay.wait(probe, "PARKED")
            clinic.repair("outage")
            assert sickbay.plane.post("/breakers/outage/probe").status_code == 200
            breaker.until("CLOSED")
        sickbay.wait_all(jobs, "SUCCEEDED")

"""Without its ledger the system goes on working, and catches up afterwards; what a lost ledger knew of set-aside jobs comes back."""

from __future__ import annotations

import time

import pytest

from tests.support.chaos_load import Weather
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.faults.proxied import proxied
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until

WEATHER = Weather.read()
pytestmark = [pytest.mark.servers, pytest.mark.chaos, pytest.mark.timeout(120 + 2 * WEATHER.outage_s)]
KEPT = ("payload", "errors", "reason", "state", "submittedAt", "attempt", "generation")
TRIED_AGAIN_S = 30
"""After an outage of a minute the services may look only every so many seconds."""


def test_jobs_flow_while_postgresql_is_away(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """Accepted, run, retried and set aside; reading says UNAVAILABLE; afterwards the ledger knows everything."""
    with proxied(corner.postgres) as (url, call):
        fleet.env["DATABASE_URL"] = url
        fleet.launch_all(workers=2).ready()
        with Clients(fleet) as sickbay:
            known = sickbay.submit("ok")
            sickbay.wait(known, "SUCCEEDED")
            call("cut")
            gone = time.monotonic()
            jobs: dict[str, str] = {}
            for number in range(20):
                good = sickbay.submit_all("ok", *({"number": number} for _ in range(8)))
                retried = sickbay.submit_all("retry", *({"do": ["BAD_REQUEST", "ok"]} for _ in range(2)))
                bad = sickbay.submit_all("bad", *({"do": "VALIDATION_ERROR"} for _ in range(2)))
                jobs |= dict.fromkeys(good + retried, "SUCCEEDED") | dict.fromkeys(bad, "QUARANTINED")
            done = {job_id for job_id, state in jobs.items() if state == "SUCCEEDED"}
            until(lambda: done <= {run.job for run in own_clinic.runs(what="done")})
            until(lambda: corner.depths()["jobs.quarantine"] == 40)
            answer = sickbay.api.get(f"/jobs/{known}")
            assert (answer.status_code, answer.json()["reason"]) == (503, "BACKEND_UNAVAILABLE"), answer.text
            time.sleep(max(0.0, WEATHER.outage_s - (time.monotonic() - gone)))
            call("accept")

            until(lambda: sickbay.api.get(f"/jobs/{known}").status_code == 200, TRIED_AGAIN_S)
            until(lambda: states_of(corner) == {"SUCCEEDED": 1 + len(done), "QUARANTINED": 40}, TRIED_AGAIN_S)
            assert {job_id: sickbay.job(job_id)["state"] for job_id in jobs} == jobs
            until(lambda: corner.depths() | {"jobs.ledger": 0} == corner.depths())
            assert sickbay.plane.get("/metrics").json()["queues"]["jobs.quarantine"] == 40


def test_a_lost_ledger_is_rebuilt_from_the_quarantine(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """Every parked and quarantined job is there again with payload and errors, and can be resubmitted or heals by itself."""
    fleet.launch_all(workers=1).ready()
    with Clients(fleet) as sickbay:
        sickbay.wait(sickbay.submit("outage"), "SUCCEEDED")
        own_clinic.break_down("outage")
        parked = sickbay.submit_all("outage", *({"number": number} for number in range(8)))
        bad = sickbay.submit_all("bad", *({"do": "VALIDATION_ERROR", "number": number} for number in range(4)))
        sickbay.wait_all(bad, "QUARANTINED")
        sickbay.plane.post("/breakers/outage/force-open")
        sickbay.wait_all(parked, "PARKED")
        before = {job_id: sickbay.case(job_id) for job_id in bad}
        (plane,) = fleet.services["controlplane"]
        plane.terminate()
        assert plane.wait() == 0
        fleet.retire(plane)
        corner.sql("TRUNCATE jobs, job_changes, job_duplicates, job_revisions")
        fleet.launch("controlplane")[0].ready()

    with Clients(fleet) as sickbay:
        until(lambda: sickbay.plane.get("/quarantine").json()["count"] == 12)
        for job_id, case in before.items():
            again = sickbay.case(job_id)
            assert {name: again[name] for name in ("payload", "errors", "reason")} == {
                name: case[name] for name in ("payload", "errors", "reason")
            }
        assert sickbay.plane.post(f"/quarantine/{bad[0]}/resubmit", json={"payload": {"do": "ok"}}).status_code == 200
        sickbay.wait(bad[0], "SUCCEEDED")
        own_clinic.repair("outage")
        assert sickbay.plane.post("/breakers/outage/reset").status_code == 200
        sickbay.wait_all(parked, "SUCCEEDED")
        until(lambda: corner.depths()["jobs.quarantine"] == 3)


def states_of(corner: Corner) -> dict[str, int]:
    """How many jobs the ledger knows in each state."""
    return {row["state"]: row["jobs"] for row in corner.sql("SELECT state, count(*) AS jobs FROM jobs GROUP BY state")}

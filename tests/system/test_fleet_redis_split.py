"""One worker is cut off from Redis, and nobody else: jobs are not passed to and fro for ever between it and the control plane."""

from __future__ import annotations

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.faults.proxied import proxied
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
MOST_GENERATIONS = 8
"""With pauses of 1, 2, 4, 8 ... s that is more than half a minute; without them it took two seconds."""


def test_jobs_that_only_come_back_are_released_less_and_less_often(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """The worker's own circuit is open, the fleet's is closed: damped, shown as degraded, told in the log, and healed afterwards."""
    with proxied(corner.redis) as (url, call):
        fleet.launch_all(workers=0)
        fleet.launch("worker", REDIS_URL=url, COOLDOWN_PERIOD="60")
        fleet.ready()
        with Clients(fleet) as sickbay:
            sickbay.wait(sickbay.submit("sms"), "SUCCEEDED")
            call("cut")
            own_clinic.break_down("email")
            jobs = sickbay.submit_all("email", *({"number": number} for number in range(10)))
            sickbay.wait_all(jobs, "PARKED")
            plane = fleet.services["controlplane"][0]
            until(lambda: sickbay.plane.get("/breakers/email").status_code == 200 and sickbay.breaker("email").get("degraded"))
            assert plane.logged("are parked again although their breaker is closed")
            seen = until(lambda: max(sickbay.job(job_id)["generation"] for job_id in jobs))
            assert seen <= MOST_GENERATIONS
            until(lambda: "sickbay_releases_held_back" in sickbay.plane.get("/metrics", headers={"Accept": "text/plain"}).text)
            own_clinic.repair("email")
            call("accept")
            sickbay.wait_all(jobs, "SUCCEEDED")
            assert max(sickbay.job(job_id)["generation"] for job_id in jobs) <= MOST_GENERATIONS
            until(lambda: not sickbay.breaker("email").get("degraded"))

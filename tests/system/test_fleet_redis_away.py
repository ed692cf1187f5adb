"""Redis goes away in the middle: what was shut stays shut, what was open goes on, and all of it is one truth again afterwards."""

from __future__ import annotations

import pytest

from tests.support import scenarios as stories
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.faults.proxied import proxied
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]


def test_circuits_stay_as_they_were_while_redis_is_away(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """No probe, no release and no job of the open type; the closed ones run and are judged by each worker alone, shown as degraded."""
    with proxied(corner.redis) as (url, call):
        fleet.env["REDIS_URL"] = url
        fleet.launch_all(workers=1).ready()
        with Clients(fleet) as sickbay:
            sickbay.wait(sickbay.submit("sms"), "SUCCEEDED")
            sickbay.wait(sickbay.submit("webhook"), "SUCCEEDED")
            outage = stories.fall_ill(sickbay, own_clinic, "email", 12, others=("sms",))
            assert sickbay.plane.post("/breakers/email/force-open", json={"seconds": 3}).status_code == 200
            call("cut")
            until(lambda: sickbay.breaker("email").get("degraded"))
            ran = len(own_clinic.runs(job_type="email"))

            own_clinic.break_down("webhook")
            alone = sickbay.submit_all("webhook", *({"number": number} for number in range(8)))
            sickbay.wait_all(alone, "PARKED", "RETRYING")
            sickbay.wait_all(sickbay.submit_all("sms", {}, {}, {}), "SUCCEEDED")
            late = sickbay.submit("email")
            sickbay.wait(late, "PARKED")
            assert sickbay.worker.get("/health").status_code == 200, "a circuit that cannot be asked makes nobody unready"
            assert len(own_clinic.runs(job_type="email")) == ran, "neither probed nor run"

            own_clinic.repair("webhook")
            own_clinic.repair("email")
            call("accept")
            sickbay.wait_all([*outage.ran, *outage.parked, late, *alone], "SUCCEEDED")
            until(lambda: not any(one.get("degraded") for one in sickbay.plane.get("/breakers").json()["breakers"]))
            assert {one["state"] for one in sickbay.plane.get("/breakers").json()["breakers"]} == {"CLOSED"}

"""Two control planes share the work, and one goes on where the other was killed."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from threading import Thread
from typing import Final

import httpx
import pytest

from tests.support import scenarios as stories
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.faults.proxied import proxied
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until

pytestmark = pytest.mark.servers

PARKED: Final = 150
LEASED: Final = "SELECT job_id FROM jobs WHERE lease_until IS NOT NULL"
AGE_LEASES: Final = "UPDATE jobs SET lease_until = 1 WHERE lease_until IS NOT NULL"


def test_two_control_planes(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """No job is released twice, the queue settles; one killed -9 between claim and publish leaves its job to the other."""
    with proxied(corner.rabbitmq) as (url, call):
        fleet.launch_all(workers=1)
        (doomed,) = fleet.launch("controlplane", RABBITMQ_URL=url)
        with Clients(fleet.ready()) as theirs:
            fleet.services["controlplane"].reverse()
            with Clients(fleet) as ours:
                both_release(ours, theirs, own_clinic)
                until(lambda: (depths := corner.depths()) == dict.fromkeys(depths, 0))

                bad = stories.bad_data(ours, stories.CLINIC, "bad")
                until(lambda: corner.depths()["jobs.quarantine"] == 1)
                call("blackhole")
                asking = Thread(target=resubmit, args=(theirs, bad))
                asking.start()
                until(lambda: corner.sql(LEASED))
                fleet.retire(doomed)
                call("reset")
                asking.join()
                assert ours.case(bad)["state"] == "QUARANTINED", "it was not published"

                corner.sql(AGE_LEASES)  # rather than to wait for 30 s
                ours.plane.post("/breakers/ok/force-open")  # a change of any circuit makes a healer look
                ours.wait(bad, "SUCCEEDED")
                assert [run.generation for run in own_clinic.runs(job_id=bad)] == [0] * 4 + [1]
                until(lambda: (depths := corner.depths()) == dict.fromkeys(depths, 0))


def both_release(ours: Clients, theirs: Clients, clinic: Clinic) -> None:
    """After a reset both bring parked jobs back: each job once, in one new generation."""
    stories.introduce(ours, "forced")
    assert ours.plane.post("/breakers/forced/force-open", json={"seconds": 600}).status_code == 200
    ids = ours.submit_all("forced", *({"number": number} for number in range(PARKED)))
    ours.wait_all(ids, "PARKED")
    assert theirs.plane.post("/breakers/forced/reset").status_code == 200
    ours.wait_all(ids, "SUCCEEDED")
    assert Counter((run.job, run.generation) for run in clinic.runs(job_type="forced") if run.job in ids) == dict.fromkeys(
        ((job_id, 1) for job_id in ids), 1
    )
    assert ours.plane.get("/metrics").json()["duplicates"] == 0


def resubmit(sickbay: Clients, job_id: str) -> None:
    """Ask a control plane that will not live to answer."""
    with suppress(httpx.TransportError):
        sickbay.plane.post(f"/quarantine/{job_id}/resubmit", json={"payload": {"do": "ok"}, "by": "ada"})

"""Jobs that are due while RabbitMQ is away, or while who sends them is killed, on real servers: each runs, and runs once."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL
from typing import Final

import httpx
import pytest

from tests.support import killing_scheduler
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.faults.proxied import proxied
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until

pytestmark = pytest.mark.servers

JOBS: Final = 60
AHEAD_S: Final = 3
OUTAGE_S: Final = 2
"""After the last job was due."""
SENT_S: Final = 10
"""Once RabbitMQ is back."""
KILLER: Final = Path(killing_scheduler.__file__)


def submit(api: httpx.Client, spread_ms: int) -> tuple[list[str], float]:
    """Jobs that are due one after the other, so far apart; their ids, and when the last is due (s)."""
    begin = time.time() + AHEAD_S
    times = [begin + number * spread_ms / 1_000 for number in range(JOBS)]
    lines = [{"jobType": "later", "payload": {}, "runAt": datetime.fromtimestamp(at, UTC).isoformat()} for at in times]
    results = api.post("/jobs:batch", json={"jobs": lines}).json()["results"]
    return [str(result["jobId"]) for result in results], times[-1]


def test_jobs_that_are_due_while_rabbitmq_is_away_run_as_soon_as_it_is_back(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """It goes away before the first is due; no lease holds any of them up."""
    with proxied(corner.rabbitmq) as (url, call):
        fleet.env["RABBITMQ_URL"] = url
        fleet.launch_all(workers=1).ready()
        with Clients(fleet) as sickbay:
            ids, last = submit(sickbay.api, 10)
            until(lambda: len(corner.sql(SCHEDULED)) == JOBS)
            call("cut")
            assert own_clinic.runs() == [], "none was due yet"
            time.sleep(max(0.0, last + OUTAGE_S - time.time()))
            assert len(corner.sql(SCHEDULED)) == JOBS
            assert corner.sql(LEASED) == []
            call("accept")
            back = time.time()
            sickbay.wait_all(ids, "SUCCEEDED")
            assert {sickbay.job(job_id)["generation"] for job_id in ids} == {1}
            assert sickbay.plane.get("/metrics").json()["duplicates"] == 0
        assert own_clinic.count("later") == Counter(ids)
        assert max(run.at for run in own_clinic.runs()) / 1_000 - back < SENT_S


SCHEDULED: Final = "SELECT job_id FROM jobs WHERE state = 'SCHEDULED'"
LEASED: Final = "SELECT job_id FROM jobs WHERE lease_until IS NOT NULL"


def test_what_a_killed_control_plane_had_published_is_sent_again_and_dropped_by_the_worker(
    fleet: Fleet, corner: Corner, own_clinic: Clinic
):
    """The ledger did not know of it: after the lease the other one sends a second copy, marked, and only one of both runs."""
    shutil.copy(KILLER, own_clinic.folder / KILLER.name)
    (doomed,) = fleet.launch("controlplane", OBSERVERS="killing_scheduler:Killer", KILL_AT="PUBLISHED")
    (jobapi,) = fleet.launch("jobapi")
    fleet.ready()
    with httpx.Client(base_url=f"http://127.0.0.1:{jobapi.ports[0]}", timeout=60, trust_env=False) as api:
        ids, _ = submit(api, 0)
    assert doomed.wait() == -SIGKILL
    fleet.retire(doomed)
    assert corner.depths()["jobs.main"] == len(corner.sql(SCHEDULED)) == JOBS
    fleet.launch("controlplane")[0].ready()
    until(lambda: not corner.sql(SCHEDULED))
    assert corner.depths()["jobs.main"] == 2 * JOBS
    fleet.launch("worker", CONCURRENCY="8")[0].ready()  # so few that no second copy comes while the first still runs
    with Clients(fleet) as sickbay:
        sickbay.wait_all(ids, "SUCCEEDED")
        until(lambda: sickbay.plane.get("/metrics").json()["duplicates"] == JOBS)
        jobs = [sickbay.job(job_id) for job_id in ids]
    assert own_clinic.count("later") == Counter(ids)
    assert {(job["generation"], job["attempt"], job["state"], job["duplicates"]) for job in jobs} == {(1, 0, "SUCCEEDED", 1)}

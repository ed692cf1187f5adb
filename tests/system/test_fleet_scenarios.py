"""The documented scenarios with 1, 2 and 4 worker processes, with what an operator reads meanwhile in Redis and RabbitMQ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest

from tests.support import scenarios as stories
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner, own_corner
from tests.support.waiting import until
from tests.system.conftest import QUICK

pytestmark = pytest.mark.servers

COOLDOWN_MS: Final = 1_000
RETRY_DELAY_MS: Final = 300
SLOTS: Final = 2


class Hospital(NamedTuple):
    """A running fleet with everything around it."""

    workers: int
    fleet: Fleet
    corner: Corner
    clinic: Clinic
    clients: Clients


@pytest.fixture(scope="module", params=(1, 2, 4), ids="{}-workers".format)
def hospital(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """One Job API, one control plane and so many workers, shared by the tests here, each of which has job types of its own."""
    clinic = Clinic(tmp_path_factory.mktemp("fleet"))
    env = QUICK | {"CONCURRENCY": str(SLOTS), "COOLDOWN_PERIOD": str(COOLDOWN_MS / 1000)}
    with own_corner() as corner, Fleet(clinic.folder, env | dict(corner.env)) as fleet:
        fleet.launch_all(workers=request.param).ready()
        with Clients(fleet) as clients:
            yield Hospital(request.param, fleet, corner, clinic, clients)


def settled(hospital: Hospital) -> int:
    """Wait until `jobs.quarantine` holds as many messages as jobs are set aside, and nothing else waits anywhere; how many."""

    def aside() -> int:
        return int(hospital.clients.plane.get("/quarantine").json()["count"])

    until(lambda: (depths := hospital.corner.depths()) == dict.fromkeys(depths, 0) | {"jobs.quarantine": aside()})
    return aside()


def test_an_outage(hospital: Hospital):
    """Scenario 1, and what `breaker:email` and `failure:email:API_TIMEOUT` say meanwhile; exactly one probe runs in the whole fleet."""
    sickbay, clinic, redis = hospital.clients, hospital.clinic, hospital.corner.redis_cli
    stories.introduce(sickbay, "email")
    with sickbay.watching("email") as told:
        outage = stories.fall_ill(sickbay, clinic, "email", at_most=3 * stories.THRESHOLD, others=("sms", "webhook"))
        assert {"breaker:email", "breaker:sms", "breaker:webhook"} <= set(redis("KEYS", "breaker:*"))
        shown, counted = json.loads(redis("GET", "breaker:email")), int(redis("GET", "failure:email:API_TIMEOUT"))
        assert shown["state"] in {"OPEN", "HALF_OPEN"}
        assert (shown["jobType"], shown["reasonCode"]) == ("email", "API_TIMEOUT")
        assert counted >= stories.THRESHOLD
        opened = told.until("OPEN")
        assert (opened.trips, opened.cooldown.ToMilliseconds()) == (1, COOLDOWN_MS)
        metrics = sickbay.plane.get("/metrics").json()
        assert metrics["failures"]["byJobType"]["email"] >= stories.THRESHOLD
        assert metrics["circuitBreakers"]["open"] >= 1
        probing, reopened = told.until("HALF_OPEN"), told.until("OPEN")
    assert reopened.trips == 2
    opened_at, probing_at, reopened_at = (change.update_time.ToMilliseconds() for change in (opened, probing, reopened))
    assert probing_at >= opened_at + COOLDOWN_MS
    assert [run.job for run in clinic.runs(job_type="email") if probing_at <= run.at <= reopened_at] == [probing.probe_job_id]
    stories.recover(sickbay, clinic, "email", outage)
    assert json.loads(redis("GET", "breaker:email"))["state"] == "CLOSED"
    settled(hospital)


def test_bad_data(hospital: Hospital):
    """Scenario 2; `jobs.quarantine` holds as many messages as jobs are set aside."""
    job_ids = [stories.bad_data(hospital.clients, stories.CLINIC, "bad") for _ in range(2)]
    assert set(map(hospital.clinic.count("bad").get, job_ids)) == {1 + stories.MAX_RETRIES}
    count = settled(hospital)
    assert count >= len(job_ids)
    assert hospital.corner.redis_cli("KEYS", "failure:bad:*") == []
    for job_id in job_ids:
        stories.cure(hospital.clients, stories.CLINIC, job_id)
    assert settled(hospital) == count - len(job_ids)


def test_a_transient_error(hospital: Hospital):
    """Scenario 3; the retry may run on any worker."""
    job_id = stories.transient(hospital.clients, stories.CLINIC, "blip", RETRY_DELAY_MS)
    first, second = hospital.clinic.runs(job_id=job_id)
    assert second.at - first.at >= RETRY_DELAY_MS


def test_failures_are_counted_across_processes(hospital: Hospital):
    """Every slot of every worker holds a failing job when the dependency breaks down; afterwards, any worker runs any parked job."""
    sickbay, clinic = hospital.clients, hospital.clinic
    gate = clinic.make_gate("spread")
    jobs = max(SLOTS * hospital.workers, stories.THRESHOLD + 1)
    sickbay.wait(sickbay.submit("outage"), "SUCCEEDED")
    clinic.break_down("outage")
    ids = sickbay.submit_all("outage", *({"do": gate} for _ in range(jobs)))
    running = 1 + SLOTS * hospital.workers
    until(lambda: len(clinic.runs(job_type="outage")) == min(running, 1 + jobs))
    assert len({run.pid for run in clinic.runs(job_type="outage")[1:]}) == hospital.workers, "they are spread over all processes"
    with sickbay.watching("outage") as breaker:
        clinic.open_gate("spread")
        opened = breaker.until("OPEN")
    assert opened.reason_count >= stories.THRESHOLD
    clinic.repair("outage")
    sickbay.wait_all(ids, "SUCCEEDED")


def test_what_one_process_parked_any_other_brings_back(hospital: Hospital):
    """A parked job belongs to the fleet, not to the worker that parked it."""
    sickbay, clinic = hospital.clients, hospital.clinic
    sickbay.wait(sickbay.submit("forced"), "SUCCEEDED")
    assert sickbay.plane.post("/breakers/forced/force-open", json={"seconds": 600}).status_code == 200
    ids = sickbay.submit_all("forced", *({"number": number} for number in range(40)))
    sickbay.wait_all(ids, "PARKED")
    parked_by = {job_id: _who_parked(sickbay, job_id) for job_id in ids}
    assert len(set(parked_by.values())) == hospital.workers
    assert settled(hospital) >= len(ids)
    assert sickbay.plane.post("/breakers/forced/reset").status_code == 200
    sickbay.wait_all(ids, "SUCCEEDED")
    ran_in = {run.job: str(run.pid) for run in clinic.runs(job_type="forced") if run.job in ids}
    assert set(clinic.count("forced").values()) == {1}
    assert set(ran_in.values()) == set(parked_by.values())
    assert (ran_in != parked_by) == (hospital.workers > 1)


def _who_parked(sickbay: Clients, job_id: str) -> str:
    """The process, by its number; a worker calls itself HOST-NUMBER."""
    (change,) = [change for change in sickbay.job(job_id)["history"] if change["state"] == "PARKED"]
    return str(change["actor"].rpartition("-")[2])

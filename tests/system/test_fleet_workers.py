"""Workers that differ: who is live, what they handle, and what becomes of jobs that a worker has no handler for."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import HANDLERS, Clinic
from tests.support.fleet import Fleet
from tests.support.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
ANSWERS: Final = {"JOB_HANDLERS": "answer_handlers"}
KILLER: Final = '''
import os, pathlib, signal
from sickbay.observer import Observer

class Killer(Observer):
    """Dies by kill -9 between the confirm of a job's copy and the acknowledgement of the job."""
    def published(self, messages, seconds, error):
        if error is None and any(message.key == "retry" for message in messages):
            os.kill(os.getpid(), signal.SIGKILL)

killer = Killer()
'''


@pytest.fixture
def own_clinic(own_clinic: Clinic) -> Clinic:
    """Beside its handlers a module that handles only `answer`, and an observer that kills its worker."""
    only_answer, count = re.subn(r"TYPES: Final = \(\n.*?\n\)", 'TYPES: Final = ("answer",)', HANDLERS.read_text(), flags=re.DOTALL)
    assert count == 1
    (own_clinic.folder / "answer_handlers.py").write_text(only_answer)
    (own_clinic.folder / "killer.py").write_text(KILLER)
    return own_clinic


def duplicates(sickbay: Clients) -> int:
    """What the system itself tells of copies that ran or were dropped."""
    return int(sickbay.plane.get("/metrics").json()["duplicates"])


def workers(sickbay: Clients, **query: Any) -> dict[str, dict[str, Any]]:
    """`GET /workers`, by name."""
    answer = sickbay.plane.get("/workers", params=query)
    assert answer.status_code == 200, answer.text
    return {worker["name"]: worker for worker in answer.json()["workers"]}


def test_workers_come_drain_and_go(fleet: Fleet, own_clinic: Clinic):
    """One that stops says that it drains and leaves at once; one that is killed is listed until its time is over."""
    fleet.launch_all(workers=0)
    fleet.launch("worker", WORKER_NAME="anna", CONCURRENCY="3")
    fleet.launch("worker", WORKER_NAME="berta")
    anna, berta = fleet.workers
    with Clients(fleet.ready()) as sickbay:
        until(lambda: workers(sickbay).keys() == {"anna", "berta"})
        held = sickbay.submit_all("held", *({"do": own_clinic.make_gate(f"gate-{number}")} for number in range(2)))
        sickbay.wait_all(held, "RUNNING")
        until(lambda: sum(worker["slotsInUse"] for worker in workers(sickbay).values()) == 2)
        seen = workers(sickbay, jobType="held")["anna"]
        assert (seen["slots"], seen["draining"], "email" in seen["jobTypes"]) == (3, False, True)
        assert workers(sickbay, jobType="nobody") == {}

        anna.terminate()
        berta.terminate()
        until(lambda: [worker["draining"] for worker in workers(sickbay).values()] == [True, True])
        for number in range(2):
            own_clinic.open_gate(f"gate-{number}")
        assert [anna.wait(), berta.wait()] == [0, 0]
        assert workers(sickbay) == {}
        for gone in (anna, berta):
            fleet.retire(gone)

        (carla,) = fleet.launch("worker", WORKER_NAME="carla")
        carla.ready()
        assert "carla" in workers(sickbay)
        fleet.retire(carla)
        assert "carla" in workers(sickbay)
        until(lambda: workers(sickbay) == {})


def test_workers_with_different_handlers_hand_jobs_on(fleet: Fleet, own_clinic: Clinic):
    """Each job reaches a worker that handles it, and runs once; nobody is quarantined."""
    fleet.env["UNKNOWN_TYPE_GRACE"] = "60"
    fleet.launch_all(workers=1)
    fleet.launch("worker", **ANSWERS)
    with Clients(fleet.ready()) as sickbay:
        jobs = sickbay.submit_batch([(kind, {}) for kind in ("ok", "answer") * 20])
        sickbay.wait_all(jobs, "SUCCEEDED")
        assert Counter(run.job for run in own_clinic.runs()) == dict.fromkeys(jobs, 1)
        assert {run.attempt for run in own_clinic.runs()} == {0}
        assert sickbay.plane.get("/metrics").json()["jobs"].get("QUARANTINED", 0) == 0


def test_a_type_that_no_worker_handles_is_quarantined_after_its_grace_and_comes_back_with_a_worker(fleet: Fleet, own_clinic: Clinic):
    """Nobody resubmits anything."""
    fleet.launch_all(workers=1, UNKNOWN_TYPE_GRACE="2")
    with Clients(fleet.ready()) as sickbay:
        jobs = sickbay.submit_all("answer", *({"number": number} for number in range(5)))
        sickbay.wait_all(jobs, "QUARANTINED")
        case = sickbay.case(jobs[0])
        assert (case["reason"], case["attempt"]) == ("UNKNOWN_TYPE", 0)
        assert "no live worker has handled 'answer' for 2 s" in case["errors"][-1]["message"]
        assert sickbay.api.get(f"/jobs/{jobs[0]}/explain").json()["nextStep"] == "WORKER_COMES"
        fleet.launch("worker", **ANSWERS)[0].ready()
        sickbay.wait_all(jobs, "SUCCEEDED")
        assert states(sickbay, jobs[0]) == ["QUEUED", "QUARANTINED", "QUEUED", "SUCCEEDED"]
        assert own_clinic.count("answer") == dict.fromkeys(jobs, 1)


def test_a_rolling_deployment_that_adds_a_type_quarantines_nobody(fleet: Fleet, own_clinic: Clinic):
    """Its jobs come before its first worker, and the old worker takes them all."""
    fleet.env["UNKNOWN_TYPE_GRACE"] = "60"
    fleet.launch_all(workers=1)
    with Clients(fleet.ready()) as sickbay:
        jobs = sickbay.submit_all("answer", *({"number": number} for number in range(10)))
        until(lambda: 'sickbay_live_workers{job_type="answer"} 0.0' in metrics(sickbay))
        fleet.launch("worker", **ANSWERS)[0].ready()
        sickbay.wait_all(jobs, "SUCCEEDED")
        assert [states(sickbay, job) for job in jobs] == [["QUEUED", "SUCCEEDED"]] * len(jobs)
        assert 'sickbay_live_workers{job_type="answer"} 1.0' in metrics(sickbay)


def test_a_breaker_whose_type_lost_its_workers_waits_for_one(fleet: Fleet, own_clinic: Clinic):
    """No probe is sent, cooldown after cooldown, and nothing is quarantined; a worker that comes heals the type."""
    fleet.env["UNKNOWN_TYPE_GRACE"] = "60"
    fleet.launch_all(workers=1)
    (only,) = fleet.launch("worker", **ANSWERS)
    with Clients(fleet.ready()) as sickbay:
        own_clinic.break_down("answer")
        jobs = sickbay.submit_all("answer", *({"number": number} for number in range(10)))
        sickbay.wait_all(jobs, "PARKED")
        only.terminate()
        assert only.wait() == 0
        fleet.retire(only)
        until(lambda: sickbay.breaker("answer").get("waitingFor") == "worker")
        own_clinic.repair("answer")
        until(lambda: sickbay.breaker("answer")["cooldownElapsed"])
        seen = {job: sickbay.job(job)["generation"] for job in jobs}
        # Another type goes through its whole life meanwhile, so the healer has looked again and again.
        sickbay.wait(sickbay.submit("retry", {"do": ["API_TIMEOUT", "API_TIMEOUT", "API_TIMEOUT", "ok"]}), "SUCCEEDED")
        explained = sickbay.plane.get("/breakers/answer/explain").json()
        assert (explained["nextStep"], explained["breaker"]["waitingFor"]) == ("WORKER_COMES", "worker")
        assert sickbay.api.get(f"/jobs/{jobs[0]}/explain").json()["nextStep"] == "WORKER_COMES"
        assert {job: sickbay.job(job)["generation"] for job in jobs} == seen
        at_most_one_sent = [sickbay.job(job)["state"] for job in jobs]  # as the probe, before the worker left
        assert at_most_one_sent.count("PARKED") >= len(jobs) - 1
        assert "QUARANTINED" not in at_most_one_sent
        fleet.launch("worker", **ANSWERS)[0].ready()
        sickbay.wait_all(jobs, "SUCCEEDED")
        assert "waitingFor" not in sickbay.breaker("answer")


def test_a_worker_killed_between_the_copy_and_the_acknowledgement_loses_nothing(fleet: Fleet, own_clinic: Clinic):
    """Both copies come to the other worker; the second one is dropped and counted, or runs and is counted."""
    fleet.env["UNKNOWN_TYPE_GRACE"] = "60"
    fleet.launch_all(workers=0)
    (killed,) = fleet.launch("worker", OBSERVERS="killer:killer")
    fleet.launch("worker", **ANSWERS)
    with Clients(fleet.ready()) as sickbay:
        jobs = sickbay.submit_all("answer", *({"number": number} for number in range(20)))
        killed.wait()
        fleet.retire(killed)
        sickbay.wait_all(jobs, "SUCCEEDED")
        extra = until(lambda: duplicates(sickbay))
        ran = own_clinic.count("answer")
        assert ran.keys() == set(jobs)
        assert ran.total() - len(jobs) <= extra


def states(sickbay: Clients, job_id: str) -> list[str]:
    """What the job went through; a run that is over soon is not recorded as RUNNING."""
    return [state for state in sickbay.states(job_id) if state != "RUNNING"]


def metrics(sickbay: Clients) -> str:
    """The control plane's metrics as Prometheus reads them."""
    return sickbay.plane.get("/metrics", headers={"Accept": "text/plain"}).text

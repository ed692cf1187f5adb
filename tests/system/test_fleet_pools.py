"""Two deployments with different handlers on one RabbitMQ: each job reaches the worker that handles it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import HANDLERS, Clinic
from tests.support.fleet import Fleet
from tests.support.waiting import until

KILLER: Final = '''
import os, signal
from sickbay.observer import Observer

class Killer(Observer):
    """Dies by kill -9 between the confirm of a job's copy in the queue of the pool and the acknowledgement of the job."""
    def published(self, messages, seconds, error):
        if error is None and any(message.lane == "pool.reports" for message in messages):
            os.kill(os.getpid(), signal.SIGKILL)

killer = Killer()
'''
REPORTER: Final = {"WORKER_NAME": "reporter", "JOB_HANDLERS": "report_handlers", "POOL": "reports"}

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]


@pytest.fixture
def own_clinic(own_clinic: Clinic) -> Clinic:
    """Beside its handlers a module that handles only `report`, and an observer that kills its worker."""
    (own_clinic.folder / "killer.py").write_text(KILLER)
    only_report, count = re.subn(r"TYPES: Final = \(\n.*?\n\)", 'TYPES: Final = ("report",)', HANDLERS.read_text(), flags=re.DOTALL)
    assert count == 1
    (own_clinic.folder / "report_handlers.py").write_text(only_report)
    return own_clinic


def test_each_job_reaches_the_worker_of_its_pool(fleet: Fleet, own_clinic: Clinic):
    """Also retries and released jobs, and those that come while nobody knows the pools; cancelling asks the pool's worker, too."""
    fleet.env["UNKNOWN_TYPE_GRACE"] = "60"
    fleet.launch_all(workers=0)
    fleet.launch("worker", WORKER_NAME="common")
    (reporter,) = fleet.launch("worker", **REPORTER)
    with Clients(fleet.ready()) as sickbay:
        early = sickbay.submit("report")  # perhaps before the Job API knows the pool: the common worker hands it on
        sickbay.wait(early, "SUCCEEDED")
        live = {worker["name"]: worker.get("pool", "") for worker in sickbay.plane.get("/workers").json()["workers"]}
        assert live == {"common": "", "reporter": "reports"}

        once_more = [(kind, {"do": ["NETWORK_ERROR", "ok"]}) for kind in ("ok", "report")]
        jobs = sickbay.submit_batch([*once_more, *((kind, {}) for kind in ("ok", "report") * 10)])
        sickbay.wait_all(jobs, "SUCCEEDED")
        ran: dict[str, set[int]] = {"ok": set(), "report": set()}
        for run in own_clinic.runs():
            ran[run.type].add(run.pid)
        assert [len(ran["ok"]), len(ran["report"]), len(ran["ok"] | ran["report"])] == [1, 1, 2]
        assert Counter(run.job for run in own_clinic.runs()) == dict.fromkeys([early, *jobs], 1) | dict.fromkeys(jobs[:2], 2)

        gate = own_clinic.make_gate("reporting")
        held = sickbay.submit("report", {"do": gate})
        sickbay.wait(held, "RUNNING")
        assert "cancelRequestedAt" in sickbay.api.post(f"/jobs/{held}/cancel").json(), "the worker of the pool was asked"
        own_clinic.open_gate("reporting")
        sickbay.wait(held, "SUCCEEDED")

        reporter.terminate()
        assert reporter.wait() == 0
        fleet.retire(reporter)
        waiting = sickbay.submit("report")
        until(lambda: sickbay.api.get(f"/jobs/{waiting}/explain").json()["nextStep"] == "WORKER_COMES")
        fleet.launch("worker", **REPORTER)[0].ready()
        sickbay.wait(waiting, "SUCCEEDED")
        until(lambda: sickbay.plane.get("/metrics").json()["queues"].get("jobs.pool.reports") == 0)


def test_a_worker_that_dies_while_it_hands_a_job_on_to_a_pool_loses_nothing(fleet: Fleet, own_clinic: Clinic):
    """The jobs come before anybody knows the pool. What was in hand comes again to the next worker, and is compared before it runs."""
    fleet.env["UNKNOWN_TYPE_GRACE"] = "60"
    fleet.launch_all(workers=0)
    (killed,) = fleet.launch("worker", OBSERVERS="killer:killer")
    with Clients(fleet.ready()) as sickbay:
        jobs = sickbay.submit_all("report", *({"number": number} for number in range(10)))
        fleet.launch("worker", **REPORTER)[0].ready()
        killed.wait()
        fleet.retire(killed)
        fleet.launch("worker")[0].ready()
        sickbay.wait_all(jobs, "SUCCEEDED")
        ran = own_clinic.count("report")
        assert ran.keys() == set(jobs)
        extra = until(lambda: int(sickbay.plane.get("/metrics").json()["duplicates"]))
        assert ran.total() - len(jobs) <= extra

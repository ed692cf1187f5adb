"""kill -9 at each step of a fast release: leased, published, finalised. Nothing is lost, and each job comes to its end.

Also while jobs that were to run later are sent, which takes the same steps.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from signal import SIGKILL
from typing import Final

from tests.support.clients import Clients
from tests.support.fake_dependency import HANDLERS, Clinic
from tests.support.system_under_test import Product

STEPS: Final = ("LEASED", "PUBLISHED", "FINALISED")
JOBS: Final = 300
ENV: Final = {"JOB_HANDLERS": "clinic_handlers,killing_handlers", "COOLDOWN_PERIOD": "1", "RETRY_DELAY_MS": "200"}
KILLING: Final = HANDLERS.with_name("killing_handlers.py")


def test_300_parked_jobs_whose_release_is_killed_at_each_of_its_steps_all_succeed(own_clinic: Clinic, start: Callable[..., Product]):
    folder = own_clinic.folder
    shutil.copy(KILLING, folder / KILLING.name)
    own_clinic.break_down("outage")
    product = start(folder, ENV).ready()
    with Clients(product) as sickbay:
        jobs = sickbay.submit_batch([("outage", {"number": number}) for number in range(JOBS)])
        sickbay.wait_all(jobs, "PARKED")
    product.stop()
    own_clinic.repair("outage")
    for step in STEPS:
        (folder / "kill.at").write_text(step)
        assert start(folder, ENV).wait() == -SIGKILL, f"it killed itself: {step}"
        assert len(own_clinic.runs(what="done")) < JOBS, "in the middle of the release"
    (folder / "kill.at").unlink()
    with Clients(start(folder, ENV).ready()) as sickbay:
        sickbay.wait_all(jobs, "SUCCEEDED")
        shown = [sickbay.job(job_id) for job_id in jobs]
        told = sickbay.plane.get("/metrics").json()["duplicates"]
    done = Counter(run.job for run in own_clinic.runs(what="done"))
    assert done.keys() == set(jobs)
    twice = {job_id for job_id, count in Counter((run.pid, run.job) for run in own_clinic.runs(what="done")).items() if count > 1}
    assert not twice, "no process ran a job twice: it drops the second copy"
    assert max(done.values()) <= 1 + len(STEPS)
    assert told == sum(job["duplicates"] for job in shown)


def test_jobs_that_are_due_while_who_sends_them_is_killed_at_each_step_all_succeed(own_clinic: Clinic, start: Callable[..., Product]):
    """They are due ten seconds later, when the process runs that kills itself first, or before."""
    folder = own_clinic.folder
    shutil.copy(KILLING, folder / KILLING.name)
    product = start(folder, ENV).ready()
    with Clients(product) as sickbay:
        body = {"jobs": [{"jobType": "later", "payload": {"number": number}, "delaySeconds": 10} for number in range(JOBS)]}
        jobs = [result["jobId"] for result in sickbay.api.post("/jobs:batch", json=body).json()["results"]]
        sickbay.wait_until_known(*jobs)
        assert sickbay.job(jobs[0])["state"] == "SCHEDULED"
    product.stop()
    for step in STEPS:
        (folder / "kill.at").write_text(step)
        assert start(folder, ENV).wait() == -SIGKILL, f"it killed itself: {step}"
    (folder / "kill.at").unlink()
    with Clients(start(folder, ENV).ready()) as sickbay:
        sickbay.wait_all(jobs, "SUCCEEDED")
        assert {sickbay.job(job_id)["generation"] for job_id in jobs} == {1}
    done = Counter(run.job for run in own_clinic.runs(what="done"))
    assert done.keys() == set(jobs)
    twice = {job_id for job_id, count in Counter((run.pid, run.job) for run in own_clinic.runs(what="done")).items() if count > 1}
    assert not twice, "no process ran a job twice: it drops the second copy"
    assert max(done.values()) <= 1 + len(STEPS)

"""kill -9 in the middle of everything: nothing is lost, every job comes to one end, and what ran twice can be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import Thread

import httpx

from tests.support.clients import SETTLED, Clients
from tests.support.fake_dependency import Clinic
from tests.support.system_under_test import Product
from tests.support.waiting import until

KINDS = {
    "ok": ({"do": "ok"}, "SUCCEEDED"),
    "retry": ({"do": ["BAD_REQUEST", "ok"]}, "SUCCEEDED"),
    "bad": ({"do": "VALIDATION_ERROR"}, "QUARANTINED"),
    "outage": ({}, "SUCCEEDED"),
    "down": ({}, "PARKED"),
}
ENV = {"JOB_HANDLERS": "clinic_handlers", "COOLDOWN_PERIOD": "1", "RETRY_DELAY_MS": "200", "CONCURRENCY": "10"}
IN_BATCHES = 400
ONE_BY_ONE = 100


def mixed(count: int) -> list[tuple[str, dict[str, object]]]:
    """So many jobs, all kinds in turn. `outage` works again after the kill, `down` never does."""
    kinds = ("ok", "retry", "ok", "bad", "ok", "outage", "ok", "ok", "retry", "down")
    return [(kind, dict(KINDS[kind][0], number=number)) for number, kind in enumerate(kinds * (count // len(kinds)))]


def test_nothing_is_lost_by_a_kill_in_the_middle_of_500_jobs(own_clinic: Clinic, start: Callable[..., Product]):
    own_clinic.break_down("down")
    own_clinic.break_down("outage")
    accepted: dict[str, str] = {}
    first = start(own_clinic.folder, ENV).ready()
    with Clients(first) as sickbay:
        for batch in (mixed(100) for _ in range(IN_BATCHES // 100)):
            accepted.update(zip(sickbay.submit_batch(batch), (kind for kind, _ in batch), strict=True))
        submitting = Thread(target=submit_until_it_dies, args=(sickbay, accepted))
        submitting.start()
        sickbay.wait(list(accepted)[IN_BATCHES // 4], *SETTLED)
        first.kill()
        submitting.join()
    own_clinic.repair("outage")
    before = own_clinic.runs()
    assert 0 < len(own_clinic.runs(what="done")) < len(accepted) * 0.9, "it was killed in the middle"

    with Clients(start(own_clinic.folder, ENV).ready()) as sickbay:
        sickbay.wait_until_known(*accepted)
        for job_id, kind in accepted.items():
            sickbay.wait(job_id, KINDS[kind][1])
        jobs = {job["jobId"]: job for job in sickbay.api.get("/jobs", params={"pageSize": 1000}).json()["jobs"]}
        reported = sickbay.plane.get("/metrics").json()["duplicates"]
    assert accepted.keys() <= jobs.keys()
    assert len(jobs.keys() - accepted.keys()) <= 1, "at most the one whose answer the kill cut off"

    done = Counter((run.job, run.generation) for run in own_clinic.runs(what="done"))
    assert {job_id for job_id, job in jobs.items() if job["state"] == "SUCCEEDED"} <= {job for job, _ in done}
    assert max(done.values()) <= 2, "what was in hand at the kill has one more copy, never more"
    begun = {run.job for run in before}
    assert {job for (job, _), count in done.items() if count > 1} <= begun

    told = {job_id for job_id, job in jobs.items() if job["duplicates"]}
    assert reported == sum(job["duplicates"] for job in jobs.values())
    unbegun = told - begun - {job_id for job_id, kind in accepted.items() if kind in {"down", "outage"}}  # these were parked in hand
    moved = [jobs[job_id] for job_id in unbegun]
    assert all(job["duplicates"] == 1 for job in moved), "the kill cut the move of a flood: one of both copies was dropped, without a run"
    by_process = Counter((run.pid, run.job, run.generation) for run in own_clinic.runs(what="done"))
    assert {job for (_, job, _), count in by_process.items() if count > 1} <= told, "two successes that both could be told were told"


def submit_until_it_dies(sickbay: Clients, accepted: dict[str, str]) -> None:
    """Hand in one job after the other; a job counts once its id was answered."""
    for kind, payload in mixed(ONE_BY_ONE):
        try:
            accepted[sickbay.submit(kind, payload)] = kind
        except httpx.TransportError:
            return


def test_what_a_killed_worker_held_runs_at_once_and_after_a_second_kill_one_at_a_time(own_clinic: Clinic, start: Callable[..., Product]):
    """Most of it is innocent; but a job that was there twice may have killed both, so then it runs alone beside a fresh one."""
    product = start(own_clinic.folder, ENV).ready()
    with Clients(product) as sickbay:
        wish = own_clinic.make_gate("gate")
        held = sickbay.submit_all("held", *({"do": wish, "number": number} for number in range(5)))
        sickbay.wait_all(held, "RUNNING")
        product.kill()
    product = start(own_clinic.folder, ENV).ready()
    until(lambda: own_clinic.count("held") == dict.fromkeys(held, 2))
    product.kill()
    with Clients(start(own_clinic.folder, ENV).ready()) as sickbay:
        sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
        until(lambda: len(own_clinic.runs(job_type="held")) == 2 * len(held) + 1)
        sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
        assert len(own_clinic.runs(job_type="held")) == 2 * len(held) + 1
        own_clinic.open_gate("gate")
        sickbay.wait_all(held, "SUCCEEDED")
    assert own_clinic.count("held") == dict.fromkeys(held, 3)

"""Schedules in the code of handlers: they are there when a worker is, change with the code, and are never deleted by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clients import Clients
from tests.support.process import Process
from tests.support.system_under_test import Product
from tests.support.waiting import until

ENV = {"JOB_HANDLERS": "", "LOG_FORMAT": "json"}
OPTIONS = ["--handlers", "mine", "--reload"]
MINE = """
from sickbay import Job, handler

@handler("tick", schedule={schedule})
def tick(job: Job) -> dict:
    return {{"of": job.tick_at, "schedule": job.schedule_id}}
"""
OTHER = """
from sickbay import handler

@handler("other")
def other(job) -> None: ...
"""
EVERY_SECOND, EVERY_SECOND_ONE = '"* * * * * *"', '"*/2 * * * * *"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, EVERY_SECOND)
    return tmp_path


def write(folder: Path, schedule: str) -> None:
    (folder / "mine.py").write_text(MINE.format(schedule=schedule))


def runs(sickbay: Clients, **query: Any) -> list[dict[str, Any]]:
    """The runs of the schedule, newest first."""
    found = sickbay.plane.get("/schedules/tick/runs", params={"pageSize": 1000, **query})
    return found.json()["runs"] if found.status_code == httpx.codes.OK else []


def schedule(sickbay: Clients) -> dict[str, Any]:
    found = sickbay.plane.get("/schedules/tick")
    assert found.status_code == httpx.codes.OK, found.text
    answer: dict[str, Any] = found.json()
    return answer


def test_it_runs_changes_with_the_code_and_is_orphaned_without_it(folder: Path, start: Callable[..., Product]):
    product = start(folder, ENV, OPTIONS).ready()
    with Clients(product) as sickbay:
        until(lambda: len(runs(sickbay, outcome="SUBMITTED")) >= 2)
        assert product.logged("created the schedule 'tick', which is in the code of mine.tick")
        newest = runs(sickbay)[0]
        sickbay.wait(newest["jobId"], "SUCCEEDED")
        job = sickbay.job(newest["jobId"])
        assert (job["scheduleId"], job["tickAt"], job["result"]["schedule"]) == ("tick", newest["tickAt"], "tick")
        assert schedule(sickbay)["origin"] == "CODE"

        refused = sickbay.plane.delete("/schedules/tick")
        assert refused.json()["reason"] == "SCHEDULE_IN_CODE", refused.text
        assert sickbay.plane.post("/schedules/tick/pause", json={"note": "too much"}).status_code == httpx.codes.OK
        write(folder, EVERY_SECOND_ONE)
        until(lambda: schedule(sickbay)["spec"]["cron"] == "*/2 * * * * *")
        assert (schedule(sickbay)["state"], schedule(sickbay)["pauseNote"]) == ("PAUSED", "too much")
        assert sickbay.plane.post("/schedules/tick/resume").status_code == httpx.codes.OK

        (folder / "mine.py").write_text(OTHER)
        until(lambda: schedule(sickbay).get("orphaned"))
        assert product.logged("the schedule 'tick' is orphaned: no live worker has it in its code any more (it was in mine.tick)")
        waiting = until(lambda: [one for one in runs(sickbay) if one.get("jobState") == "QUARANTINED"])[0]["jobId"]
        assert sickbay.case(waiting)["reason"] == "UNKNOWN_TYPE"

        write(folder, EVERY_SECOND_ONE)
        until(lambda: not schedule(sickbay).get("orphaned"))
        sickbay.wait(waiting, "SUCCEEDED")

        (folder / "mine.py").write_text(OTHER)
        until(lambda: sickbay.plane.delete("/schedules/tick").status_code == httpx.codes.OK)
        assert sickbay.plane.get("/schedules/tick").status_code == httpx.codes.NOT_FOUND
        assert sickbay.job(waiting)["state"] == "SUCCEEDED"


def test_kills_in_its_middle_leave_one_job_for_each_time(folder: Path, start: Callable[..., Product]):
    """It is there again without its code being announced anew, and what was due meanwhile is made up for."""
    seen = 0
    for _ in range(3):
        product = start(folder, ENV, OPTIONS).ready()
        with Clients(product) as sickbay:
            seen = until(lambda before=seen, sickbay=sickbay: len(ended) if len(ended := of_ended(sickbay)) > before else 0)
        product.kill()
    with Clients(start(folder, ENV, OPTIONS).ready()) as sickbay:
        until(lambda: len(of_ended(sickbay)) > seen + 1)
        found = runs(sickbay)
        jobs = sickbay.jobs_of("tick", pageSize=1000)["jobs"]
        assert len(sickbay.plane.get("/schedules").json()["schedules"]) == 1
    assert set(Counter(one["tickAt"] for one in found).values()) == {1}
    assert {one["jobId"] for one in found if one["outcome"] == "SUBMITTED"} <= {one["jobId"] for one in jobs}
    assert set(Counter(one["tickAt"] for one in jobs).values()) == {1}


def of_ended(sickbay: Clients) -> list[dict[str, Any]]:
    return [one for one in runs(sickbay) if one.get("jobState") == "SUCCEEDED"]


def test_a_mistake_in_it_stops_the_start_with_file_and_line(tmp_path: Path):
    write(tmp_path, '"0 25 * * *"')
    ran = Process(["sickbay_cli", "up", "--handlers", "mine", "--ephemeral"], tmp_path, ENV)
    assert ran.wait() == 1
    assert "JOB_HANDLERS: mine.py:4: the schedule 'tick' of the handler of 'tick': " in ran.err.text

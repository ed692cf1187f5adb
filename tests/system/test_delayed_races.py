"""Changes of delayed jobs at the moment when they are due: an answer holds, and each job runs once, in both forms of the product."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, NamedTuple

import httpx
import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.waiting import until
from tests.system.conftest import QUICK, Start
from tests.system.test_delayed_jobs import ms

JOBS: Final = 200
AT_ONCE: Final = 10
"""So many are due at one moment."""
AHEAD_MS: Final = 1_000
"""Until the first are due: time for all to be known."""
APART_MS: Final = 250
AROUND_MS: Final = 5
"""Changes of jobs that are due at one moment are so far apart, half of them before it."""
MOVED_MS: Final = 1_000
OK: Final = 200
TOO_LATE: Final = {404, 409}


class Doors(NamedTuple):
    """The running product, and its control planes."""

    sickbay: Clients
    planes: list[httpx.Client]


class Told(NamedTuple):
    """Which change was made, and what the answer was."""

    change: int
    status: int
    job: dict[str, Any]

    @property
    def is_cancelled(self) -> bool:
        """Whether the job will not run, or not go on."""
        return self.status == OK and self.job["state"] == "CANCELLED"


@contextmanager
def embedded(request: pytest.FixtureRequest) -> Iterator[Doors]:
    """`sickbay up`."""
    start: Start = request.getfixturevalue("start")
    clinic: Clinic = request.getfixturevalue("own_clinic")
    with Clients(start(clinic.folder, QUICK).ready()) as clients:
        yield Doors(clients, [clients.plane])


@contextmanager
def distributed(request: pytest.FixtureRequest) -> Iterator[Doors]:
    """Two control planes, which share what is due, and two workers."""
    fleet: Fleet = request.getfixturevalue("fleet")
    fleet.launch("controlplane")
    fleet.launch_all(workers=2).ready()
    with ExitStack() as stack:
        both = []
        for _ in range(2):
            fleet.services["controlplane"].reverse()
            both.append(stack.enter_context(Clients(fleet)))
        yield Doors(both[0], [clients.plane for clients in both])


@pytest.fixture(params=[embedded, pytest.param(distributed, marks=pytest.mark.servers)], ids=["embedded", "fleet"])
def doors(request: pytest.FixtureRequest) -> Iterator[Doors]:
    """The product in one of its forms."""
    with request.param(request) as found:
        yield found


Change = Callable[[str], httpx.Response]


def race(doors: Doors, *changes: Change) -> Mapping[str, Told]:
    """Change each job, in turn, and return the answers in the order in which the jobs are due.

    Half of the changes come at the moment when their jobs are due. The others go the opposite way, from the job that is due last: so there
    are answers of both kinds on a machine of any speed.
    """
    begin = time.time_ns() // 1_000_000 + AHEAD_MS
    due = [begin + place // AT_ONCE * APART_MS for place in range(JOBS)]
    line = {"jobType": "later", "payload": {}}
    lines = [line | {"runAt": datetime.fromtimestamp(at / 1000, UTC).isoformat()} for at in due]
    answer = doors.sickbay.api.post("/jobs:batch", json={"jobs": lines})
    ids = [str(result["jobId"]) for result in answer.json()["results"]]
    until(lambda: len(doors.sickbay.jobs_of("later", pageSize=JOBS)["jobs"]) == JOBS)

    def call(place: int) -> Told:
        if place in forward:
            moment = due[place] + (place % AT_ONCE - AT_ONCE // 2) * AROUND_MS
            time.sleep(max(0.0, moment / 1000 - time.time()))
        told = changes[place // 2 % len(changes)](ids[place])
        assert told.status_code in {OK} | TOO_LATE, told.text
        return Told(place // 2 % len(changes), told.status_code, told.json())

    forward = range(0, JOBS, 2)
    order = list(chain.from_iterable(zip(forward, reversed(range(1, JOBS, 2)), strict=True)))
    with ThreadPoolExecutor(10) as pool:
        answers = dict(zip(order, pool.map(call, order), strict=True))
    return {job_id: answers[place] for place, job_id in enumerate(ids)}


def at(door: httpx.Client, kind: str, action: str) -> Change:
    """`POST /.../{id}/...`."""
    return lambda job_id: door.post(f"/{kind}/{job_id}/{action}", json={})


def move(plane: httpx.Client) -> Change:
    """It is due later."""
    return lambda job_id: plane.patch(f"/scheduled-jobs/{job_id}", json={"delaySeconds": MOVED_MS / 1000})


def test_who_is_told_that_a_job_is_cancelled_never_sees_it_run(doors: Doors, own_clinic: Clinic):
    """Through either service. A run that had begun may be cancelled, too, but then the job's history says so."""
    sickbay = doors.sickbay
    changes = [(at(sickbay.api, "jobs", "cancel"), at(plane, "scheduled-jobs", "cancel")) for plane in doors.planes]
    answers = race(doors, *chain.from_iterable(changes))
    sickbay.wait_all(list(answers), "SUCCEEDED", "CANCELLED")
    jobs = {job_id: sickbay.job(job_id) for job_id in answers}
    states = {job_id: [step["state"] for step in job["history"]] for job_id, job in jobs.items()}
    begun, done = (Counter(run.job for run in own_clinic.runs(what=what)) for what in ("begin", "done"))

    told = {job_id for job_id, answer in answers.items() if answer.is_cancelled}
    by_planes = {job_id for job_id in told if answers[job_id].change % 2}
    assert {jobs[job_id]["state"] for job_id in told} == {"CANCELLED"}
    assert {job_id: states[job_id] for job_id in by_planes if states[job_id] != ["SCHEDULED", "CANCELLED"]} == {}
    assert begun.keys() & told <= {job_id for job_id in told if "RUNNING" in states[job_id]}
    assert done.keys() & told == set()
    assert by_planes, "some were cancelled before they were due"

    asked = {job_id for job_id, answer in answers.items() if answer.status == OK} - told
    others = answers.keys() - told - asked
    assert others, "for some it was too late"
    assert {job_id: states[job_id] for job_id in others if jobs[job_id]["state"] != "SUCCEEDED"} == {}
    assert {job_id: begun[job_id] for job_id in others} == {job_id: done[job_id] for job_id in others} == dict.fromkeys(others, 1)
    assert max(begun.values()) == 1


def test_a_job_that_is_run_by_hand_or_moved_when_it_is_due_runs_once(doors: Doors, own_clinic: Clinic):
    """Who was told its new time does not see it run before that."""
    answers = race(doors, *chain.from_iterable((at(plane, "scheduled-jobs", "run"), move(plane)) for plane in doors.planes))
    doors.sickbay.wait_all(list(answers), "SUCCEEDED")
    assert own_clinic.count("later") == Counter(answers.keys())
    assert Counter(run.job for run in own_clinic.runs(what="done")) == Counter(answers.keys())
    began = {run.job: (run.at, run.generation) for run in own_clinic.runs()}
    assert {generation for _, generation in began.values()} == {1}
    waiting = {job_id: ms(told.job["runAt"]) for job_id, told in answers.items() if told.status == OK and told.job["state"] == "SCHEDULED"}
    assert waiting, "some were moved before they were due"
    assert {job_id for job_id, at in waiting.items() if began[job_id][0] < at} == set()
    assert {told.status for told in answers.values()} > {OK}, "for some it was too late"

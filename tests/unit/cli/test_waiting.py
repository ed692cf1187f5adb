"""`watch` and `submit --wait` end: with the job, when it needs a person, or when the time is over; each has its own exit code."""

from __future__ import annotations

import json
from threading import Event
from typing import Any

import pytest

from sickbay.jobs.v1 import job_service_pb2 as pb
from tests.support.cli_services import JOB_ID, Fleet, job

BOTH = [("watch", JOB_ID), ("submit", "email", "--wait")]


@pytest.fixture
def fleet():
    with Fleet() as started:
        started.answers["SubmitJob"] = pb.SubmitJobResponse(job=job())
        accepted = [pb.BatchSubmitResult(job_id=f"j{number}") for number in range(3)]
        started.answers["BatchSubmitJobs"] = pb.BatchSubmitJobsResponse(results=accepted)
        yield started


def is_in(*states: str) -> list[Any]:
    return [pb.WatchJobResponse(job=job(state=state)) for state in states]


def hangs(fleet: Fleet, *states: str) -> Event:
    """The job goes through these states, and then nothing more is told."""
    release = Event()

    def stream(_: object) -> Any:
        yield from is_in(*states)
        release.wait(60)

    fleet.answers["WatchJob"] = stream
    return release


@pytest.mark.parametrize("args", BOTH, ids=" ".join)
@pytest.mark.parametrize(
    ("states", "code", "words"),
    [
        (["QUEUED", "SUCCEEDED"], 0, ""),
        (["PARKED", "RUNNING", "SUCCEEDED"], 0, ""),
        (["DISCARDED"], 5, "ended DISCARDED"),
        (["CANCELLED"], 5, "ended CANCELLED"),
        (["RUNNING", "QUARANTINED"], 6, f"is QUARANTINED and needs a person; see `sickbay quarantine show {JOB_ID}`"),
    ],
)
def test_each_end_has_its_exit_code(fleet: Fleet, args: tuple[str, ...], states: list[str], code: int, words: str):
    """A script that waits never hangs on a job that does not go on by itself."""
    fleet.answers["WatchJob"] = is_in(*states)
    for more in ((), ("--for", "1h")):
        result = fleet.run(*args, *more)
        assert result.exit_code == code
        assert result.stderr == (f"Error: job {JOB_ID} {words}\n" if words else "")


@pytest.mark.parametrize("args", BOTH, ids=" ".join)
@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "RETRYING", "PARKED"])
def test_the_time_is_over(fleet: Fleet, args: tuple[str, ...], state: str):
    """As `timeout` says it: 124."""
    release = hangs(fleet, state)
    result = fleet.run(*args, "--for", "300ms")
    release.set()
    assert (result.exit_code, result.stderr) == (124, f"Error: timed out after 300 ms (--for): job {JOB_ID} has not ended\n")
    assert state in result.stdout


def test_who_wants_to_waits_on_though_a_person_is_needed(fleet: Fleet):
    """It may be resubmitted meanwhile; and the time still counts."""
    fleet.answers["WatchJob"] = is_in("QUARANTINED", "QUEUED", "SUCCEEDED")
    result = fleet.run("watch", JOB_ID, "--even-if-quarantined")
    assert result.exit_code == 0
    assert "still waiting" in result.stderr
    release = hangs(fleet, "QUARANTINED")
    result = fleet.run("watch", JOB_ID, "--even-if-quarantined", "--for", "300ms")
    release.set()
    assert result.exit_code == 124


@pytest.mark.parametrize(
    ("ends", "code", "words"),
    [
        ({}, 0, ""),
        ({"j1": "CANCELLED"}, 5, "1 of 3 jobs did not succeed"),
        ({"j0": "CANCELLED", "j2": "QUARANTINED"}, 6, "1 of 3 jobs are QUARANTINED and need a person; see `sickbay quarantine list`"),
        ({"j0": "RUNNING", "j1": "QUARANTINED"}, 124, "timed out after 300 ms (--for): 1 of 3 jobs have not ended"),
    ],
)
def test_of_several_the_worst_is_told(fleet: Fleet, ends: dict[str, str], code: int, words: str):
    """The time is that of all together; those that it does not suffice for are still looked at."""
    release = Event()

    def stream(request: Any) -> Any:
        state = ends.get(request.job_id, "SUCCEEDED")
        yield pb.WatchJobResponse(job=job(request.job_id, state))
        if state == "RUNNING":
            release.wait(60)

    fleet.answers["WatchJob"] = stream
    result = fleet.run("submit", "email", "--count", "3", "--wait", "--for", "300ms")
    release.set()
    assert result.exit_code == code
    assert words in result.stderr
    assert "j2" in [request.job_id for name, request in fleet.calls if name == "WatchJob"]


def test_scripts_see_the_states_as_json(fleet: Fleet):
    fleet.answers["WatchJob"] = is_in("RUNNING", "QUARANTINED")
    result = fleet.run("watch", JOB_ID, "--json")
    assert [json.loads(line)["state"] for line in result.stdout.splitlines()] == ["RUNNING", "QUARANTINED"]


@pytest.mark.parametrize(
    "args",
    [
        ("submit", "email", "--for", "60s"),
        ("submit", "email", "--even-if-quarantined"),
        ("watch", JOB_ID, "--for", "60"),
        ("watch", JOB_ID, "--for", ""),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_a_usage_error(fleet: Fleet, args: tuple[str, ...]):
    assert fleet.run(*args).exit_code == 2
    assert fleet.calls == []

"""explain, and what submit says about an open circuit, against fake services."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from sickbay.breakers.v1 import breaker_service_pb2 as breakers_pb
from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.explanation_pb2 import BreakerExplanation
from sickbay.contract.faults import Fault
from sickbay.jobs.v1 import job_service_pb2 as jobs_pb
from sickbay.jobs.v1.explanation_pb2 import JobExplanation
from sickbay.jobs.v1.job_pb2 import Job
from tests.support.cli_services import JOB_ID, NOT_FOUND, Fleet, job

NOW = {"seconds": 1_700_000_000}
OPEN = Breaker(job_type="email", tenant="default", state=Breaker.STATE_OPEN, open_time=NOW, probe_time=NOW)
NOTICE = jobs_pb.BreakerNotice(state=Breaker.STATE_OPEN, probe_time=NOW, note="the job will be parked")
REJECTED = Fault(grpc.StatusCode.UNAVAILABLE, "the circuit of email is open", "CIRCUIT_OPEN", 42.0)


@pytest.fixture
def fleet():
    with Fleet() as started:
        yield started


@pytest.fixture
def explained(fleet: Fleet) -> JobExplanation:
    found = JobExplanation(
        job_id=JOB_ID,
        job_type="email",
        tenant="default",
        state=Job.STATE_PARKED,
        reason=JobExplanation.REASON_CIRCUIT_OPEN,
        since_time=NOW,
        next_step=JobExplanation.NEXT_STEP_PROBE,
        next_time=NOW,
        breaker=OPEN,
        sentences=["The job was parked.", "The circuit is open."],
        commands=["sickbay explain --type email"],
    )
    fleet.answers["ExplainJob"] = jobs_pb.ExplainJobResponse(explanation=found)
    return found


def rows(output: str) -> dict[str, str]:
    """The first line of each row by its name."""
    return {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in output.splitlines() if not line.startswith(" ")}


def test_a_job_in_words(fleet: Fleet, explained: JobExplanation):
    result = fleet.run("explain", JOB_ID)
    assert result.exit_code == 0
    assert rows(result.stdout) | {"since": "", "at": ""} == {
        "job": JOB_ID,
        "type": "email",
        "state": "PARKED",
        "reason": "CIRCUIT_OPEN",
        "since": "",
        "next": "PROBE",
        "at": "",
        "why": "The job was parked.",
        "commands": "sickbay explain --type email",
    }
    assert "\n          The circuit is open.\n" in result.stdout
    assert fleet.requests == [jobs_pb.ExplainJobRequest(job_id=JOB_ID)]


def test_a_job_for_programs(fleet: Fleet, explained: JobExplanation):
    assert fleet.json("explain", JOB_ID) == {
        "jobId": JOB_ID,
        "jobType": "email",
        "tenant": "default",
        "state": "PARKED",
        "reason": "CIRCUIT_OPEN",
        "since": "2023-11-14T22:13:20.000Z",
        "nextStep": "PROBE",
        "nextAt": "2023-11-14T22:13:20.000Z",
        "breaker": {
            "jobType": "email",
            "state": "OPEN",
            "openedAt": 1_700_000_000_000,
            "probeAt": 1_700_000_000_000,
            "cooldownElapsed": False,
        },
        "sentences": ["The job was parked.", "The circuit is open."],
        "commands": ["sickbay explain --type email"],
    }


def test_a_breaker(fleet: Fleet):
    found = BreakerExplanation(
        breaker=OPEN,
        reason=BreakerExplanation.REASON_COOLDOWN,
        next_step=BreakerExplanation.NEXT_STEP_PROBE,
        parked_jobs=1_234,
        sentences=["It is open."],
    )
    fleet.answers["ExplainBreaker"] = breakers_pb.ExplainBreakerResponse(explanation=found)
    result = fleet.run("explain", "--type", "email", "--tenant", "acme")
    assert rows(result.stdout) == {
        "type": "email",
        "state": "OPEN",
        "parked": "1,234",
        "reason": "COOLDOWN",
        "next": "PROBE",
        "why": "It is open.",
    }
    view = fleet.json("explain", "--type", "email")
    assert (view["reason"], view["nextStep"], view["parkedJobs"], view["breaker"]["state"]) == ("COOLDOWN", "PROBE", 1_234, "OPEN")
    first, second = fleet.requests
    assert first == breakers_pb.ExplainBreakerRequest(job_type="email", tenant="acme")
    assert second == breakers_pb.ExplainBreakerRequest(job_type="email")


@pytest.mark.parametrize("args", [(), (JOB_ID, "--type", "email"), (JOB_ID, "--tenant", "acme")])
def test_one_thing_is_explained(fleet: Fleet, args: tuple[str, ...]):
    assert fleet.run("explain", *args).exit_code == 2
    assert fleet.calls == []


def test_an_unknown_job_or_type(fleet: Fleet):
    fleet.answers |= {"ExplainJob": NOT_FOUND, "ExplainBreaker": NOT_FOUND}
    assert fleet.run("explain", JOB_ID).exit_code == 3
    assert fleet.run("explain", "--type", "email").exit_code == 3


def accepted(request: Any) -> jobs_pb.SubmitJobResponse:
    return jobs_pb.SubmitJobResponse(job=job(), breaker=NOTICE)


def test_submit_says_that_the_circuit_is_open(fleet: Fleet):
    fleet.answers["SubmitJob"] = accepted
    result = fleet.run("submit", "email")
    assert (result.exit_code, result.stdout) == (0, f"accepted {JOB_ID}\n")
    assert result.stderr == "email: the job will be parked\n"
    assert fleet.json("submit", "email")["breaker"] == {"state": "OPEN", "probeAt": 1_700_000_000_000, "note": "the job will be parked"}


def test_submit_may_be_rejected(fleet: Fleet):
    fleet.answers["SubmitJob"] = REJECTED
    result = fleet.run("submit", "email", "--reject-if-open")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == "Error: the circuit of email is open (try again in 42 s)\n"
    assert fleet.requests[0].on_open == jobs_pb.ON_OPEN_REJECT


def test_each_line_of_a_file_may_say_it(fleet: Fleet):
    fleet.answers["BatchSubmitJobs"] = lambda request: jobs_pb.BatchSubmitJobsResponse(
        results=[jobs_pb.BatchSubmitResult(job_id="j", breaker=NOTICE) for _ in request.requests]
    )
    lines = '{"jobType": "a", "payload": {}}\n{"jobType": "b", "payload": {}, "onOpen": "%s"}\n'
    view = fleet.json("submit", "--from", "-", "--reject-if-open", stdin=lines % "PARK")
    assert [request.on_open for request in fleet.requests[0].requests] == [jobs_pb.ON_OPEN_REJECT, jobs_pb.ON_OPEN_PARK]
    assert view["results"][0]["breaker"]["state"] == "OPEN"
    told = fleet.run("submit", "a", "--count", "3")
    assert (told.stdout, told.stderr) == ("accepted 3 jobs\n", "3 jobs: the job will be parked\n")
    result = fleet.run("submit", "--from", "-", stdin=lines % "WAIT")
    assert result.exit_code == 1
    assert "use one of PARK, REJECT" in result.stderr

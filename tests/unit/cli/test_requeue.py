"""`sickbay requeue` against a fake control plane."""

from __future__ import annotations

import json

import pytest

from sickbay.jobs.v1 import quarantine_service_pb2 as pb
from tests.support.cli_services import Fleet, job

OUTCOME = pb.RequeuedJob


def judged(job_id: str, outcome: int, message: str = "") -> pb.RequeuedJob:
    return pb.RequeuedJob(job=job(job_id), outcome=outcome, message=message)  # type: ignore[arg-type]  # a number of the enum


@pytest.fixture
def fleet():
    """Three jobs can be brought back, one may wait; what is named comes back."""

    def answer(request: pb.RequeueJobsRequest) -> pb.RequeueJobsResponse:
        if not request.validate_only:
            return pb.RequeueJobsResponse(jobs=[judged(one, OUTCOME.OUTCOME_REQUEUED) for one in request.job_ids])
        if not request.page_token:
            first = [judged(one, OUTCOME.OUTCOME_REQUEUEABLE) for one in "ab"]
            return pb.RequeueJobsResponse(jobs=first, next_page_token="more")
        rest = [judged("c", OUTCOME.OUTCOME_REQUEUEABLE), judged("d", OUTCOME.OUTCOME_MAY_WAIT, "jobs.main holds 7 messages")]
        return pb.RequeueJobsResponse(jobs=rest)

    with Fleet() as started:
        started.answers["RequeueJobs"] = answer
        yield started


def test_a_dry_run_asks_page_after_page_and_changes_nothing(fleet: Fleet):
    result = fleet.run("requeue", "--dry-run", "--type", "email", "--min-age", "10m")
    assert (result.exit_code, result.stdout) == (0, "would requeue 3 jobs\nleft 1 job alone\n")
    assert "d: MAY_WAIT: jobs.main holds 7 messages" in result.stderr
    assert all(request.validate_only and request.job_type == "email" and request.min_age.ToSeconds() == 600 for request in fleet.requests)


def test_what_was_judged_is_brought_back_by_name(fleet: Fleet):
    """Though queues then hold messages: the first ones that came back."""
    result = fleet.run("requeue", "--all", "--yes", "--actor", "ann")
    assert (result.exit_code, result.stdout) == (0, "requeued 3 jobs\nleft 1 job alone\n")
    last = fleet.requests[-1]
    assert (list(last.job_ids), last.even_if_waiting, last.validate_only, last.actor) == (["a", "b", "c"], True, False, "ann")


def test_nothing_comes_back_without_a_yes(fleet: Fleet):
    result = fleet.run("requeue", "--all")
    assert result.exit_code == 1
    assert all(request.validate_only for request in fleet.requests)


def test_as_rest_answers(fleet: Fleet):
    view = json.loads(fleet.run("requeue", "--all", "--yes", "--json").stdout)
    assert {one["jobId"]: one["outcome"] for one in view["jobs"]} == {"d": "MAY_WAIT", **dict.fromkeys("abc", "REQUEUED")}


@pytest.mark.parametrize("args", [[], ["JOB", "--all"]])
def test_a_forgotten_choice_does_not_mean_everything(fleet: Fleet, args: list[str]):
    assert fleet.run("requeue", *args).exit_code == 2
    assert fleet.requests == []


def test_nothing_is_lost(fleet: Fleet):
    fleet.answers["RequeueJobs"] = pb.RequeueJobsResponse()
    assert fleet.run("requeue", "--all", "--yes").stdout == "no job matches\n"

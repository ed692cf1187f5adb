"""get, jobs, watch and cancel against a fake Job API."""

from __future__ import annotations

import json

import pytest

from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_pb2 import PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_NORMAL, Job, StateChange
from sickbay_cli.bulk_calls import AT_ONCE
from sickbay_cli.jobs import now
from tests.support.cli_services import BUSY, JOB_ID, NOT_FOUND, REFUSED, Fleet, failed, job


@pytest.fixture
def fleet():
    with Fleet() as started:
        yield started


def change(state: str, code: str = "") -> pb.WatchJobResponse:
    moved = job(state=state)
    return pb.WatchJobResponse(job=moved, change=StateChange(state=moved.state, code=code))


def test_get_shows_errors_and_history(fleet: Fleet):
    history = [StateChange(state=Job.STATE_QUEUED), StateChange(state=Job.STATE_RETRYING, code="API_TIMEOUT", actor="worker-1")]
    found = job(state="RETRYING", errors=[failed("API_TIMEOUT", "no answer")], history=history, attempt=1)
    fleet.answers["GetJob"] = pb.GetJobResponse(job=found)
    shown = fleet.run("get", JOB_ID).stdout
    assert JOB_ID in shown
    assert "API_TIMEOUT: no answer" in shown
    assert "by worker-1" in shown
    assert "tenant" not in shown
    view = fleet.json("get", JOB_ID)
    assert (view["jobId"], view["state"], len(view["history"])) == (JOB_ID, "RETRYING", 2)
    assert fleet.requests[0].job_id == JOB_ID


def test_get_and_watch_show_the_result_or_why_there_is_none(fleet: Fleet):
    """Indented, with every number as it is, and without what could move the cursor."""
    done = job(state="SUCCEEDED", result_json='{"n":9007199254740993,"s":"\x9b2J"}')
    fleet.answers["GetJob"] = pb.GetJobResponse(job=done)
    shown = fleet.run("get", JOB_ID).stdout
    assert '"n": 9007199254740993,\n' in shown
    assert "\x9b" not in shown
    assert fleet.json("get", JOB_ID)["result"] == {"n": 9007199254740993, "s": "\x9b2J"}
    fleet.answers["WatchJob"] = [pb.WatchJobResponse(job=done, change=StateChange(state=done.state))]
    state, result = fleet.run("watch", JOB_ID).stdout.splitlines()
    assert ("SUCCEEDED" in state, result) == (True, 'result  {"n":9007199254740993,"s":"\N{REPLACEMENT CHARACTER}2J"}')
    fleet.answers["GetJob"] = pb.GetJobResponse(job=job(state="SUCCEEDED", result_note="the result is not JSON"))
    assert "(the result is not JSON)" in fleet.run("get", JOB_ID).stdout
    fleet.answers["GetJob"] = pb.GetJobResponse(job=job(state="SUCCEEDED"))
    assert "result" not in fleet.run("get", JOB_ID).stdout


def test_get_and_watch_show_the_progress(fleet: Fleet):
    going = job(state="RUNNING")
    going.progress.fraction, going.progress.message = 0.405, "320 of\x1b 800"
    fleet.answers["GetJob"] = pb.GetJobResponse(job=going)
    (line,) = [line for line in fleet.run("get", JOB_ID).stdout.splitlines() if line.startswith("progress")]
    assert line.split(maxsplit=1)[1] == "40%  320 of\N{REPLACEMENT CHARACTER} 800"
    assert fleet.json("get", JOB_ID)["progress"]["fraction"] == 0.405
    fleet.answers["WatchJob"] = [pb.WatchJobResponse(job=going), change("SUCCEEDED")]
    running, succeeded = fleet.run("watch", JOB_ID).stdout.splitlines()
    assert ("RUNNING  40%  320 of" in running, "%" in succeeded) == (True, False)
    fleet.answers["GetJob"] = pb.GetJobResponse(job=job(state="RUNNING"))
    assert "progress" not in fleet.run("get", JOB_ID).stdout


def test_priorities_are_shown_where_they_differ_and_filter(fleet: Fleet):
    fleet.answers["GetJob"] = pb.GetJobResponse(job=job(priority=PRIORITY_LOW))
    (line,) = [line for line in fleet.run("get", JOB_ID).stdout.splitlines() if line.startswith("priority")]
    assert line.endswith("LOW")
    fleet.answers["ListJobs"] = pb.ListJobsResponse(jobs=[job("a", priority=PRIORITY_NORMAL)])
    assert "PRIORITY" not in fleet.run("jobs").stdout
    fleet.answers["ListJobs"] = pb.ListJobsResponse(jobs=[job("a", priority=PRIORITY_NORMAL), job("b", priority=PRIORITY_HIGH)])
    header, first, second = fleet.run("jobs", "--priority", "High").stdout.splitlines()
    assert ("PRIORITY" in header, "NORMAL" in first, "HIGH" in second) == (True, True, True)
    assert fleet.requests[-1].priority == PRIORITY_HIGH
    assert [one["priority"] for one in fleet.json("jobs")["jobs"]] == ["NORMAL", "HIGH"]
    refused = fleet.run("jobs", "--priority", "urgent")
    assert (refused.exit_code, "'urgent' is not one of" in refused.stderr) == (2, True)


def test_get_shows_when_a_failed_job_runs_again(fleet: Fleet):
    found = job(state="RETRYING", errors=[failed("API_TIMEOUT", "no answer")], attempt=7)
    found.next_attempt_time.FromMilliseconds(now() + 300_500)
    fleet.answers["GetJob"] = pb.GetJobResponse(job=found)
    (line,) = [line for line in fleet.run("get", JOB_ID).stdout.splitlines() if line.startswith("next run")]
    assert "in 5 m" in line or "in 4 m 5" in line
    assert fleet.json("get", JOB_ID)["nextAttemptAt"]


TRACEBACK = 'Traceback (most recent call last):\n  File "my_handlers.py", line 7, in send\n    to = job.payload["emial"]\nKeyError: \x1b[2J'


def test_get_shows_where_a_run_failed(fleet: Fleet):
    """Below its error, line by line, without characters that could move the cursor."""
    error = failed("KEY_ERROR", "'emial'")
    error.traceback = TRACEBACK
    fleet.answers["GetJob"] = pb.GetJobResponse(job=job(state="RETRYING", errors=[error], attempt=1))
    shown = fleet.run("get", JOB_ID).stdout
    lines = [line.strip() for line in shown.splitlines()]
    at = lines.index("Traceback (most recent call last):")
    assert lines[at - 1].endswith("KEY_ERROR: 'emial'")
    assert lines[at + 1 : at + 3] == ['File "my_handlers.py", line 7, in send', 'to = job.payload["emial"]']
    assert "\x1b" not in shown
    assert fleet.json("get", JOB_ID)["errors"][0]["traceback"] == TRACEBACK


def test_watch_shows_where_a_run_failed(fleet: Fleet):
    moved = change("RETRYING", "KEY_ERROR")
    moved.change.traceback = TRACEBACK
    fleet.answers["WatchJob"] = [pb.WatchJobResponse(job=job(state="QUEUED")), moved, change("SUCCEEDED")]
    shown = fleet.run("watch", JOB_ID).stdout
    assert 'File "my_handlers.py", line 7, in send' in shown
    assert "\x1b" not in shown


def test_a_state_of_a_newer_service_is_shown_as_its_number(fleet: Fleet):
    fleet.answers["GetJob"] = pb.GetJobResponse(job=Job(job_id=JOB_ID, state=99))
    assert "99" in fleet.run("get", JOB_ID).stdout


def test_jobs_are_listed_with_the_filters(fleet: Fleet):
    fleet.answers["ListJobs"] = pb.ListJobsResponse(jobs=[job("a", "PARKED"), job("b", "QUARANTINED", errors=[failed("X", "boom")])])
    result = fleet.run("jobs", "--type", "email", "--state", "parked", "--state", "QUARANTINED", "--tenant", "acme")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["JOB", "ID", "TYPE"]
    assert lines[1].startswith("a")
    assert lines[2].endswith("X: boom")
    assert result.stderr == ""
    (request,) = fleet.requests
    assert (request.job_type, request.tenant) == ("email", "acme")
    assert list(request.states) == [Job.STATE_PARKED, Job.STATE_QUARANTINED]


def paged(request: pb.ListJobsRequest) -> pb.ListJobsResponse:
    begin = int(request.page_token or 0)
    end = min(begin + min(request.page_size, 2), 5)
    return pb.ListJobsResponse(jobs=[job(f"job-{number}") for number in range(begin, end)], next_page_token=str(end) if end < 5 else "")


def test_lists_read_page_after_page(fleet: Fleet):
    fleet.answers["ListJobs"] = paged
    view = fleet.json("jobs")
    assert [one["jobId"] for one in view["jobs"]] == [f"job-{number}" for number in range(5)]
    assert "nextPageToken" not in view
    assert [request.page_token for request in fleet.requests] == ["", "2", "4"]


def test_a_list_that_goes_on_says_so_and_how(fleet: Fleet):
    fleet.answers["ListJobs"] = paged
    result = fleet.run("jobs", "--limit", "3", "--json")
    assert len(json.loads(result.stdout)["jobs"]) == 3
    assert json.loads(result.stdout)["nextPageToken"] == "3"
    assert "--limit 30" in result.stderr
    assert "--page-token 3" in result.stderr
    assert len(fleet.json("jobs", "--page-token", "3")["jobs"]) == 2


def test_no_jobs(fleet: Fleet):
    fleet.answers["ListJobs"] = pb.ListJobsResponse()
    result = fleet.run("jobs")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no jobs match\n")
    assert fleet.json("jobs") == {"jobs": []}


def test_watch_follows_to_success(fleet: Fleet):
    fleet.answers["WatchJob"] = [pb.WatchJobResponse(job=job()), change("RETRYING", "API_TIMEOUT"), change("SUCCEEDED")]
    result = fleet.run("watch", JOB_ID)
    assert result.exit_code == 0
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["QUEUED", "RETRYING", "SUCCEEDED"]
    assert "API_TIMEOUT" in result.stdout


def test_watch_prints_one_object_a_line(fleet: Fleet):
    fleet.answers["WatchJob"] = [pb.WatchJobResponse(job=job()), change("SUCCEEDED")]
    first, second = map(json.loads, fleet.run("watch", JOB_ID, "--json").stdout.splitlines())
    assert "change" not in first
    assert second["change"]["state"] == second["state"] == "SUCCEEDED"


@pytest.mark.parametrize("state", ["DISCARDED", "CANCELLED"])
def test_watch_ends_with_5_without_success(fleet: Fleet, state: str):
    fleet.answers["WatchJob"] = [change("QUARANTINED"), change(state)]
    result = fleet.run("watch", JOB_ID, "--even-if-quarantined")
    assert result.exit_code == 5
    assert f"sickbay quarantine show {JOB_ID}" in result.stderr
    assert f"ended {state}" in result.stderr


@pytest.mark.parametrize(("tail", "code"), [([], 4), ([BUSY], 4), ([NOT_FOUND], 3)])
def test_watch_that_breaks_off(fleet: Fleet, tail: list, code: int):
    fleet.answers["WatchJob"] = [pb.WatchJobResponse(job=job()), *tail]
    result = fleet.run("watch", JOB_ID)
    assert result.exit_code == code
    assert "QUEUED" in result.stdout


def test_cancel_one(fleet: Fleet):
    fleet.answers["CancelJob"] = pb.CancelJobResponse(job=job(state="CANCELLED"))
    assert fleet.run("cancel", JOB_ID).stdout == f"cancelled {JOB_ID}\n"
    assert fleet.json("cancel", JOB_ID)["state"] == "CANCELLED"


def test_cancel_one_that_runs(fleet: Fleet):
    fleet.answers["CancelJob"] = REFUSED
    result = fleet.run("cancel", JOB_ID)
    assert result.exit_code == 1
    assert "can no longer be cancelled" in result.stderr


def test_cancel_one_whose_handler_goes_on(fleet: Fleet):
    going_on = job(state="RUNNING")
    going_on.cancel_request_time.FromSeconds(1_700_000_000)
    fleet.answers["CancelJob"] = pb.CancelJobResponse(job=going_on)
    assert fleet.run("cancel", JOB_ID).stdout == f"asked to end, and still running: {JOB_ID}\n"
    assert fleet.json("cancel", JOB_ID)["cancelRequestedAt"] == "2023-11-14T22:13:20.000Z"
    many = fleet.run("cancel", JOB_ID, "b")
    assert many.exit_code == 0
    assert "of them still run, and were asked to end" in many.stderr
    fleet.answers["GetJob"] = pb.GetJobResponse(job=going_on)
    assert "RUNNING (cancel requested)" in fleet.run("get", JOB_ID).stdout


def test_cancel_goes_on_after_a_failure(fleet: Fleet):
    fleet.answers["CancelJob"] = lambda request: REFUSED if request.job_id == "b" else pb.CancelJobResponse(job=job(request.job_id))
    result = fleet.run("cancel", "a", "b", "c", "a", "--json")
    assert result.exit_code == 1
    view = json.loads(result.stdout)
    assert [one["jobId"] for one in view["jobs"]] == ["a", "c"]
    assert [one["jobId"] for one in view["errors"]] == ["b"]
    assert result.stderr.splitlines() == [f"b: {REFUSED.message}", "Error: 1 of 3 failed"]


def test_cancel_of_many_stops_when_the_service_is_gone(fleet: Fleet):
    fleet.answers["CancelJob"] = BUSY
    result = fleet.run("cancel", *map(str, range(AT_ONCE + 5)))
    assert result.exit_code == 4
    assert len(fleet.calls) == AT_ONCE
    assert f"{AT_ONCE} of {AT_ONCE + 5} failed, 5 were not tried" in result.stderr


def test_cancel_of_many_unknown_jobs_ends_as_one_would(fleet: Fleet):
    fleet.answers["CancelJob"] = NOT_FOUND
    assert fleet.run("cancel", "a", "b").exit_code == 3


def test_words_from_outside_cannot_steer_the_terminal(fleet: Fleet):
    fleet.answers["GetJob"] = pb.GetJobResponse(job=job(errors=[failed("X", "\x1b[2Jgone\r\nline")]))
    shown = fleet.run("get", JOB_ID).stdout
    assert "\x1b" not in shown
    assert "[2Jgone  line" in shown

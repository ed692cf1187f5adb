"""submit: one job, copies, and files of jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.error_reason_pb2 import ERROR_REASON_INVALID_JOB_TYPE
from sickbay.jobs.v1.job_pb2 import PRIORITY_HIGH, PRIORITY_LOW
from sickbay_cli import bulk
from tests.support.cli_services import BUSY, JOB_ID, Fleet, job


@pytest.fixture
def fleet():
    with Fleet() as started:
        started.answers["SubmitJob"] = pb.SubmitJobResponse(job=job())
        started.answers["BatchSubmitJobs"] = batch
        yield started


def batch(request: pb.BatchSubmitJobsRequest) -> pb.BatchSubmitJobsResponse:
    return pb.BatchSubmitJobsResponse(results=[judge(one) for one in request.requests])


def judge(request: pb.SubmitJobRequest) -> pb.BatchSubmitResult:
    if request.job_type == "BAD":
        error = pb.BatchSubmitError(code=3, reason=ERROR_REASON_INVALID_JOB_TYPE, message="the job type 'BAD' cannot be one")
        return pb.BatchSubmitResult(error=error)
    return pb.BatchSubmitResult(job_id=f"id-{request.payload_json}", duplicate=bool(request.request_id))


def lines(*jobs: object) -> str:
    return "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in jobs)


def test_one_job(fleet: Fleet):
    result = fleet.run("submit", "email", '{"id": 12345678901234567890}', "--key", "k-1", "--tenant", "acme")
    assert (result.exit_code, result.stdout) == (0, f"accepted {JOB_ID}\n")
    (request,) = fleet.requests
    assert (request.job_type, request.payload_json) == ("email", '{"id": 12345678901234567890}')
    assert (request.request_id, request.tenant) == ("k-1", "acme")


def test_the_priority_is_that_of_the_option_or_of_the_line(fleet: Fleet):
    assert fleet.run("submit", "email", "--priority", "high").exit_code == 0
    fleet.run("submit", "email", "--priority", "HIGH", "--count", "2")
    text = lines({"jobType": "a", "payload": {}}, {"jobType": "a", "payload": {}, "priority": "LOW"})
    fleet.run("submit", "--from", "-", "--priority", "high", stdin=text)
    alone, copies, file = fleet.requests
    sent = [alone.priority, *(one.priority for batch in (copies, file) for one in batch.requests)]
    assert sent == [PRIORITY_HIGH, PRIORITY_HIGH, PRIORITY_HIGH, PRIORITY_HIGH, PRIORITY_LOW]
    refused = fleet.run("submit", "--from", "-", stdin=lines({"jobType": "a", "payload": {}, "priority": "urgent"}))
    assert "line 1: priority: there is no 'urgent'; use one of HIGH, NORMAL, LOW" in refused.stderr


def test_one_job_as_rest_answers(fleet: Fleet):
    fleet.answers["SubmitJob"] = pb.SubmitJobResponse(job=job(), duplicate=True)
    expected = {"status": "accepted", "message": "Job queued for processing", "jobType": "email", "jobId": JOB_ID, "duplicate": True}
    assert fleet.json("submit", "email") == expected
    assert fleet.requests[0].payload_json == "{}"


def test_the_payload_comes_from_a_file_or_stdin_byte_for_byte(fleet: Fleet, tmp_path: Path):
    text = '{"a":  1.0,\n "ä": null}'
    (tmp_path / "p.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    fleet.run("submit", "email", f"@{tmp_path / 'p.json'}")
    fleet.run("submit", "email", "-", stdin=text)
    assert [request.payload_json for request in fleet.requests] == [text, text]


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ("{to: 1}", "quote it for the shell"),
        ("[1]", "a payload must be a JSON object"),
        ("@/nowhere/p.json", "No such file"),
        ("", "not valid JSON"),
    ],
)
def test_a_payload_that_cannot_be_one_is_a_usage_error(fleet: Fleet, payload: str, words: str):
    result = fleet.run("submit", "email", payload)
    assert result.exit_code == 2
    assert words in result.stderr
    assert fleet.calls == []


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("DISCARDED", 5)])
def test_wait_ends_as_the_job_does(fleet: Fleet, state: str, code: int):
    fleet.answers["WatchJob"] = [pb.WatchJobResponse(job=job()), pb.WatchJobResponse(job=job(state=state))]
    result = fleet.run("submit", "email", "--wait")
    assert result.exit_code == code
    assert [line.split()[-1] for line in result.stdout.splitlines()] == [JOB_ID, "QUEUED", state]
    printed = [json.loads(line) for line in fleet.run("submit", "email", "--wait", "--json").stdout.splitlines()]
    assert [one.get("status") or one["state"] for one in printed] == ["accepted", "QUEUED", state]


def test_copies_go_in_batches(fleet: Fleet):
    result = fleet.run("submit", "email", '{"n": 1}', "--count", "250")
    assert (result.exit_code, result.stdout) == (0, "accepted 250 jobs\n")
    assert [len(request.requests) for request in fleet.requests] == [100, 100, 50]


def test_wait_for_copies(fleet: Fleet):
    fleet.answers["WatchJob"] = [pb.WatchJobResponse(job=job(state="CANCELLED"))]
    result = fleet.run("submit", "email", "--count", "3", "--wait")
    assert result.exit_code == 5
    assert "3 of 3 jobs did not succeed" in result.stderr


def test_copies_that_are_refused(fleet: Fleet):
    result = fleet.run("submit", "BAD", "--count", "2")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "the job type 'BAD' cannot be one" in result.stderr


def test_a_file_of_jobs(fleet: Fleet, tmp_path: Path):
    path = tmp_path / "jobs.jsonl"
    path.write_text(
        lines(
            '{"jobType": "email", "payload": {"n":  1}}',
            "",
            {"jobType": "BAD", "payload": {}},
            "{nonsense",
            {"jobType": "sms", "payload": {"n": 2}, "tenant": "acme", "idempotencyKey": "k"},
            {"jobTyp": "sms", "payload": {}},
        )
    )
    result = fleet.run("submit", "--from", str(path))
    assert result.exit_code == 1
    assert result.stdout == "accepted 2 jobs, rejected 3\n"
    numbered = [line.split(":")[0] for line in result.stderr.splitlines()]
    assert numbered == ["line 3", "line 4", "line 6", "Error"]
    assert "did you mean jobType?" in result.stderr
    sent = fleet.requests[0].requests
    assert [request.payload_json for request in sent] == ['{"n":  1}', "{}", '{"n": 2}']
    assert (sent[2].tenant, sent[2].request_id) == ("acme", "k")


def test_a_file_from_stdin_with_results_as_rest_answers(fleet: Fleet):
    given = lines({"jobType": "email", "payload": {}}, {"jobType": "BAD", "payload": {}})
    result = fleet.run("submit", "--from", "-", "--json", stdin=given)
    assert result.exit_code == 1
    view = json.loads(result.stdout)
    assert (view["accepted"], view["refused"]) == (1, 1)
    assert view["results"][0] == {"jobId": "id-{}"}
    assert view["results"][1]["error"]["statusCode"] == 400
    assert view["results"][1]["error"]["reason"] == "INVALID_JOB_TYPE"


def test_a_good_file_ends_with_0(fleet: Fleet):
    assert fleet.json("submit", "--from", "-", stdin=lines(*[{"jobType": "email", "payload": {}}] * 101))["accepted"] == 101
    assert [len(request.requests) for request in fleet.requests] == [100, 1]


def test_batches_stay_below_what_a_service_takes(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bulk, "BATCH_BYTES", 150)
    line = {"jobType": "email", "payload": {"text": "x" * 40}}
    fleet.json("submit", "--from", "-", stdin=lines(line, line, line))
    assert [len(request.requests) for request in fleet.requests] == [1, 1, 1]


def test_a_service_that_goes_half_way_leaves_a_line_to_go_on_with(fleet: Fleet):
    fleet.answers["BatchSubmitJobs"] = lambda request: batch(request) if len(fleet.calls) == 1 else BUSY
    result = fleet.run("submit", "--from", "-", stdin=lines(*[{"jobType": "email", "payload": {}}] * 150))
    assert result.exit_code == 4
    assert "100 jobs accepted, lines 101 to 150 may or may not have been; continue with line 101" in result.stderr


@pytest.mark.parametrize(
    "args",
    [[], ["email", "--key", "k", "--count", "2"], ["email", "--from", "-"], ["--from", "-", "--wait"], ["--from", "/nowhere/jobs.jsonl"]],
)
def test_what_does_not_go_together_is_a_usage_error(fleet: Fleet, args: list[str]):
    assert fleet.run("submit", *args).exit_code == 2
    assert fleet.calls == []

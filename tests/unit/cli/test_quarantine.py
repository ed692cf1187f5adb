"""quarantine list, show, groups, resubmit and discard against a fake control plane."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path
from typing import Any

import grpc
import pytest

from sickbay.contract.faults import Fault
from sickbay.jobs.v1 import quarantine_service_pb2 as pb
from sickbay.jobs.v1.job_pb2 import PRIORITY_HIGH, PRIORITY_LOW, Job
from tests.support.cli_services import BUSY, JOB_ID, NOT_FOUND, REFUSED, Fleet, case, job

STALE = Fault(grpc.StatusCode.ABORTED, "the job has changed; read it again", "ETAG_MISMATCH")


@pytest.fixture
def fleet():
    with Fleet() as started:
        started.answers["ListQuarantinedJobs"] = pb.ListQuarantinedJobsResponse(jobs=[case(one) for one in "abc"], total_size=3)
        started.answers["GetQuarantinedJob"] = pb.GetQuarantinedJobResponse(job=case(payload_json='{"n":12345678901234567890}'))
        started.answers["ResubmitJob"] = lambda request: pb.ResubmitJobResponse(job=job(request.job_id))
        started.answers["DiscardJob"] = lambda request: pb.DiscardJobResponse(job=job(request.job_id, "DISCARDED"))
        yield started


def sent(fleet: Fleet, method: str) -> list[Any]:
    return [request for name, request in fleet.calls if name == method]


def test_list_with_all_filters(fleet: Fleet):
    filters = ["--type", "email", "--tenant", "acme", "--state", "quarantined", "--reason", "RETRIES_EXHAUSTED"]
    result = fleet.run("quarantine", "list", *filters, "--code", "X", "--fingerprint", "f00", "--min-age", "2h")
    assert result.exit_code == 0
    assert "VALIDATION_ERROR: no address" in result.stdout
    assert "RETRIES_EXHAUSTED" in result.stdout
    (request,) = fleet.requests
    assert (request.job_type, request.tenant, request.error_code, request.fingerprint) == ("email", "acme", "X", "f00")
    assert (request.state, request.reason) == (Job.STATE_QUARANTINED, pb.QuarantinedJob.REASON_RETRIES_EXHAUSTED)
    assert request.min_age.ToSeconds() == 7200


def test_priorities_are_filtered_shown_and_changed(fleet: Fleet):
    """In `list` it is a filter; `resubmit` gives it to the jobs that are named."""
    urgent = job("a", priority=PRIORITY_HIGH)
    fleet.answers["ListQuarantinedJobs"] = pb.ListQuarantinedJobsResponse(jobs=[case("b"), pb.QuarantinedJob(job=urgent)], total_size=2)
    listed = fleet.run("quarantine", "list", "--priority", "high").stdout
    assert ["PRIORITY" in listed, listed.count("HIGH")] == [True, 1]
    assert fleet.requests[0].priority == PRIORITY_HIGH
    assert fleet.run("quarantine", "resubmit", "a", "b", "--priority", "LOW").exit_code == 0
    assert [request.priority for request in sent(fleet, "ResubmitJob")] == [PRIORITY_LOW] * 2
    assert fleet.run("quarantine", "resubmit", "--priority", "low").exit_code == 2
    asked = fleet.run("quarantine", "resubmit", "--all", "--priority", "low")
    assert "Resubmit 2 jobs with priority LOW?" in asked.stderr


def test_list_as_rest_answers(fleet: Fleet):
    fleet.answers["ListQuarantinedJobs"] = pb.ListQuarantinedJobsResponse(jobs=[case("a")], total_size=9, next_page_token="t")
    result = fleet.run("quarantine", "list", "--limit", "1", "--json")
    view = json.loads(result.stdout)
    assert (view["count"], view["nextPageToken"], view["jobs"][0]["reason"]) == (9, "t", "RETRIES_EXHAUSTED")
    assert "1 of 9 jobs shown" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"), [([], "no jobs are parked or quarantined"), (["--code", "X"], "no parked or quarantined jobs match")]
)
def test_an_empty_list(fleet: Fleet, args: list[str], words: str):
    fleet.answers["ListQuarantinedJobs"] = pb.ListQuarantinedJobsResponse()
    result = fleet.run("quarantine", "list", *args)
    assert (result.stdout, result.stderr) == ("", f"{words}\n")


def test_show_keeps_big_numbers(fleet: Fleet):
    shown = fleet.run("quarantine", "show", JOB_ID).stdout
    assert "12345678901234567890" in shown
    assert f"etag-{JOB_ID}" in shown
    assert "12345678901234567890" in fleet.run("quarantine", "show", JOB_ID, "--json").stdout


def test_show_what_is_not_there(fleet: Fleet):
    fleet.answers["GetQuarantinedJob"] = NOT_FOUND
    assert fleet.run("quarantine", "show", JOB_ID).exit_code == 3


def test_groups(fleet: Fleet):
    group = pb.FailureGroup(job_type="email", error_code="X", fingerprint="f00", sample_message="no address", count=12_345)
    fleet.answers["ListFailureGroups"] = pb.ListFailureGroupsResponse(groups=[group])
    lines = fleet.run("quarantine", "groups", "--type", "email").stdout.splitlines()
    assert lines[1].split() == ["12,345", "email", "X", "f00", "no", "address"]
    assert fleet.json("quarantine", "groups")["groups"][0]["count"] == 12_345
    assert fleet.requests[0].job_type == "email"


def test_resubmit_one(fleet: Fleet):
    result = fleet.run("quarantine", "resubmit", JOB_ID, "--payload", '{"n": 2}', "--job-type", "sms", "--actor", "ann")
    assert (result.exit_code, result.stdout) == (0, f"resubmitted {JOB_ID}\n")
    (request,) = fleet.requests
    assert (request.payload_json, request.job_type, request.actor, request.etag) == ('{"n": 2}', "sms", "ann", "")
    assert fleet.json("quarantine", "resubmit", JOB_ID)["state"] == "QUEUED"


def test_resubmit_all_sends_the_etags_that_were_seen(fleet: Fleet):
    result = fleet.run("quarantine", "resubmit", "--type", "email", "--all", "--yes")
    assert (result.exit_code, result.stdout) == (0, "resubmitted 3 jobs\n")
    assert sorted((one.job_id, one.etag) for one in sent(fleet, "ResubmitJob")) == [("a", "etag-a"), ("b", "etag-b"), ("c", "etag-c")]


def test_resubmit_all_goes_on_after_a_failure(fleet: Fleet):
    fleet.answers["ResubmitJob"] = lambda request: STALE if request.job_id == "b" else pb.ResubmitJobResponse(job=job(request.job_id))
    result = fleet.run("quarantine", "resubmit", "--all", "--yes", "--json")
    assert result.exit_code == 1
    assert [one["jobId"] for one in json.loads(result.stdout)["jobs"]] == ["a", "c"]
    assert f"b: {STALE.message}" in result.stderr


def test_resubmit_all_of_nothing(fleet: Fleet):
    fleet.answers["ListQuarantinedJobs"] = pb.ListQuarantinedJobsResponse()
    result = fleet.run("quarantine", "resubmit", "--code", "X", "--all")
    assert (result.exit_code, result.stdout) == (0, "no job matches\n")
    assert fleet.json("quarantine", "resubmit", "--code", "X", "--all") == {"jobs": [], "errors": []}


@pytest.mark.parametrize("verb", ["resubmit", "discard"])
@pytest.mark.parametrize("args", [[], ["--type", "email"], [JOB_ID, "--all"], [JOB_ID, "--code", "X"]])
def test_a_forgotten_filter_does_not_mean_everything(fleet: Fleet, verb: str, args: list[str]):
    assert fleet.run("quarantine", verb, *args, "--yes").exit_code == 2
    assert fleet.calls == []


@pytest.mark.parametrize("args", [["a", "b", "--payload", "{}"], ["--all", "--edit"], [JOB_ID, "--edit", "--payload", "{}"]])
def test_a_payload_belongs_to_one_job(fleet: Fleet, args: list[str]):
    assert fleet.run("quarantine", "resubmit", *args).exit_code == 2
    assert fleet.calls == []


@pytest.mark.parametrize("args", [["discard", JOB_ID], ["discard", JOB_ID, "--json"], ["resubmit", "--all"]])
def test_without_a_terminal_nothing_dangerous_happens_unasked(fleet: Fleet, args: list[str]):
    result = fleet.run("quarantine", *args)
    assert result.exit_code == 1
    assert "use --yes" in result.stderr
    assert not sent(fleet, "DiscardJob") + sent(fleet, "ResubmitJob")


def test_discard(fleet: Fleet):
    assert fleet.run("quarantine", "discard", JOB_ID, "--yes", "--actor", "ann").stdout == f"discarded {JOB_ID}\n"
    assert (fleet.requests[0].job_id, fleet.requests[0].actor) == (JOB_ID, "ann")
    assert fleet.run("quarantine", "discard", "--fingerprint", "f00", "--all", "--yes").stdout == "discarded 3 jobs\n"


def at_a_terminal(fleet: Fleet, answer: bytes, *args: str) -> tuple[int, bytes, bytes]:
    controller, terminal = pty.openpty()
    try:
        os.write(controller, answer)
        process = fleet.start(*args, stdin=terminal)
        output, errors = process.communicate(timeout=30)
    finally:
        os.close(controller)
        os.close(terminal)
    return process.returncode, output, errors


@pytest.mark.parametrize(("answer", "code", "count"), [(b"y\n", 0, 1), (b"n\n", 1, 0)])
def test_discard_asks_at_a_terminal(fleet: Fleet, answer: bytes, code: int, count: int):
    returned, _, errors = at_a_terminal(fleet, answer, "quarantine", "discard", JOB_ID)
    assert returned == code
    assert b"Discard 1 job for good?" in errors
    assert len(sent(fleet, "DiscardJob")) == count


def test_json_at_a_terminal_does_not_ask(fleet: Fleet):
    returned, output, errors = at_a_terminal(fleet, b"", "quarantine", "discard", JOB_ID, "--json")
    assert (returned, errors) == (0, b"")
    assert json.loads(output)["state"] == "DISCARDED"


def editor(tmp_path: Path, command: str) -> str:
    """A program that does to the file it is given what a person would do."""
    script = tmp_path / "editor.sh"
    script.write_text(f'#!/bin/sh\n{command} "$1"\n')
    script.chmod(0o755)
    return str(script)


def test_edit_sends_what_was_saved_with_the_etag(fleet: Fleet, tmp_path: Path):
    result = fleet.run("quarantine", "resubmit", JOB_ID, "--edit", "--actor", "ann", EDITOR=editor(tmp_path, "sed -i s/1234/9/"), VISUAL="")
    assert result.exit_code == 0, result.output
    (request,) = sent(fleet, "ResubmitJob")
    assert json.loads(request.payload_json) == {"n": 95678901234567890}
    assert (request.job_id, request.etag, request.actor) == (JOB_ID, f"etag-{JOB_ID}", "ann")


@pytest.mark.parametrize(("command", "words"), [("true", "not changed"), ("touch", "not changed"), ("sed -i s/}//", "not valid JSON")])
def test_an_edit_that_is_none_sends_nothing(fleet: Fleet, tmp_path: Path, command: str, words: str):
    result = fleet.run("quarantine", "resubmit", JOB_ID, "--edit", EDITOR=editor(tmp_path, command), VISUAL="")
    assert result.exit_code == 1
    assert words in result.stderr
    assert sent(fleet, "ResubmitJob") == []


@pytest.mark.parametrize(("fault", "code"), [(STALE, 1), (BUSY, 4), (REFUSED, 1)])
def test_an_edit_that_cannot_be_sent_is_kept(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, code: int):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fleet.answers["ResubmitJob"] = fault
    result = fleet.run("quarantine", "resubmit", JOB_ID, "--edit", EDITOR=editor(tmp_path, "sed -i s/1234/9/"), VISUAL="")
    assert result.exit_code == code
    kept = Path(result.stderr.partition("--payload @")[2].split()[0])
    assert json.loads(kept.read_text()) == {"n": 95678901234567890}


def test_a_payload_that_may_not_be_read_is_not_taken_for_an_empty_one(fleet: Fleet):
    edits = [pb.PayloadRevision(actor="ann")]
    fleet.answers["GetQuarantinedJob"] = pb.GetQuarantinedJobResponse(job=case(payload_hidden=True, revisions=edits))
    result = fleet.run("quarantine", "show", JOB_ID)
    assert result.stdout.count("hidden (needs the right to read payloads)") == 2
    assert json.loads(fleet.run("quarantine", "show", JOB_ID, "--json").stdout)["payloadHidden"] is True

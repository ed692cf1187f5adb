"""What handlers say about their progress is in their jobs while they run, in both forms, and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.job_service_pb2 import GetJobRequest, ListJobsRequest, WatchJobRequest, WatchJobResponse
from tests.support.clients import Clients
from tests.support.forms import BOTH, System, running
from tests.support.waiting import until

ENV = {"JOB_HANDLERS": "reporting_handlers", "LOG_FORMAT": "json", "CONCURRENCY": "4"}


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """Each form in turn."""
    with running(request.param, "reporting_handlers", tmp_path, ENV) as started:
        yield started


def watch(sickbay: Clients, job_id: str) -> Any:
    return sickbay.jobs.WatchJob(WatchJobRequest(job_id=job_id), timeout=60)


def until_said(replies: Iterator[WatchJobResponse], message: str) -> Job:
    """Follow the job until its handler has said this."""
    try:
        return next(reply.job for reply in replies if reply.job.progress.message == message)
    except grpc.RpcError as error:
        raise AssertionError(f"nobody said {message!r}") from error


@pytest.mark.parametrize("kind", ["telling", "telling-sync"])
def test_progress_is_streamed_and_shown_while_the_job_runs(system: System, kind: str):
    sickbay = system.clients
    job_id = sickbay.submit(kind)
    replies = watch(sickbay, job_id)
    streamed = until_said(replies, "2 of 4")
    resumed = next(iter(sickbay.jobs.WatchJob(WatchJobRequest(job_id=job_id, resume_token="0.0.RUNNING"), timeout=60)))
    assert (resumed.job, resumed.HasField("change"), resumed.resume_token) == (streamed, False, "0.0.RUNNING")
    assert (streamed.state, streamed.progress.fraction) == (Job.STATE_RUNNING, 0.5)
    shown = sickbay.job(job_id)
    assert shown["state"] == "RUNNING"
    assert shown["progress"] | {"updatedAt": ""} == {"fraction": 0.5, "message": "2 of 4", "updatedAt": ""}
    assert shown["progress"]["updatedAt"] >= shown["startedAt"]
    assert sickbay.jobs.GetJob(GetJobRequest(job_id=job_id)).job.progress == streamed.progress
    assert not any(job.HasField("progress") for job in sickbay.jobs.ListJobs(ListJobsRequest()).jobs)
    first = WatchJobRequest(job_id=job_id)
    again = next(iter(sickbay.jobs.WatchJob(first, timeout=60)))
    assert (again.job.progress.message, again.HasField("change")) == ("2 of 4", False), "a watch begins with it"
    system.release()
    rest = list(replies)
    assert rest[-1].job.state == Job.STATE_SUCCEEDED
    assert not rest[-1].job.HasField("progress")
    ended = sickbay.job(job_id)
    assert "progress" not in ended
    assert [change["state"] for change in ended["history"]] == ["QUEUED", "RUNNING", "SUCCEEDED"]


def test_it_is_throttled(system: System):
    """A thousand reports at once are two events: the first, and the last one a second later."""
    sickbay = system.clients
    job_id = sickbay.submit("telling")
    replies = watch(sickbay, job_id)
    until_said(replies, "2 of 4")
    replies.cancel()
    plane = sickbay.plane.get("/metrics", headers={"accept": "text/plain"}).text
    (line,) = [line for line in plane.splitlines() if line.startswith('sickbay_ledger_events_total{state="RUNNING"}')]
    assert float(line.split()[-1]) <= 3
    system.release()
    sickbay.wait(job_id, "SUCCEEDED")


def test_rest_streams_it_too(system: System):
    sickbay = system.clients
    job_id = sickbay.submit("telling")
    with sickbay.api.stream("GET", f"/jobs/{job_id}/events") as events:
        for line in events.iter_lines():
            data = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if data.get("progress", {}).get("message") == "2 of 4":
                system.release()
            if data.get("state") == "SUCCEEDED":
                assert "progress" not in data
                return
    raise AssertionError("the stream ended before the job")


def test_the_next_run_begins_without_it(system: System):
    sickbay = system.clients
    job_id = sickbay.submit("telling-twice")
    until_said(watch(sickbay, job_id), "nearly")
    (system.folder / "fail").touch()
    until(lambda: (job := sickbay.job(job_id))["attempt"] == 1 and job["state"] == "RUNNING")
    assert "progress" not in sickbay.job(job_id)
    system.release()
    sickbay.wait(job_id, "SUCCEEDED")


def test_nonsense_is_a_mistake_of_the_handler(system: System):
    sickbay = system.clients
    job_id = sickbay.submit("mistaken")
    sickbay.wait(job_id, "QUARANTINED")
    assert "the fraction must be a number from 0 to 1, not 40" in sickbay.job(job_id)["errors"][0]["message"]

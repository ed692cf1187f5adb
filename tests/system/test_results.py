"""What handlers return is kept with their jobs, in both forms, and hurts nobody whatever it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sickbay.jobs.v1.job_pb2 import JOB_VIEW_BASIC, JOB_VIEW_FULL, Job
from sickbay.jobs.v1.job_service_pb2 import GetJobRequest, ListJobsRequest, WatchJobRequest
from tests.support.clients import Clients
from tests.support.forms import BOTH, System, running
from tests.support.reporting_handlers import HOSTILE
from tests.support.system_under_test import Product

ENV = {"JOB_HANDLERS": "reporting_handlers", "LOG_FORMAT": "json", "CONCURRENCY": "4"}
VALUES = [{"sent": True, "n": 9007199254740993}, [], "é\0", 0, False, {"a": [None]}]
KINDS = ("returning", "returning-sync")


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """Each form in turn."""
    with running(request.param, "reporting_handlers", tmp_path, ENV) as started:
        yield started


def result_json(sickbay: Clients, job_id: str, view: int = JOB_VIEW_FULL) -> str:
    return str(sickbay.jobs.GetJob(GetJobRequest(job_id=job_id, view=view)).job.result_json)  # type: ignore[arg-type]


def test_a_result_is_in_the_job_over_rest_grpc_and_the_command(system: System):
    """Of an async handler and of a sync one; a list does not have it, and neither has a job that returned None."""
    sickbay = system.clients
    ids = {sickbay.submit(kind, {"value": value}): value for kind in KINDS for value in VALUES}
    ids[sickbay.submit("returning")] = {"number": 7, "lines": ["é"]}
    nothing = sickbay.submit("returning", {"value": None})
    for job_id, value in ids.items():
        sickbay.wait(job_id, "SUCCEEDED")
        assert sickbay.job(job_id)["result"] == value
        assert "resultNote" not in sickbay.job(job_id)
        assert json.loads(result_json(sickbay, job_id)) == value
        assert result_json(sickbay, job_id, JOB_VIEW_BASIC) == ""
    sickbay.wait(nothing, "SUCCEEDED")
    assert "result" not in sickbay.job(nothing)
    assert {job.result_json for job in sickbay.jobs.ListJobs(ListJobsRequest(view=JOB_VIEW_FULL)).jobs} == {""}
    shown = run_command(sickbay, "get", next(iter(ids)))
    assert '"n": 9007199254740993' in shown
    waited = run_command(sickbay, "submit", "returning", '{"value": {"n": 9007199254740993}}', "--wait")
    assert waited.splitlines()[-1] == 'result  {"n":9007199254740993}'


def test_a_watch_ends_with_the_result(system: System):
    sickbay = system.clients
    job_id = sickbay.submit("returning", {"value": {"a": 1}})
    watched = [reply.job for reply in sickbay.jobs.WatchJob(WatchJobRequest(job_id=job_id), timeout=60)]
    assert [job.result_json for job in watched if job.state == Job.STATE_SUCCEEDED] == ['{"a":1}']
    assert {job.result_json for job in watched if job.state != Job.STATE_SUCCEEDED} <= {""}
    again = [reply.job.result_json for reply in sickbay.jobs.WatchJob(WatchJobRequest(job_id=job_id), timeout=60)]
    assert again == ['{"a":1}'], "of a job that has ended"
    events = sickbay.api.get(f"/jobs/{job_id}/events").text
    assert '"result":{"a":1}' in events
    resumed = WatchJobRequest(job_id=job_id, resume_token="0.0.QUEUED")
    assert [reply.job.result_json for reply in sickbay.jobs.WatchJob(resumed, timeout=60)] == ["", '{"a":1}']


def test_what_is_too_large_or_no_json_is_not_kept_and_said(system: System):
    sickbay = system.clients
    job_id = sickbay.submit("returning", {"value": "é" * 40_000})
    sickbay.wait(job_id, "SUCCEEDED")
    job = sickbay.job(job_id)
    assert "result" not in job
    assert job["resultNote"] == "the result has 80,002 bytes of JSON; at most 65,536 are kept"
    assert "80,002 bytes" in run_command(sickbay, "get", job_id)


def test_hostile_results_hurt_nobody(system: System):
    """Hundreds of megabytes, endless nesting, objects that raise: the runs have succeeded, once, and others go on meanwhile."""
    sickbay = system.clients
    hostile = sickbay.submit_batch([(kind, {"what": what}) for what in HOSTILE for kind in ("hostile", "hostile-sync")])
    healthy = sickbay.submit_all("returning", *[{"value": number} for number in range(20)])
    for number, job_id in enumerate(healthy):
        sickbay.wait(job_id, "SUCCEEDED")
        assert sickbay.job(job_id)["result"] == number
    for job_id in hostile:
        sickbay.wait(job_id, "SUCCEEDED")
        job = sickbay.job(job_id)
        assert job["resultNote"]
        assert (job["attempt"], job["errors"], job["duplicates"]) == (0, [], 0)
    assert system.worker.process.poll() is None
    assert "blocks the event loop" not in system.worker.err.text


def test_after_a_kill_the_result_is_that_of_the_run_that_succeeded(tmp_path: Path, start: Callable[..., Product]):
    """The first worker dies after its run, before the event of it is durable."""
    source = Path(__file__).parents[1] / "support" / "reporting_handlers.py"
    (tmp_path / source.name).write_text(source.read_text())
    product = start(tmp_path, ENV).ready()
    with Clients(product) as sickbay:
        job_id = sickbay.submit("deadly")
        (tmp_path / "release").touch()
    assert product.wait() == -9
    with Clients(start(tmp_path, ENV).ready()) as sickbay:
        sickbay.wait(job_id, "SUCCEEDED")
        assert sickbay.job(job_id)["result"] == {"run": 2}


def run_command(sickbay: Clients, *words: str) -> str:
    """What the command prints."""
    address = f"localhost:{sickbay.grpc_ports['Job API']}"
    command = [sys.executable, "-m", "sickbay_cli", *words, "--jobapi", address]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=os.environ | {"COLUMNS": "200"})
    return done.stdout

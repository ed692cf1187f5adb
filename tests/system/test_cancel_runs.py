"""A job whose run has begun is cancelled, in both forms: its handler ends, no other run follows, and there is one end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.job_service_pb2 import CancelJobRequest, WatchJobRequest
from tests.support.clients import Clients
from tests.support.forms import BOTH, System, running
from tests.support.system_under_test import Product

ENV = {"JOB_HANDLERS": "cancelled_handlers", "LOG_FORMAT": "json", "CONCURRENCY": "20"}
OK = 200
WRONG_STATE = 409
_numbers = count()


@pytest.fixture(scope="module", params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Each form in turn, for all tests of it."""
    with running(request.param, "cancelled_handlers", tmp_path_factory.mktemp("cancelled"), ENV) as started:
        yield started


def begun(system: System, kind: str) -> tuple[str, int]:
    """A job whose handler has begun, which the ledger knows, and its number."""
    number = next(_numbers)
    job_id = system.clients.submit(kind, {"number": number})
    system.wait_for_note(f"began {number}")
    system.clients.wait(job_id, "RUNNING")
    return job_id, number


def cancel(sickbay: Clients, job_id: str) -> dict[str, Any]:
    """What is answered with 200."""
    answer = sickbay.api.post(f"/jobs/{job_id}/cancel")
    assert answer.status_code == OK, answer.text
    return dict(answer.json())


def test_a_plain_handler_that_looks_ends_at_once(system: System):
    job_id, number = begun(system, "looking")
    answer = cancel(system.clients, job_id)
    assert answer["state"] == "CANCELLED", "within the call"
    assert answer["cancelRequestedAt"]
    system.wait_for_note(f"saw it {number}")
    history = system.clients.job(job_id)["history"]
    assert [change["state"] for change in history] == ["QUEUED", "RUNNING", "CANCELLED"]
    assert (history[-1]["code"], history[-1]["message"]) == ("CANCELLED", "its run ended with STOPPED: at a safe place")
    assert system.clients.breaker("looking").get("totalFailures", 0) == 0
    assert cancel(system.clients, job_id)["state"] == "CANCELLED", "again"


def test_an_async_handler_is_cancelled_after_its_grace(system: System):
    job_id, number = begun(system, "waiting")
    cancel(system.clients, job_id)
    system.clients.wait(job_id, "CANCELLED")
    system.wait_for_note(f"cancelled {number}")


def test_a_handler_that_completes_has_succeeded(system: System):
    """Meanwhile everybody can see that it is to end; a second request is none."""
    job_id, number = begun(system, "completing")
    replies = system.clients.jobs.WatchJob(WatchJobRequest(job_id=job_id), timeout=60)
    assert not next(iter(replies)).job.HasField("cancel_request_time")
    answer = cancel(system.clients, job_id)
    assert (answer["state"], bool(answer["cancelRequestedAt"])) == ("RUNNING", True)
    system.wait_for_note(f"saw it {number}")
    assert next(reply for reply in replies if reply.job.HasField("cancel_request_time")).job.state == Job.STATE_RUNNING
    again = system.clients.jobs.CancelJob(CancelJobRequest(job_id=job_id)).job
    assert again.state == Job.STATE_RUNNING
    listed = {job["jobId"]: job for job in system.clients.jobs_of("completing")["jobs"]}
    assert listed[job_id]["cancelRequestedAt"] == answer["cancelRequestedAt"]
    explained = system.clients.api.get(f"/jobs/{job_id}/explain").json()
    assert any("Somebody asked to cancel it" in sentence for sentence in explained["sentences"])
    system.release()
    assert list(replies)[-1].job.state == Job.STATE_SUCCEEDED
    ended = system.clients.job(job_id)
    assert (ended["state"], ended["result"], ended["cancelRequestedAt"]) == (
        "SUCCEEDED",
        {"completed": number},
        answer["cancelRequestedAt"],
    )
    assert system.clients.api.post(f"/jobs/{job_id}/cancel").status_code == WRONG_STATE


def test_there_is_one_end_whenever_the_request_comes(system: System):
    """Jobs are cancelled at the moment at which they end, some well and some not."""
    sickbay = system.clients
    jobs = {sickbay.submit("racing", {"number": next(_numbers), "ms": 150 + 2 * one}): one for one in range(60)}
    with ThreadPoolExecutor(10) as pool:
        answers = dict(zip(jobs, pool.map(lambda job_id: sickbay.api.post(f"/jobs/{job_id}/cancel"), jobs), strict=True))
    sickbay.wait_all(list(jobs), "SUCCEEDED", "CANCELLED", "QUARANTINED")
    sickbay.wait(sickbay.submit("racing", {"number": 0, "ms": 0}), "SUCCEEDED")
    for job_id, answer in answers.items():
        found = sickbay.job(job_id)
        finals = [change["state"] for change in found["history"] if change["state"] in {"SUCCEEDED", "CANCELLED"}]
        assert finals == [found["state"]] * (found["state"] != "QUARANTINED"), "a job in quarantine can still be cancelled"
        if answer.status_code == OK:
            assert found["state"] == answer.json()["state"] or (answer.json()["cancelRequestedAt"] and found["state"] != "QUARANTINED")
        else:
            assert (answer.status_code, found["state"]) in {(WRONG_STATE, "SUCCEEDED"), (WRONG_STATE, "QUARANTINED")}


def test_embedded_a_process_that_dies_after_the_request_does_not_run_the_job_again(tmp_path: Path, start: Callable[..., Product]):
    with running("embedded", "cancelled_handlers", tmp_path, ENV) as system:
        job_id, number = begun(system, "completing")
        assert cancel(system.clients, job_id)["state"] == "RUNNING"
        system.worker.kill()
    again = start(tmp_path, ENV).ready()
    with Clients(again) as sickbay:
        sickbay.wait(job_id, "CANCELLED")
        assert (tmp_path / "notes.txt").read_text().splitlines().count(f"began {number}") == 1

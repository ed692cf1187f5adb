"""Jobs that handlers submit, in both forms: once for all runs, whatever happens to the worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.clients import Clients
from tests.support.forms import BOTH, System, running
from tests.support.system_under_test import Product
from tests.support.waiting import until

ENV = {"JOB_HANDLERS": "following_handlers", "LOG_FORMAT": "json", "CONCURRENCY": "10"}


@pytest.fixture(scope="module", params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Each form in turn, for all tests of it."""
    with running(request.param, "following_handlers", tmp_path_factory.mktemp("following"), ENV) as started:
        yield started


def children_of(sickbay: Clients, job_id: str) -> list[str]:
    """All jobs that this one has submitted, found by what they return."""
    found = [job["jobId"] for job in sickbay.jobs_of("child", pageSize=1000)["jobs"]]
    sickbay.wait_all(found, "SUCCEEDED")
    return sorted(one for one in found if sickbay.job(one)["result"]["of"] == job_id)


def test_a_run_that_is_repeated_submits_them_once(system: System):
    sickbay = system.clients
    job_id = sickbay.submit("parent", tenant="acme")
    sickbay.wait(job_id, "SUCCEEDED")
    ended = sickbay.job(job_id)
    assert ended["attempt"] == 1, "it failed after it had submitted them"
    assert children_of(sickbay, job_id) == sorted(ended["result"])
    assert {sickbay.job(one)["result"]["tenant"] for one in ended["result"]} == {"acme"}
    lines = [json.loads(line) for line in system.worker.err.text.splitlines() if "submitted both" in line]
    assert [(line["job_id"], line["attempt"], line["tenant"], line["logger"]) for line in lines] == [
        (job_id, attempt, "acme", "job.parent") for attempt in range(2)
    ]
    assert all(line["run"] and line["ids"] == ended["result"] for line in lines)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"job_type": "No Name"}, "INVALID_FIELD"),
        ({"job_type": "child", "payload": "[]"}, "INVALID_PAYLOAD"),
        ({"job_type": "child", "payload": {"n": 2}, "key": "same"}, "IDEMPOTENCY_KEY_REUSED"),
    ],
)
def test_what_is_rejected_fails_the_run(system: System, asked: dict[str, object], code: str):
    sickbay = system.clients
    first = {"job_type": "child", "payload": {"n": 1}, "key": "same"}
    job_id = sickbay.submit("wrong", {"jobs": [first, asked]})
    sickbay.wait(job_id, "QUARANTINED")
    assert sickbay.job(job_id)["errors"][-1]["code"] == code


def test_embedded_a_kill_between_two_of_them(tmp_path: Path, start: Callable[..., Product]):
    with running("embedded", "following_handlers", tmp_path, ENV) as system:
        job_id = system.clients.submit("dying")
        first = until_submitted(system)
        system.worker.kill()
    with Clients(start(tmp_path, ENV).ready()) as sickbay:
        check(sickbay, job_id, first)


def until_submitted(system: System) -> str:
    """The first one, once its handler has its id."""
    notes = system.folder / "notes.txt"
    until(lambda: notes.exists() and notes.read_text().endswith("\n"))
    return notes.read_text().split()[1]


def check(sickbay: Clients, job_id: str, first: str) -> None:
    """There are two, and one of them is that of the run that was killed."""
    sickbay.wait(job_id, "SUCCEEDED")
    result = sickbay.job(job_id)["result"]
    assert result[0] == first
    assert children_of(sickbay, job_id) == sorted(result)

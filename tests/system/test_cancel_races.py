"""Hundreds of cancellations beside starts, resubmits and releases: an answer holds, in both forms of the product.

Either the answer is the job, and no run begins after it: it is CANCELLED, or its run that goes on is the last. Or the answer says that it
is too late, and the job goes on as if nobody had asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import Final

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.system.conftest import QUICK, Start

JOBS: Final = 120
BUSY: Final = {"CONCURRENCY": "4", "MAX_RETRIES": "1", "FAILURE_THRESHOLD": "1000"}
"""Few slots, so that jobs start all the time while they are cancelled."""
ENDED: Final = ("SUCCEEDED", "CANCELLED", "QUARANTINED")
OK: Final = 200
WRONG_STATE: Final = 409

Answers = dict[str, tuple[int, int]]
ASKED: Final = 202
"""In our tables: 200, and the job still runs."""


@contextmanager
def embedded(request: pytest.FixtureRequest) -> Iterator[Clients]:
    """`sickbay up`."""
    start: Start = request.getfixturevalue("start")
    clinic: Clinic = request.getfixturevalue("own_clinic")
    with Clients(start(clinic.folder, QUICK | BUSY).ready()) as clients:
        yield clients


@contextmanager
def distributed(request: pytest.FixtureRequest) -> Iterator[Clients]:
    """Two control planes and two workers."""
    fleet: Fleet = request.getfixturevalue("fleet")
    fleet.launch("controlplane")
    with Clients(fleet.launch_all(workers=2, **BUSY).ready()) as clients:
        yield clients


@pytest.fixture(params=[embedded, pytest.param(distributed, marks=pytest.mark.servers)], ids=["embedded", "fleet"])
def product(request: pytest.FixtureRequest) -> Iterator[Clients]:
    """The product in one of its forms."""
    with request.param(request) as clients:
        yield clients


def cancel_all(product: Clients, job_ids: list[str], beside: Callable[[str], object] = lambda _: None) -> Answers:
    """Cancel each, ten at a time, with `beside` called at the same moment; the answers, and when they had come (ms)."""

    def cancel(job_id: str) -> tuple[int, int]:
        answer = product.api.post(f"/jobs/{job_id}/cancel")
        assert answer.status_code in {OK, WRONG_STATE}, answer.text
        goes_on = answer.status_code == OK and answer.json()["state"] != "CANCELLED"
        assert not goes_on or answer.json()["cancelRequestedAt"]
        return ASKED if goes_on else answer.status_code, time.time_ns() // 1_000_000

    with ThreadPoolExecutor(10) as pool, ThreadPoolExecutor(5) as others:
        busy = [others.submit(beside, job_id) for job_id in job_ids]
        answers = dict(zip(job_ids, pool.map(cancel, job_ids), strict=True))
        for one in busy:
            one.result()
    return answers


def check(product: Clients, clinic: Clinic, answers: Answers) -> None:
    """The law."""
    product.wait_all(list(answers), *ENDED)
    product.wait(product.submit("ok"), "SUCCEEDED")
    runs = clinic.runs()
    cancelled = {job_id: at for job_id, (status, at) in answers.items() if status == OK}
    asked = {job_id: at for job_id, (status, at) in answers.items() if status == ASKED}
    assert [run for run in runs if run.at > (cancelled | asked).get(run.job, run.at)] == [], "runs that began after the answer"
    ended = {job_id: product.job(job_id)["state"] for job_id in answers}
    assert {ended[job_id] for job_id in cancelled} <= {"CANCELLED"}
    assert {ended[job_id] for job_id in asked} <= {"CANCELLED", "SUCCEEDED"}
    refused = {
        job_id: product.job(job_id)["history"]
        for job_id in answers.keys() - cancelled.keys() - asked.keys()
        if ended[job_id] == "CANCELLED"
    }
    assert refused == {}, "told that it was too late"


def test_cancellations_beside_starts_and_retries(product: Clients, own_clinic: Clinic):
    """Some jobs succeed at once, some fail once and some always; the answers are of both kinds."""
    kinds = [{"do": "ok"}, {"do": ["BAD_REQUEST", "ok"]}, {"do": "BAD_REQUEST"}]
    answers: Answers = {}
    for _ in range(3):
        job_ids = product.submit_all("cancel", *(kinds[number % 3] for number in range(JOBS // 3)))
        answers |= cancel_all(product, list(chain.from_iterable(zip(job_ids[::2], reversed(job_ids[1::2]), strict=True))))
    check(product, own_clinic, answers)
    assert {status for status, _ in answers.values()} == {OK, WRONG_STATE}


def test_cancellations_beside_resubmits(product: Clients, own_clinic: Clinic):
    """Who was told 200 by a resubmit may still be cancelled, but then the job does not run."""
    job_ids = product.submit_all("cancel", *({"do": "BAD_REQUEST"} for _ in range(JOBS // 2)))
    product.wait_all(job_ids, "QUARANTINED")

    def resubmit(job_id: str) -> None:
        answer = product.plane.post(f"/quarantine/{job_id}/resubmit", json={"payload": {"do": "ok"}})
        assert answer.status_code in {OK, WRONG_STATE}, answer.text

    answers = cancel_all(product, job_ids, resubmit)
    check(product, own_clinic, answers)


def test_cancellations_beside_releases(product: Clients, own_clinic: Clinic):
    """The circuit closes while its parked jobs are cancelled."""
    product.plane.post("/breakers/cancel-parked/force-open")
    job_ids = product.submit_all("cancel-parked", *({"do": "ok"} for _ in range(JOBS // 2)))
    product.wait_all(job_ids, "PARKED")
    assert product.plane.post("/breakers/cancel-parked/reset").status_code == OK
    answers = cancel_all(product, job_ids)
    check(product, own_clinic, answers)

"""Clients that leave in the middle of a call, or whose deadline passes: nothing is left half done, and nobody else is held up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import cycle
from random import Random
from typing import Any

import grpc
import pytest

from sickbay.breakers.v1.breaker_service_pb2 import DisableBreakerRequest, SetBreakerAutoRequest
from sickbay.jobs.v1.job_service_pb2 import CancelJobRequest, GetJobRequest, ListJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.quarantine_service_pb2 import DiscardJobRequest, ResubmitJobRequest
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.system_under_test import Product
from tests.support.waiting import until

SUBMISSIONS = 200
CASES = 20
ROOM_S = 0.008
"""Longer than a call takes on an idle machine, so that every moment of it is met."""
WAITING = {grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION}
"""What a repeat may be told while the first call is still being finished."""


class Leaving:
    """Calls that are left by turns: cancelled by the client, or ended by their deadline, after a time that is drawn."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._ways: Iterator[Callable[[Any, Any], None]] = cycle((self._cancel, self._expire))

    def call(self, method: Any, request: Any) -> None:
        """Begin it, and leave."""
        next(self._ways)(method, request)

    def _cancel(self, method: Any, request: Any) -> None:
        call = method.future(request)
        time.sleep(self._random.uniform(0, ROOM_S))  # nothing announces how far the server is: that is the point
        call.cancel()

    def _expire(self, method: Any, request: Any) -> None:
        try:
            method(request, timeout=self._random.uniform(0.0005, ROOM_S))
        except grpc.RpcError as error:
            if error.code() not in {grpc.StatusCode.DEADLINE_EXCEEDED, *WAITING}:
                raise


def answered(method: Any, request: Any) -> Any:
    """The answer to a repeat, soon: no lease is waited for."""

    def ask() -> Any:
        try:
            return method(request, timeout=30)
        except grpc.RpcError as error:
            if error.code() not in WAITING:
                raise
            return None

    return until(ask, 10)


def submission(number: int) -> SubmitJobRequest:
    return SubmitJobRequest(job_type="ok", payload_json="{}", request_id=f"left-{number}")


def resubmission(job_id: str) -> ResubmitJobRequest:
    return ResubmitJobRequest(job_id=job_id, payload_json='{"do": "ok"}')


def was_resubmitted(sickbay: Clients, job_id: str) -> bool:
    """Whether the call that was left came so far; if it did, it has come to its end, or does so soon."""
    try:
        until(lambda: sickbay.job(job_id)["state"] != "QUARANTINED", 0.3)
    except AssertionError:
        return False
    return True


def leave_everything(sickbay: Clients, clinic: Clinic) -> None:
    """Clients leave in the middle of every kind of call; afterwards every job is whole, each ran once, and all doors answer."""
    leaving = Leaving(7)
    set_aside = sickbay.submit_all("bad", *[{"do": "HTTP_422", "number": number} for number in range(3 * CASES)])
    sickbay.wait_all(set_aside, "QUARANTINED")
    for number in range(SUBMISSIONS):
        leaving.call(sickbay.jobs.SubmitJob, submission(number))
        leaving.call(sickbay.jobs.ListJobs, ListJobsRequest(job_type="bad", page_size=20))
    resubmit, discard, cancel = (set_aside[begin::3] for begin in range(3))
    for resubmitted, discarded, cancelled in zip(resubmit, discard, cancel, strict=True):
        leaving.call(sickbay.quarantine.ResubmitJob, resubmission(resubmitted))
        leaving.call(sickbay.quarantine.DiscardJob, DiscardJobRequest(job_id=discarded))
        leaving.call(sickbay.jobs.CancelJob, CancelJobRequest(job_id=cancelled))
        leaving.call(sickbay.jobs.GetJob, GetJobRequest(job_id=resubmitted))
        leaving.call(sickbay.breakers.DisableBreaker, DisableBreakerRequest(job_type="ok"))
        leaving.call(sickbay.breakers.SetBreakerAuto, SetBreakerAutoRequest(job_type="ok"))

    ids = [answered(sickbay.jobs.SubmitJob, submission(number)).job.job_id for number in range(SUBMISSIONS)]
    assert len(set(ids)) == SUBMISSIONS
    sickbay.wait_all(ids, "SUCCEEDED")
    assert clinic.count("ok") == dict.fromkeys(ids, 1)
    for job_id in resubmit:
        if not was_resubmitted(sickbay, job_id):
            answered(sickbay.quarantine.ResubmitJob, resubmission(job_id))
        sickbay.wait(job_id, "SUCCEEDED")
        assert len([run for run in clinic.runs(job_id=job_id) if run.generation == 1]) == 1
    for job_id in discard:
        assert answered(sickbay.quarantine.DiscardJob, DiscardJobRequest(job_id=job_id)).job.job_id == job_id
    for job_id in cancel:
        assert answered(sickbay.jobs.CancelJob, CancelJobRequest(job_id=job_id)).job.job_id == job_id
    sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")


def test_clients_that_leave_hold_nobody_up(own_clinic: Clinic, start: Callable[..., Product]):
    """One process on SQLite."""
    with Clients(start(own_clinic.folder).ready()) as sickbay:
        leave_everything(sickbay, own_clinic)


@pytest.mark.servers
def test_clients_that_leave_hold_nobody_up_in_a_fleet(own_clinic: Clinic, fleet: Fleet):
    """Services on RabbitMQ, Redis and PostgreSQL."""
    with Clients(fleet.launch_all(workers=1).ready()) as sickbay:
        leave_everything(sickbay, own_clinic)

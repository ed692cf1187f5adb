"""Idempotency keys: a repeat is the same job, over both doors and across a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import grpc
import httpx
import pytest

from sickbay.client import Client, NewJob
from sickbay.jobs.v1.error_reason_pb2 import ERROR_REASON_IDEMPOTENCY_KEY_REUSED
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, BatchSubmitResult, SubmitJobRequest
from tests.support.clients import Clients, refusal
from tests.support.fake_dependency import Clinic
from tests.support.system_under_test import Product
from tests.system.test_delayed_jobs import HOUR_S, ms, scheduled

BODY = {"jobType": "ok", "payload": {"n": 1}}
MANY: Final = 2_500
LEASE_AND_MORE_S: Final = 100.0
"""A key that was reserved by a process that died is free after 30 s."""


def post(sickbay: Clients, key: str, body: dict[str, Any] = BODY) -> httpx.Response:
    return sickbay.api.post("/jobs", json=body, headers={"Idempotency-Key": key})


def test_a_repeat_over_rest_is_the_same_job(sickbay: Clients, clinic: Clinic):
    first, second = post(sickbay, "rest-1"), post(sickbay, "rest-1")
    assert (first.status_code, second.status_code) == (202, 202)
    assert "duplicate" not in first.json()
    assert second.json() == first.json() | {"duplicate": True}
    sickbay.wait(first.json()["jobId"], "SUCCEEDED")
    assert clinic.count("ok")[first.json()["jobId"]] == 1
    other = post(sickbay, "rest-1", BODY | {"payload": {"n": 2}})
    assert (other.status_code, other.json()["statusCode"], other.json()["reason"]) == (422, 422, "IDEMPOTENCY_KEY_REUSED")


def test_a_repeat_over_grpc_is_the_same_job(sickbay: Clients):
    request = SubmitJobRequest(job_type="ok", payload_json='{"n": 1}', request_id="grpc-1")
    first, second = sickbay.jobs.SubmitJob(request), sickbay.jobs.SubmitJob(request)
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.job.job_id == second.job.job_id
    with pytest.raises(grpc.RpcError) as caught:
        sickbay.jobs.SubmitJob(SubmitJobRequest(job_type="sms", payload_json='{"n": 1}', request_id="grpc-1"))
    assert refusal(caught.value)[:2] == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")


def test_both_doors_and_batches_share_the_keys(sickbay: Clients):
    first = post(sickbay, "shared-1").json()["jobId"]
    text = '{"n":1}'
    again = sickbay.jobs.SubmitJob(SubmitJobRequest(job_type="ok", payload_json=text, request_id="shared-1"))
    assert (again.job.job_id, again.duplicate) == (first, True)
    item = BODY | {"idempotencyKey": "shared-1"}
    (result,) = sickbay.api.post("/jobs:batch", json={"jobs": [item]}).json()["results"]
    assert result == {"jobId": first, "duplicate": True}


def test_a_batch_can_repeat_a_key_within_itself(sickbay: Clients):
    """Two items with one key are one job, whichever door they come by; two different ones are not."""
    item = BODY | {"idempotencyKey": "twice-in-a-batch"}
    answer = sickbay.api.post("/jobs:batch", json={"jobs": [item, item, item | {"payload": {}}]}).json()
    first, second, third = answer["results"]
    assert second == first | {"duplicate": True}
    assert third["error"]["reason"] == "IDEMPOTENCY_KEY_REUSED"
    request = SubmitJobRequest(job_type="ok", payload_json="{}", request_id="twice-over-grpc")
    one, two = sickbay.jobs.BatchSubmitJobs(BatchSubmitJobsRequest(requests=[request, request])).results
    assert (two.job_id, one.duplicate, two.duplicate) == (one.job_id, False, True)


def test_a_batch_of_jobs_that_run_later_gets_the_first_times(sickbay: Clients):
    """Each repeat is the first job, due when it was, also within one call; another time is another request."""

    def batch(*delays: int) -> list[BatchSubmitResult]:
        requests = [SubmitJobRequest(job_type="later", payload_json="{}", request_id=f"{key}-{number}") for number, _ in enumerate(delays)]
        for request, delay in zip(requests, delays, strict=True):
            request.delay.FromSeconds(delay)
        return list(sickbay.jobs.BatchSubmitJobs(BatchSubmitJobsRequest(requests=[*requests, requests[0]])).results)

    key = f"batch-{time.time_ns()}"
    *first, twice = batch(HOUR_S, 2 * HOUR_S)
    assert ([one.duplicate for one in first], twice.duplicate, twice.job_id) == ([False, False], True, first[0].job_id)
    before = [scheduled(sickbay, one.job_id) for one in first]
    assert [ms(job["runAt"]) - ms(job["submittedAt"]) for job in before] == [HOUR_S * 1000, 2 * HOUR_S * 1000]
    again = batch(HOUR_S, 2 * HOUR_S)
    assert [(one.job_id, one.duplicate) for one in again] == [(one.job_id, True) for one in (*first, first[0])]
    same, other, _ = batch(HOUR_S, 3 * HOUR_S)
    assert (same.job_id, other.job_id) == (first[0].job_id, "")
    assert (other.error.code, other.error.reason) == (grpc.StatusCode.ALREADY_EXISTS.value[0], ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
    assert [scheduled(sickbay, one.job_id) for one in first] == before


def test_each_line_of_a_batch_over_rest_has_a_time_of_its_own(sickbay: Clients):
    """A delay or a time, with keys; a repeat gets the first one, and one with another time is rejected for itself."""
    key, at = f"lines-{time.time_ns()}", "2099-05-06T07:08:09.123Z"
    line = {"jobType": "later", "payload": {}}
    lines = [line | {"delaySeconds": HOUR_S, "idempotencyKey": f"{key}-0"}, line | {"runAt": at, "idempotencyKey": f"{key}-1"}]

    def batch(*jobs: dict[str, Any]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = sickbay.api.post("/jobs:batch", json={"jobs": jobs}).json()["results"]
        return results

    first = batch(*lines)
    delayed, timed = (scheduled(sickbay, one["jobId"]) for one in first)
    assert (ms(delayed["runAt"]) - ms(delayed["submittedAt"]), timed["runAt"]) == (HOUR_S * 1000, at)
    assert batch(*lines) == [one | {"duplicate": True} for one in first]
    moved, same = batch(lines[0] | {"delaySeconds": 60}, lines[1])
    assert (moved["error"]["reason"], same["jobId"]) == ("IDEMPOTENCY_KEY_REUSED", first[1]["jobId"])
    assert [scheduled(sickbay, one["jobId"]) for one in first] == [delayed, timed]


def test_keys_survive_a_kill(own_clinic: Clinic, start: Callable[..., Product]):
    """An accepted key is remembered by the next process."""
    env = {"JOB_HANDLERS": "clinic_handlers"}
    product = start(own_clinic.folder, env).ready()
    with Clients(product) as sickbay:
        first = post(sickbay, "kept").json()["jobId"]
        product.kill()
    with Clients(start(own_clinic.folder, env).ready()) as sickbay:
        again = post(sickbay, "kept")
        assert (again.status_code, again.json()["jobId"], again.json()["duplicate"]) == (202, first, True)
        assert post(sickbay, "kept", BODY | {"payload": {}}).status_code == 422
        sickbay.wait(first, "SUCCEEDED")


@pytest.mark.long
def test_a_kill_among_batches_with_keys_loses_no_job_and_makes_none_twice(own_clinic: Clinic, start: Callable[..., Product]):
    """The client sends everything again, also what had no answer: that waits until the keys of the dead process are free."""
    env = {"JOB_HANDLERS": "clinic_handlers"}
    jobs = [NewJob("ok", {"do": "ok", "n": number}, request_id=f"batch-{number}") for number in range(MANY)]
    product = start(own_clinic.folder, env).ready()
    with Client(f"127.0.0.1:{product.ports['Job API'][1]}") as client:
        results = client.submit_many(jobs, timeout=15, in_flight=2)  # the third batch is not sent before the first is answered
        before = {one.job.request_id: one.job_id for one in islice(results, 1) if one.accepted}
        product.kill()
        before |= {one.job.request_id: one.job_id for one in results if one.accepted}
    assert 0 < len(before) < MANY, "it was killed among them"
    product = start(own_clinic.folder, env).ready()
    with Client(f"127.0.0.1:{product.ports['Job API'][1]}") as client:
        again = list(client.submit_many(jobs, timeout=LEASE_AND_MORE_S))
        assert [one.error for one in again if not one.accepted] == []
        after = {one.job.request_id: one.job_id for one in again}
        assert {key: after[key] for key in before} == before
        assert all(one.duplicate for one in again if one.job.request_id in before)
        assert len(set(after.values())) == MANY
        with Clients(product) as sickbay:
            sickbay.wait_all(list(after.values()), "SUCCEEDED")
        assert sum(1 for _ in client.list(job_type="ok")) == MANY

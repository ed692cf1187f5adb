"""Many jobs: results in order, repeats of what may succeed, and how much is on its way."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest

from sickbay.client import (
    CircuitOpen,
    InvalidRequest,
    LimitReached,
    NewJob,
    Unavailable,
)
from sickbay.contract.faults import Fault
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.server.errors import batch_error
from tests.support.client_answers import AWAY, FULL, OPEN, accepted, one_by_one


def test_many_jobs_in_order(client, fleet):
    """More than one call has; a result for each, also for one that cannot be written."""
    fleet.answers["BatchSubmitJobs"] = accepted
    jobs = [NewJob("email", {"n": number}) if number != 7 else NewJob("email", [7]) for number in range(2_500)]
    results = client.call("submit_many", iter(jobs))
    assert [result.job_id for result in results] == [f'id-{{"n":{number}}}' if number != 7 else "" for number in range(2_500)]
    assert isinstance(results[7].error, InvalidRequest)
    assert sorted(len(request.requests) for request in fleet.requests) == [500, 999, 1_000]
    keys = [one.request_id for request in fleet.requests for one in request.requests]
    assert len({*keys}) == 2_499


def test_calls_are_bounded_in_bytes(client, fleet):
    fleet.answers["BatchSubmitJobs"] = accepted
    text = "x" * 600_000
    assert len(client.call("submit_many", [NewJob("email", {"x": text})] * 5)) == 5
    assert sorted(len(request.requests) for request in fleet.requests) == [1, 2, 2]


def test_only_so_many_batches_are_on_their_way(client, fleet):
    """Two calls meet in the server, never three; and no more is read than they hold, and the job that did not fit."""
    meeting, lock, open_now, most, read = threading.Barrier(2), threading.Lock(), 0, 0, 0

    def answer(request: pb.BatchSubmitJobsRequest) -> pb.BatchSubmitJobsResponse:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        meeting.wait(60)
        with lock:
            open_now -= 1
        return accepted(request)

    def jobs() -> Iterator[NewJob]:
        nonlocal read
        for number in range(6_000):
            read += 1
            yield NewJob("email", {"n": number})

    fleet.answers["BatchSubmitJobs"] = answer
    assert len(client.some(1, "submit_many", jobs(), in_flight=2)) == 1
    assert read == 2_001
    read = 0
    assert len(client.call("submit_many", jobs(), in_flight=2)) == 6_000
    assert most == 2


def test_only_what_may_succeed_later_is_submitted_again(client, fleet):
    """With its key, and each job once."""
    refused = Fault(grpc.StatusCode.INVALID_ARGUMENT, "no such type", "INVALID_JOB_TYPE")
    soon = Fault(grpc.StatusCode.UNAVAILABLE, "busy", "BACKEND_UNAVAILABLE", 0.01)
    first = pb.BatchSubmitJobsResponse(
        results=[
            pb.BatchSubmitResult(job_id="one"),
            pb.BatchSubmitResult(error=batch_error(soon)),
            pb.BatchSubmitResult(error=batch_error(refused)),
            pb.BatchSubmitResult(error=batch_error(OPEN)),
            pb.BatchSubmitResult(error=batch_error(FULL)),
        ]
    )
    fleet.answers["BatchSubmitJobs"] = one_by_one(first, pb.BatchSubmitJobsResponse(results=[pb.BatchSubmitResult(job_id="two")]))
    results = client.call("submit_many", [NewJob("email", {"n": number}) for number in range(5)])
    assert [result.job_id for result in results] == ["one", "two", "", "", ""]
    assert [type(result.error) for result in results[2:]] == [InvalidRequest, CircuitOpen, LimitReached]
    before, after = fleet.requests
    assert list(after.requests) == [before.requests[1]]
    assert [result.job.request_id for result in results] == [request.request_id for request in before.requests]


def test_a_failed_call_is_the_error_of_each_of_its_jobs(client, fleet):
    fleet.answers["BatchSubmitJobs"] = Fault(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong")
    results = client.call("submit_many", [NewJob("email", {})] * 3)
    assert [str(result.error) for result in results] == ["the token is wrong"] * 3
    assert len(fleet.calls) == 1


def test_without_keys_nothing_is_sent_again_that_may_have_been_accepted(client, fleet):
    """But what a limit has rejected is, if the user waits for it: it was certainly not accepted."""
    soon = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "TOO_MANY_QUEUED", 0.01)
    fleet.answers["BatchSubmitJobs"] = one_by_one(soon, AWAY)
    results = client.call("submit_many", [NewJob("email", {}), NewJob("email", {})], own_keys=False, wait_for_limits=True)
    assert [(type(result.error), result.job.request_id) for result in results] == [(Unavailable, "")] * 2
    assert [one.request_id for request in fleet.requests for one in request.requests] == [""] * 4
    fleet.answers["BatchSubmitJobs"] = one_by_one(AWAY, accepted(pb.BatchSubmitJobsRequest(requests=[pb.SubmitJobRequest()])))
    assert client.call("submit_many", [NewJob("email", {}, request_id="mine")], own_keys=False)[0].accepted


def test_an_input_that_fails_after_its_results(client, fleet):
    fleet.answers["BatchSubmitJobs"] = accepted

    def jobs() -> Iterator[NewJob]:
        yield NewJob("email", {"n": 1})
        raise LookupError("the file is broken")

    with pytest.raises(LookupError, match="the file is broken"):
        client.call("submit_many", jobs())
    assert [request.requests[0].payload_json for request in fleet.requests] == ['{"n":1}']


async def test_many_jobs_of_an_asynchronous_input(fleet):
    from sickbay.client import AsyncClient

    async def jobs():
        for number in range(3):
            yield NewJob("email", {"n": number})
        raise LookupError("the queue is broken")

    fleet.answers["BatchSubmitJobs"] = accepted
    async with AsyncClient(fleet.address) as client:
        results = client.submit_many(jobs())
        assert [(await anext(results)).job_id for _ in range(3)] == ['id-{"n":0}', 'id-{"n":1}', 'id-{"n":2}']
        with pytest.raises(LookupError, match="the queue is broken"):
            await anext(results)


def test_a_job_that_cannot_be_sent_as_utf8_does_not_hold_up_the_others(client, fleet):
    fleet.answers["BatchSubmitJobs"] = accepted
    jobs = [NewJob("email", {"n": 0}), NewJob("email", {"n": "\ud800"}), NewJob("email", {}, tenant="\udfff"), NewJob("email", {"n": 3})]
    results = client.call("submit_many", jobs)
    assert [isinstance(result.error, InvalidRequest) for result in results] == [False, True, True, False]
    with pytest.raises(InvalidRequest, match="UTF-8"):
        client.call("submit", "email", {"n": "\ud800"})


def test_what_is_no_job_is_refused_with_what_is_one(client):
    with pytest.raises(TypeError, match=r'NewJob\("email", .*not tuple'):
        client.call("submit_many", [("email", {})])

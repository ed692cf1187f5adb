"""How jobs are divided into calls, and what of a call is sent again."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.client import BreakerState, InvalidRequest, NewJob
from sickbay.client.batches import BATCH_JOBS, Batch, Divider, Item, Outgoing, divide
from sickbay.client.retry import Retries
from sickbay.contract.faults import Fault
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsResponse, BatchSubmitResult, SubmitJobRequest
from sickbay.server.errors import batch_error

BAD = Fault(grpc.StatusCode.INVALID_ARGUMENT, "no such thing", "INVALID_FIELD")
BUSY = Fault(grpc.StatusCode.UNAVAILABLE, "busy", "BACKEND_UNAVAILABLE", 1.0)
OPEN = Fault(grpc.StatusCode.UNAVAILABLE, "open", "CIRCUIT_OPEN", 1.0)


def full(wait: float) -> Fault:
    return Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "SUBMISSION_RATE_EXCEEDED", wait)


def batch(count: int, **options) -> Batch:
    given_ = {"begun": 0.0, "timeout": 10.0, "is_safe": True, "jitter": lambda _: 0.0}
    return Batch([SubmitJobRequest(job_type=f"t{number}") for number in range(count)], Retries(**given_ | options))


def reply(*results: str | Fault) -> BatchSubmitJobsResponse:
    made = [BatchSubmitResult(error=batch_error(one)) if isinstance(one, Fault) else BatchSubmitResult(job_id=one) for one in results]
    return BatchSubmitJobsResponse(results=made)


def sent(one: Batch) -> list[str]:
    return [request.job_type for request in one.request().requests]


def got(one: Batch) -> list[str | Fault]:
    return [result if isinstance(result, Fault) else result.job_id for result in one.results]


@given(st.lists(st.integers(0, 12)), st.integers(1, 5), st.integers(1, 20))
def test_batches_keep_order_number_and_size(sizes, most_items, most_bytes):
    divider: Divider[tuple[int, int]] = Divider(most_items, most_bytes)
    batches = [full for item in enumerate(sizes) if (full := divider.add(item, item[1]))]
    batches += [divider.rest()] if sizes else []
    assert [item for one in batches for item in one] == list(enumerate(sizes))
    for one in batches:
        assert len(one) <= most_items
        assert len(one) == 1 or sum(size for _, size in one) <= most_bytes
    assert list(divider.rest()) == []


def test_the_input_is_read_as_far_as_it_is_needed():
    read = []

    def jobs():
        for number in range(5 * BATCH_JOBS):
            read.append(number)
            yield NewJob("email", {"n": number})

    batches = divide(jobs())
    assert len(next(batches)) == BATCH_JOBS
    assert len(read) == BATCH_JOBS + 1


def test_what_was_read_before_an_error_is_still_a_batch():
    def jobs():
        yield NewJob("email", {})
        raise OSError

    batches = divide(jobs())
    assert len(next(batches)) == 1
    with pytest.raises(OSError):  # noqa: PT011 - any
        next(batches)


def test_every_job_has_a_key_of_its_own_and_keeps_the_users():
    items = [Item.of(NewJob("email", {}, request_id=key)) for key in ("", "", "mine")]
    keys = [item.request.request_id for item in items]
    assert len({*keys}) == 3
    assert keys[2] == "mine"
    assert [item.job.request_id for item in items] == keys


def test_only_what_may_succeed_later_is_sent_again():
    one = batch(4)
    one.receive(reply("id-0", BUSY, BAD, OPEN), 0.0)
    assert one.pause(0.0) == 1.0
    assert sent(one) == ["t1"]
    one.receive(reply("id-1"), 1.0)
    assert (one.pause(1.0), list(one.due)) == (0.0, [])
    assert got(one) == ["id-0", "id-1", BAD, OPEN]


def test_a_failed_call_is_sent_again_and_then_the_error_of_each():
    one = batch(2, timeout=1.5)
    one.fail(BUSY, 0.0)
    assert one.pause(0.0) == 1.0
    assert sent(one) == ["t0", "t1"]
    one.fail(BUSY, 1.0)
    assert one.pause(1.0) == 0.0
    assert (list(one.due), got(one)) == ([], [BUSY, BUSY])


def test_limits_are_errors_unless_the_user_waits_for_them():
    one = batch(2)
    one.receive(reply("id-0", full(0.5)), 0.0)
    one.pause(0.0)
    assert (list(one.due), got(one)) == ([], ["id-0", full(0.5)])


def test_jobs_that_wait_for_room_are_sent_when_they_are_due_some_together():
    """Those within a second of the first go with it; the third keeps its time."""
    one = batch(3, room_s=60.0)
    one.receive(reply(full(0.2), full(0.9), full(5.0)), 0.0)
    assert one.pause(0.0) == 1.0
    assert sent(one) == ["t0", "t1"]
    one.receive(reply("id-0", "id-1"), 1.0)
    assert one.pause(1.0) == 4.0
    assert sent(one) == ["t2"]
    one.receive(reply("id-2"), 5.0)
    one.pause(5.0)
    assert got(one) == ["id-0", "id-1", "id-2"]


def test_waiting_ends():
    one = batch(2, room_s=3.0)
    one.receive(reply(full(2.0), BUSY), 0.0)
    assert one.pause(0.0) == 2.0
    assert sent(one) == ["t0", "t1"]
    one.receive(reply(full(2.0), "id-1"), 2.0)
    one.pause(2.0)
    assert (list(one.due), got(one)) == ([], [full(2.0), "id-1"])


def test_results_are_those_of_the_jobs_in_order():
    """One that cannot be written is not sent; the notice about a breaker is that of its job."""
    jobs = [NewJob("email", {"n": 1}), NewJob("email", {"n": {1}}), NewJob("sms", "{}")]
    one = Outgoing([Item.of(job) for job in jobs], Retries(0.0, None, is_safe=True))
    assert sent(one.batch) == ["email", "sms"]
    answer = reply("id-0", BAD)
    answer.results[0].breaker.state = 2
    answer.results[0].breaker.note = "it waits"
    answer.results[0].duplicate = True
    one.batch.receive(answer, 0.0)
    one.batch.pause(0.0)
    first, second, third = one.results(lambda fault: fault)
    assert (first.accepted, first.job_id, first.duplicate, first.breaker.note) == (True, "id-0", True, "it waits")
    assert first.breaker.state is BreakerState.OPEN
    assert (second.accepted, second.job_id, type(second.error)) == (False, "", InvalidRequest)
    assert (third.accepted, str(third.error), third.job.job_type) == (False, "no such thing", "sms")
    assert (first.job.payload, second.job.payload) == ({"n": 1}, {"n": {1}})

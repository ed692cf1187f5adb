"""Both clients against a server that answers as the test says: faults, repeats, lists."""

from __future__ import annotations

import pytest

from sickbay.client import (
    CircuitOpen,
    InvalidRequest,
    JobState,
    LimitReached,
    NotFound,
    OnOpen,
    Unavailable,
)
from sickbay.jobs.v1 import job_pb2
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1 import quarantine_service_pb2 as quarantine_pb
from tests.support.cli_services import BUSY, JOB_ID, NOT_FOUND, case, job
from tests.support.client_answers import AWAY, BEGUN, FULL, OPEN, one_by_one


def test_a_submit_is_sent_again_with_the_same_key(client, fleet, sleeps):
    fleet.answers["SubmitJob"] = one_by_one(BUSY, AWAY, BEGUN, pb.SubmitJobResponse(job=job()))
    done = client.call("submit", "email", {"to": "ä"}, tenant="acme", priority="high", on_open=OnOpen.PARK)
    assert (done.job_id, done.state, done.duplicate, done.breaker) == (JOB_ID, JobState.QUEUED, False, None)
    assert {request.request_id for request in fleet.requests} == {done.request_id}
    assert len(done.request_id) == 36
    sent = fleet.requests[-1]
    assert (sent.payload_json, sent.tenant, sent.priority, sent.on_open) == ('{"to":"ä"}', "acme", job_pb2.PRIORITY_HIGH, pb.ON_OPEN_PARK)
    assert len(sleeps.slept) == 3
    assert [wait >= least for wait, least in zip(sleeps.slept, (2.0, 0.0, 1.0), strict=True)] == [True] * 3


def test_two_submits_have_two_keys_unless_the_user_gives_one(client, fleet):
    fleet.answers["SubmitJob"] = pb.SubmitJobResponse(job=job(), duplicate=True)
    for key in ("", "", "mine"):
        assert client.call("submit", "email", "{}", request_id=key).duplicate
    first, second, third = (request.request_id for request in fleet.requests)
    assert first != second
    assert third == "mine"


def test_the_last_error_is_raised_when_the_time_is_over(client, fleet, sleeps):
    fleet.answers["GetJob"] = BUSY
    with pytest.raises(Unavailable, match="the broker does not answer") as caught:
        client.call("get", JOB_ID, timeout=5.0)
    assert (caught.value.reason, caught.value.code, caught.value.retry_after) == ("BACKEND_UNAVAILABLE", "UNAVAILABLE", 2.0)
    assert 2 <= len(fleet.calls) <= 3
    assert sum(sleeps.slept) < 5.0


@pytest.mark.parametrize(("fault", "error"), [(OPEN, CircuitOpen), (FULL, LimitReached)])
def test_what_the_user_must_decide_is_raised_at_once(client, fleet, sleeps, fault, error):
    fleet.answers["SubmitJob"] = fault
    with pytest.raises(error) as caught:
        client.call("submit", "email", {}, on_open="REJECT")
    assert (caught.value.reason, caught.value.retry_after) == (fault.reason, fault.retry_after)
    assert (len(fleet.calls), sleeps.slept) == (1, [])


def test_a_limit_is_waited_for_if_the_user_wants_it(client, fleet, sleeps):
    fleet.answers["SubmitJob"] = one_by_one(FULL, FULL, pb.SubmitJobResponse(job=job()))
    assert client.call("submit", "email", {}, wait_for_limits=True).job_id == JOB_ID
    assert sleeps.slept == [2.0, 2.0]


@pytest.mark.parametrize(("method", "rpc"), [("quarantine.resubmit", "ResubmitJob"), ("quarantine.discard", "DiscardJob")])
def test_what_is_not_safe_is_sent_once(client, fleet, sleeps, method, rpc):
    fleet.answers[rpc] = AWAY
    with pytest.raises(Unavailable):
        client.call(method, JOB_ID)
    assert ([name for name, _ in fleet.calls], sleeps.slept) == ([rpc], [])


def test_errors_have_the_words_of_the_service(client, fleet):
    fleet.answers["CancelJob"] = NOT_FOUND
    with pytest.raises(NotFound, match="there is no such job") as caught:
        client.call("cancel", JOB_ID)
    assert caught.value.__cause__ is None


def test_an_argument_that_cannot_be_sent(client, fleet):
    for options, words in (({"priority": "urgent"}, "priority: 'urgent' is none of HIGH, NORMAL, LOW"), ({"on_open": "hold"}, "on_open")):
        with pytest.raises(InvalidRequest, match=words):
            client.call("submit", "email", {}, **options)
    with pytest.raises(InvalidRequest, match="duration_s"):
        client.call("breakers.force_open", "email", duration_s=-1)
    assert fleet.calls == []


def test_a_list_is_read_page_by_page(client, fleet):
    pages = {"": (["a", "b"], "next"), "next": (["c"], "")}

    def answer(request: pb.ListJobsRequest) -> pb.ListJobsResponse:
        ids, token = pages[request.page_token]
        return pb.ListJobsResponse(jobs=[job(one) for one in ids], next_page_token=token)

    fleet.answers["ListJobs"] = answer
    found = client.call("list", job_type="email", states=["PARKED", JobState.QUEUED], page_size=2)
    assert [one.job_id for one in found] == ["a", "b", "c"]
    assert [(one.page_size, one.page_token) for one in fleet.requests] == [(2, ""), (2, "next")]
    assert fleet.requests[0].states == [job_pb2.Job.STATE_PARKED, job_pb2.Job.STATE_QUEUED]
    assert [one.job_id for one in client.some(2, "list")] == ["a", "b"]
    assert len(fleet.calls) == 3, "the next page is fetched when it is needed"
    assert len(client.call("list", limit=2)) == 2
    assert fleet.requests[-1].page_size == 2


def test_quarantine_and_its_filters(client, fleet):
    fleet.answers["ListQuarantinedJobs"] = quarantine_pb.ListQuarantinedJobsResponse(jobs=[case()], total_size=1)
    (found,) = client.call("quarantine.list", state="quarantined", reason="RETRIES_EXHAUSTED", min_age_s=1.5)
    assert (found.job_id, found.etag) == (JOB_ID, f"etag-{JOB_ID}")
    assert fleet.requests[0].min_age.ToMilliseconds() == 1_500
    fleet.answers["ResubmitJob"] = quarantine_pb.ResubmitJobResponse(job=job())
    client.call("quarantine.resubmit", JOB_ID, payload={"to": "b"}, etag=found.etag, actor="ada")
    sent = fleet.requests[-1]
    assert (sent.payload_json, sent.etag, sent.actor) == ('{"to":"b"}', found.etag, "ada")
    client.call("quarantine.resubmit", JOB_ID)
    assert fleet.requests[-1].WhichOneof("content") is None


@pytest.mark.parametrize(("method", "rpc"), [("reset", "ResetBreaker"), ("force_open", "ForceOpenBreaker"), ("probe", "ProbeBreaker")])
def test_commands_of_breakers_are_safe_to_repeat(client, fleet, method, rpc):
    from sickbay.breakers.v1 import breaker_pb2, breaker_service_pb2

    reply = getattr(breaker_service_pb2, f"{rpc}Response")(breaker=breaker_pb2.Breaker(job_type="email", state=2))
    fleet.answers[rpc] = one_by_one(AWAY, reply)
    assert client.call(f"breakers.{method}", "email").state == "OPEN"

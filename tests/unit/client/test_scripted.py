"""Both clients against a server that answers as the test says: faults, repeats, deadlines, broken watches, and how much is on its way."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import trustme

from sickbay.client import (
    TLS,
    CircuitOpen,
    DeadlineExceeded,
    InvalidRequest,
    JobState,
    LimitReached,
    NewJob,
    NotFound,
    OnOpen,
    ServerFault,
    Unavailable,
)
from sickbay.contract.faults import Fault
from sickbay.jobs.v1 import job_pb2
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1 import quarantine_service_pb2 as quarantine_pb
from sickbay.server.errors import batch_error
from tests.support.canned_services import closed_port
from tests.support.cli_services import BUSY, JOB_ID, NOT_FOUND, Fleet, case, job
from tests.support.client_pair import IDS, PAIRS, BlockingPair, Sleeps

OPEN = Fault(grpc.StatusCode.UNAVAILABLE, "the circuit is open", "CIRCUIT_OPEN", 30.0)
FULL = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "the limit is reached", "SUBMISSION_RATE_EXCEEDED", 2.0)
BEGUN = Fault(grpc.StatusCode.ABORTED, "the first is in progress", "REQUEST_IN_PROGRESS", 1.0)
AWAY = Fault(grpc.StatusCode.UNAVAILABLE, "the connection was reset")


@pytest.fixture(params=PAIRS, ids=IDS)
def kind(request) -> type[BlockingPair]:
    return request.param


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet() as started:
        yield started


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
def client(kind, fleet, sleeps) -> Iterator[BlockingPair]:
    with kind(fleet.address, control_plane=fleet.address, sleeps=sleeps) as pair:
        yield pair


def one_by_one(*answers: object) -> object:
    left = iter(answers)
    return lambda _request: next(left)


def update(state: str, token: str) -> pb.WatchJobResponse:
    return pb.WatchJobResponse(job=job(state=state), resume_token=token)


def accepted(request: pb.BatchSubmitJobsRequest) -> pb.BatchSubmitJobsResponse:
    return pb.BatchSubmitJobsResponse(results=[pb.BatchSubmitResult(job_id=f"id-{one.payload_json}") for one in request.requests])


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


def test_a_server_that_is_no_job_api(client, fleet):
    with pytest.raises(ServerFault, match=f"the server at {fleet.address} is not a Job API of this version"):
        client.call("explain", JOB_ID)


def test_nobody_listens(kind, sleeps):
    address = f"127.0.0.1:{closed_port()}"
    with kind(address, sleeps=sleeps) as client, pytest.raises(Unavailable, match=f"no connection to the Job API at {address}") as caught:
        client.call("submit", "email", {}, timeout=1.0)
    assert caught.value.reason == ""


def test_an_argument_that_cannot_be_sent(client, fleet):
    for options, words in (({"priority": "urgent"}, "priority: 'urgent' is none of HIGH, NORMAL, LOW"), ({"on_open": "hold"}, "on_open")):
        with pytest.raises(InvalidRequest, match=words):
            client.call("submit", "email", {}, **options)
    with pytest.raises(InvalidRequest, match="duration_s"):
        client.call("breakers.force_open", "email", duration_s=-1)
    assert fleet.calls == []


def test_a_slow_server_and_the_deadline(kind, fleet):
    released = threading.Event()
    fleet.answers["GetJob"] = lambda _: released.wait(60) and pb.GetJobResponse(job=job())
    with kind(fleet.address, timeout=0.3) as client:
        with pytest.raises(DeadlineExceeded, match=r"the Job API at .* did not answer within 0.3 s"):
            client.call("get", JOB_ID)
        released.set()
    assert len(fleet.calls) == 1


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


def test_a_broken_watch_is_resumed_where_it_broke(client, fleet, sleeps):
    fleet.answers["WatchJob"] = one_by_one(
        [update("QUEUED", "1"), AWAY], [AWAY], [update("RUNNING", "2"), BUSY], [update("SUCCEEDED", "3")]
    )
    seen = client.call("watch", JOB_ID, resume_token="0")
    assert [(one.job.state, one.resume_token) for one in seen] == [("QUEUED", "1"), ("RUNNING", "2"), ("SUCCEEDED", "3")]
    assert [request.resume_token for request in fleet.requests] == ["0", "1", "1", "2"]
    assert len(sleeps.slept) == 3


def test_a_watch_is_not_resumed_for_ever(client, fleet, sleeps):
    """Not for longer than the caller wants, counted from the last message."""
    fleet.answers["WatchJob"] = one_by_one([update("QUEUED", "1"), BUSY], *itertools.repeat([BUSY], 99))
    with pytest.raises(Unavailable, match="the broker does not answer"):
        client.call("watch", JOB_ID, reconnect_for=20.0)
    assert 12.0 < sum(sleeps.slept) < 20.0
    fleet.answers["WatchJob"] = one_by_one([NOT_FOUND])
    with pytest.raises(NotFound):
        client.call("watch", JOB_ID)


def test_a_watch_has_a_deadline_if_the_caller_wants_one(kind, fleet):
    released = threading.Event()

    def answer(_request):
        yield update("PARKED", "1")
        released.wait(60)

    fleet.answers["WatchJob"] = answer
    with kind(fleet.address) as client:
        with pytest.raises(DeadlineExceeded, match=r"the watch did not end within 0.3 s"):
            client.call("wait", JOB_ID, timeout=0.3)
        released.set()


@pytest.mark.parametrize(
    ("states", "options", "ended"),
    [
        (["QUEUED", "PARKED", "SUCCEEDED"], {}, "SUCCEEDED"),
        (["RUNNING", "CANCELLED"], {}, "CANCELLED"),
        (["RUNNING", "QUARANTINED", "SUCCEEDED"], {}, "QUARANTINED"),
        (["RUNNING", "QUARANTINED", "SUCCEEDED"], {"even_if_quarantined": True}, "SUCCEEDED"),
    ],
)
def test_waiting_for_the_end(client, fleet, states, options, ended):
    fleet.answers["WatchJob"] = [update(state, str(number)) for number, state in enumerate(states)]
    assert client.call("wait", JOB_ID, **options).state == ended


def test_a_watch_that_ends_before_the_job(client, fleet):
    fleet.answers["WatchJob"] = [update("QUEUED", "1")]
    with pytest.raises(ServerFault, match="before the job had ended"):
        client.call("wait", JOB_ID)


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


def test_an_input_that_fails_after_its_results(client, fleet):
    fleet.answers["BatchSubmitJobs"] = accepted

    def jobs() -> Iterator[NewJob]:
        yield NewJob("email", {"n": 1})
        raise LookupError("the file is broken")

    with pytest.raises(LookupError, match="the file is broken"):
        client.call("submit_many", jobs())
    assert [request.requests[0].payload_json for request in fleet.requests] == ['{"n":1}']


def test_a_token_goes_with_each_call(kind, fleet):
    fleet.answers |= {"GetJob": pb.GetJobResponse(job=job()), "WatchJob": [update("SUCCEEDED", "1")], "BatchSubmitJobs": accepted}
    with kind(fleet.address, token="secret") as client:
        client.call("get", JOB_ID)
        client.call("watch", JOB_ID)
        client.call("submit_many", [NewJob("email", {})])
    assert [found["authorization"] for found in fleet.metadata] == ["Bearer secret"] * 3


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(kind, tmp_path, mutual):
    authority = trustme.CA()
    server, own = authority.issue_cert("localhost"), authority.issue_cert("ada@example.com")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())], authority.cert_pem.bytes(), mutual
    )
    tls = TLS(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem") if mutual else TLS(tmp_path / "ca.pem")
    with Fleet(credentials) as fleet:
        fleet.answers["GetJob"] = pb.GetJobResponse(job=job())
        with kind(fleet.address, tls=tls, token="secret") as client:
            assert client.call("get", JOB_ID).job_id == JOB_ID
        with kind(fleet.address, timeout=0.5) as plain, pytest.raises(Unavailable):
            plain.call("get", JOB_ID)
    assert [found["authorization"] for found in fleet.metadata] == ["Bearer secret"]


def test_a_client_can_be_used_by_several_threads(fleet):
    fleet.answers["GetJob"] = lambda request: pb.GetJobResponse(job=job(request.job_id))
    with BlockingPair(fleet.address) as client, ThreadPoolExecutor(4) as pool:
        ids = [str(number) for number in range(40)]
        assert [found.job_id for found in pool.map(client.client.get, ids)] == ids


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


def test_a_client_can_be_used_after_it_was_closed(client, fleet):
    """Closing ends connections; the next call opens them anew."""
    fleet.answers["GetJob"] = pb.GetJobResponse(job=job())
    client.call("get", JOB_ID)
    client.call("close") if client.kind.__name__ == "AsyncClient" else client.client.close()
    assert client.call("get", JOB_ID).job_id == JOB_ID


@pytest.mark.parametrize(("method", "rpc"), [("reset", "ResetBreaker"), ("force_open", "ForceOpenBreaker"), ("probe", "ProbeBreaker")])
def test_commands_of_breakers_are_safe_to_repeat(client, fleet, method, rpc):
    from sickbay.breakers.v1 import breaker_pb2, breaker_service_pb2

    reply = getattr(breaker_service_pb2, f"{rpc}Response")(breaker=breaker_pb2.Breaker(job_type="email", state=2))
    fleet.answers[rpc] = one_by_one(AWAY, reply)
    assert client.call(f"breakers.{method}", "email").state == "OPEN"

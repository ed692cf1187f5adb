"""One decision at both ports: what no caller, an unknown one and one without the right get, and what is open to everybody."""

import asyncio
import logging

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from benchmarks.raw_http2 import RawHttp2
from sickbay.contract.faults import received
from sickbay.domain.errors import Unauthenticated, Unavailable
from sickbay.domain.limits import Limits
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.ports.access import Credentials
from sickbay.server.access import attempts, control
from sickbay.server.access.attempts import FailedAttempts
from sickbay.server.access.control import Access, Exempt
from sickbay.server.access.interceptor import parse_authorization
from tests.support.guarded_service import bearer, doors, sent

BAD = ["Basic shop", "shop", "Bearer", "Bearer ", "Bearer shop shop", "Bearer sh\xf6p", "Bearer\tshop", "Bearer shop, Bearer shop", ""]


@pytest.fixture
async def door():
    async with doors() as found:
        yield found


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return received(caught.value)


@pytest.mark.parametrize("value", ["Bearer shop", "bearer shop", "BEARER  shop", " Bearer shop "])
def test_the_scheme_may_be_written_in_any_case(value):
    assert parse_authorization([value]) == "shop"


@pytest.mark.parametrize("values", [[one] for one in BAD] + [["Bearer a", "Bearer a"], [b"Bearer a"]])
def test_what_is_no_bearer_token_is_refused(values):
    with pytest.raises(Unauthenticated):
        parse_authorization(values)


async def test_over_grpc_a_call_is_served_refused_or_forbidden(door):
    request = pb.GetJobRequest(job_id="a")
    assert (await door.stub.GetJob(request, metadata=sent("shop"))).job.tenant == "shop"
    for metadata in ((), sent("nobody"), (("authorization", "Basic x"),), sent("shop") * 2):
        fault = await refusal(door.stub.GetJob(request, metadata=metadata))
        assert (fault.code, fault.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert "nobody" not in fault.message
    fault = await refusal(door.stub.SubmitJob(pb.SubmitJobRequest(), metadata=sent("probe")))
    assert (fault.code, fault.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert door.jobs.called == ["GetJob"]


async def test_over_rest_the_same_and_the_client_is_told_how_to_authenticate(door):
    answer = await door.rest.get("/jobs/a", headers=bearer("shop"))
    assert (answer.status_code, answer.json()["tenant"]) == (200, "shop")
    missing = await door.rest.get("/jobs/a")
    assert (missing.status_code, missing.json()["reason"]) == (401, "UNAUTHENTICATED")
    assert missing.headers["www-authenticate"] == "Bearer"
    unknown = await door.rest.get("/jobs/a", headers=bearer("nobody"))
    assert (unknown.status_code, unknown.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert unknown.headers["x-content-type-options"] == "nosniff"
    denied = await door.rest.post("/jobs", json={"jobType": "a", "payload": {}}, headers=bearer("probe"))
    assert (denied.status_code, denied.json()["reason"]) == (403, "PERMISSION_DENIED")
    assert "www-authenticate" not in denied.headers
    twice = await door.rest.get("/jobs/a", headers=[("Authorization", "Bearer shop"), ("authorization", "Bearer shop")])
    assert twice.status_code == 401


async def test_one_connection_serves_callers_one_after_the_other(door):
    """Nothing of a request is left for the next one of its connection."""
    for token, status in (("shop", 200), ("", 401), ("bank", 200), ("nobody", 401), ("shop", 200)):
        answer = await door.rest.get("/jobs/a", headers=bearer(token) if token else {})
        assert answer.status_code == status
        assert status != 200 or answer.json()["tenant"] == token


async def test_a_credential_elsewhere_than_in_its_header_is_none(door):
    assert (await door.rest.get("/jobs/a", headers={"cookie": "authorization=Bearer shop; access_token=shop"})).status_code == 401
    assert (await door.rest.get("/jobs/a?access_token=shop&authorization=Bearer%20shop&key=shop")).status_code == 401
    body = {"jobType": "a", "payload": {}, "access_token": "shop", "authorization": "Bearer shop"}
    assert (await door.rest.post("/jobs", json=body)).status_code == 401
    assert (await door.rest.get("/jobs/a", headers={"proxy-authorization": "Bearer shop", "x-api-key": "shop"})).status_code == 401


CLOSED = (
    *("/", "/jobs", "/docs", "/openapi.json", "/metrics", "/nothing", "//health", "/health/", "/health/../jobs", "/health%2Flive"),
    *("/%2e/health", "/HEALTH", "/health/live/..", "/static-offline-docs/swagger-ui.css", "/static-offline-docs/../jobs", "/health;a"),
)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
async def test_only_health_is_open(door, method):
    for path in CLOSED:
        answer = await door.rest.request(method, "/", extensions={"target": path.encode()})
        assert (path, answer.status_code) == (path, 401)


async def test_health_is_open_and_its_names_are_not_wider_than_itself(door):
    for path in ("/health", "/health/live", "/health/ready", "/%68ealth"):
        assert (await door.rest.get("/", extensions={"target": path.encode()})).status_code in {200, 503}
    stub = health_pb2_grpc.HealthStub(door.channel)
    assert (await stub.Check(health_pb2.HealthCheckRequest(service="liveness"))).status == 1
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="liveness"))
    assert (await watch.read()).status == 1
    watch.cancel()


async def reflected(door, metadata=()):
    stub = reflection_pb2_grpc.ServerReflectionStub(door.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), metadata=metadata)
    return [reply async for reply in call]


async def test_reflection_and_what_does_not_exist_are_for_principals(door):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reflected(door)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert await reflected(door, sent("probe"))
    for method in ("/sickbay.jobs.v1.JobService/Nothing", "/grpc.health.v2.Health/Check", "/nothing"):
        call = door.channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        assert (await refusal(call(b""))).code is grpc.StatusCode.UNAUTHENTICATED
        denied = (await refusal(call(b"", metadata=sent("shop")))).code
        assert denied is grpc.StatusCode.PERMISSION_DENIED  # it has no rule


async def test_what_is_exempt_is_open_and_nothing_else():
    async with doors([Exempt.METRICS, Exempt.DOCS, Exempt.REFLECTION]) as door:
        for path in ("/metrics", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"):
            assert (await door.rest.get(path)).status_code == 200
        for path in ("/jobs/a", "/jobs", "/static-offline-docs", "/docs/x"):
            assert (await door.rest.get(path)).status_code == 401
        assert await reflected(door)
        assert (await refusal(door.stub.GetJob(pb.GetJobRequest()))).code is grpc.StatusCode.UNAUTHENTICATED


async def test_metrics_need_the_right_to_view(door):
    assert (await door.rest.get("/metrics", headers=bearer("probe"))).status_code == 200
    assert (await door.rest.get("/metrics", headers=bearer("shop"))).status_code == 403
    assert (await door.rest.get("/docs", headers=bearer("shop"))).status_code == 200


async def test_a_stranger_s_message_is_not_awaited(door):
    """A call of which only the headers come is refused at once, not after GRPC_BODY_TIMEOUT."""
    with RawHttp2(door.grpc_port) as client:
        path = "/sickbay.jobs.v1.JobService/SubmitJob"
        calls = [client.open(path, *more) for more in ((), (("authorization", "Bearer nobody"),), (("authorization", "Bearer probe"),))]
        assert await asyncio.to_thread(client.until, lambda: all(map(client.ended, calls)))
    assert door.jobs.called == []


async def test_refusals_are_counted_and_logged_without_the_credential(door, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(3):
        await refusal(door.stub.GetJob(pb.GetJobRequest(), metadata=sent("s3cret-token")))
    await door.rest.get("/jobs/s3cret-token", headers=bearer("s3cret-token"))
    await door.rest.post("/jobs", json={"jobType": "a", "payload": {}}, headers=bearer("probe"))
    assert door.value("sickbay_access_refused_total", door="grpc", reason="UNAUTHENTICATED") == 3
    assert door.value("sickbay_access_refused_total", door="rest", reason="UNAUTHENTICATED") == 1
    assert door.value("sickbay_access_refused_total", door="rest", reason="PERMISSION_DENIED") == 1
    names = {"grpc_service": "sickbay.jobs.v1.JobService", "grpc_method": "GetJob"}
    assert door.value("grpc_server_handled_total", **names, grpc_code="UNAUTHENTICATED") == 3
    names["grpc_method"] = "SubmitJob"
    assert door.value("grpc_server_handled_total", **names, grpc_code="PERMISSION_DENIED") == 1
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("refused")]
    assert len(lines) == 2  # one for each source and reason
    assert all("s3cret" not in record.getMessage() for record in caplog.records if record.name.startswith("sickbay"))


async def test_failing_credentials_slow_down_only_those_that_fail(door, monkeypatch):
    """Behind one address: the rest of a flood is told to wait, and a good client is served in the middle of it."""
    monkeypatch.setattr(attempts, "BURST", 50)
    monkeypatch.setattr(attempts, "PER_S", 5.0)
    codes = [(await refusal(door.stub.GetJob(pb.GetJobRequest(), metadata=sent("nobody")))).code for _ in range(attempts.BURST + 20)]
    assert codes[: attempts.BURST] == [grpc.StatusCode.UNAUTHENTICATED] * attempts.BURST
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
    slow = await door.rest.get("/jobs/a", headers=bearer("nobody"))
    assert (slow.status_code, slow.headers["retry-after"]) == (429, "1")
    assert (await door.stub.GetJob(pb.GetJobRequest(), metadata=sent("shop"))).job.tenant == "shop"
    assert (await door.rest.get("/jobs/a", headers=bearer("shop"))).status_code == 200


def test_attempts_come_back_with_time_and_are_bounded_in_number(monkeypatch):
    monkeypatch.setattr(attempts, "BURST", 50)
    monkeypatch.setattr(attempts, "PER_S", 5.0)
    now, error = [0.0], Unauthenticated("no")
    one = FailedAttempts(lambda: now[0])
    assert [one.fail("10.0.0.1", error) is error for _ in range(attempts.BURST + 1)] == [True] * attempts.BURST + [False]
    assert one.fail("10.0.0.2", error) is error
    now[0] = 1.0
    assert [one.fail("10.0.0.1", error) is error for _ in range(6)] == [True] * 5 + [False]
    monkeypatch.setattr(attempts, "MOST_ADDRESSES", 10)
    for host in range(50):
        one.fail(f"10.1.0.{host}", error)
    assert len(one) <= 11


class Broken:
    def __init__(self, error=None):
        self.error = error

    async def authenticate(self, credentials):
        if self.error is None:
            await asyncio.Event().wait()
        raise self.error


@pytest.mark.parametrize("error", [None, RuntimeError("token s3cret"), ValueError("s3cret")])
async def test_an_authenticator_that_hangs_or_fails_ends_the_call_in_time(error, monkeypatch, caplog):
    monkeypatch.setattr(control, "TIMEOUT_S", 0.05)
    with pytest.raises(Unavailable):
        await Access([Broken(error)]).identify(Credentials("s3cret"))
    assert caplog.records
    assert all("s3cret" not in record.getMessage() for record in caplog.records if record.name.startswith("sickbay"))


async def test_of_several_authenticators_the_first_that_knows_decides_and_the_listeners_of_one_port_hear_of_it_alone():
    heard = []
    whole = Access([])
    whole.listen(lambda method, *_: heard.append(("whole", method)))
    one = whole.at_port(lambda method, *_: heard.append(("one", method)))
    whole.at_port(lambda method, *_: heard.append(("other", method)))
    with pytest.raises(Unauthenticated):
        await one.admit("/a/B", Credentials("x"))
    assert heard == [("one", "/a/B"), ("whole", "/a/B")]


async def test_watches_are_counted_by_principal_at_both_ports():
    async with doors(limits=Limits(watches_per_peer=1)) as door:
        first = door.stub.WatchJob(pb.WatchJobRequest(job_id="a"), metadata=sent("shop"))
        await first.read()
        assert (await door.rest.get("/jobs/a/events", headers=bearer("shop"))).json()["reason"] == "TOO_MANY_WATCHES"
        second = door.stub.WatchJob(pb.WatchJobRequest(job_id="a"), metadata=sent("shop"))
        fault = await refusal(second.read())
        assert (fault.reason, "of shop" in fault.message) == ("TOO_MANY_WATCHES", True)
        async with door.rest.stream("GET", "/jobs/a/events", headers=bearer("bank")) as events:
            assert events.status_code == 200
        first.cancel()


async def test_without_access_control_everybody_is_served_and_nothing_is_added():
    async with doors(is_guarded=False) as door:
        assert (await door.stub.GetJob(pb.GetJobRequest())).job.tenant == "anybody"
        assert (await door.rest.get("/jobs/a", headers=bearer("nobody"))).status_code == 200
        assert (await door.rest.options("/jobs")).status_code == 204
        assert door.value("sickbay_access_refused_total", door="grpc", reason="UNAUTHENTICATED") is None

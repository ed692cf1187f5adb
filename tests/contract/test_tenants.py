"""Every RPC and every REST route, called by one tenant about what another one has: the answer is that for what does not exist.

On the embedded back ends and on the servers, with breakers that tenants share and with breakers of their own.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from sickbay.contract.access import RULES
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.schedule import ScheduleQuery
from sickbay.runtime.backends import open_control_plane, open_jobapi, open_up
from sickbay.runtime.settings import Settings
from sickbay.server.rest.transcoding.routes import routes_of
from tests.support.contract_files import contract_files
from tests.support.isolated_servers import own_corner
from tests.support.two_tenants import NOBODYS, OURS, SCHEDULE, THEIRS, TYPE, serve_both

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATES = ("scheduled", "queued", "running", "retrying", "parked", "quarantined", "succeeded", "cancelled", "discarded")
NO_JOB = "no-such-job"
NO_INCIDENT = "987654"
BY_JOB = (
    *("GetJob", "ExplainJob", "WatchJob", "CancelJob", "GetQuarantinedJob", "ResubmitJob", "DiscardJob"),
    *("GetScheduledJob", "UpdateScheduledJob", "RunScheduledJob", "CancelScheduledJob"),
)
ALSO = {"UpdateScheduledJob": {"priority": "PRIORITY_HIGH"}}
"""What a request needs beside the name of its target, also in the body of REST, where an enum has no prefix."""
BY_INCIDENT = ("GetIncident", "AcknowledgeIncident")
READ_BREAKER = ("GetBreaker", "ExplainBreaker")
CHANGE_BREAKER = ("ResetBreaker", "ForceOpenBreaker", "DisableBreaker", "SetBreakerMetricsOnly", "SetBreakerAuto", "ProbeBreaker")
LISTS = (
    *("ListJobs", "ListScheduledJobs", "ListQuarantinedJobs", "ListFailureGroups", "RequeueJobs", "ListIncidents", "ListBreakers"),
    "ListWorkers",
)
FOR_ALL = ("GetMetrics", "Work")
OF_NO_TENANT = ("ListJobTypes", "GetJobType")
SUBMITS = ("SubmitJob", "BatchSubmitJobs")
FOR_ADMINS = ("ListAuditEntries",)
WALKED = {*FOR_ADMINS, *BY_JOB, *BY_INCIDENT, *READ_BREAKER, *CHANGE_BREAKER, *LISTS, *FOR_ALL, *OF_NO_TENANT, *SUBMITS, "WatchBreakers"}
READ_SCHEDULE = ("GetSchedule", "ListScheduleRuns")
CHANGE_SCHEDULE = ("UpdateSchedule", "DeleteSchedule", "PauseSchedule", "ResumeSchedule", "TriggerSchedule", "BackfillSchedule")
WALKED |= {*READ_SCHEDULE, *CHANGE_SCHEDULE, "CreateSchedule", "ListSchedules"}

FILES = [import_module(name.replace("/", ".").replace(".proto", "_pb2")).DESCRIPTOR for name in contract_files()]
SERVICES = [service for file in FILES for service in file.services_by_name.values()]
RPCS = {rpc.name: rpc for service in SERVICES for rpc in service.methods}
ROUTES = [route for service in SERVICES for route in routes_of(service)]


async def test_the_walk_goes_through_every_rpc() -> None:
    assert {f"/{rpc.containing_service.full_name}/{name}" for name, rpc in RPCS.items()} == RULES.keys()
    assert RPCS.keys() == WALKED, "a new RPC needs a place in this walk"
    assert {route.rpc.name for route in ROUTES} == RPCS.keys() - {"Work"}


@pytest.fixture(scope="module", params=["reads"])
def use(request):
    """Walks of the same use share a pair of services: those that only read or are refused (if not marked), and those that only add.

    One that changes what there is has a pair of its own. Pytest puts walks of one use next to each other, in whatever order they come.
    """
    return request.param


adds = pytest.mark.parametrize("use", ["adds"], indirect=True)


def changes(test):
    """Marks a walk that has a pair of its own."""
    return pytest.mark.parametrize("use", [test.__name__], ids=["changes"], indirect=True)(test)


@pytest.fixture(scope="module", params=["type", "tenant"])
def scope(request):
    return request.param


@pytest.fixture(scope="module", params=["embedded", pytest.param("fleet", marks=pytest.mark.servers)])
def opened(request, scope, use, tmp_path_factory):
    """What opens the parts of both services, with nothing in them."""
    if request.param == "embedded":
        yield lambda: _embedded(tmp_path_factory.mktemp(use), scope)
    else:
        with own_corner() as corner:
            yield lambda: _fleet(corner, scope)


@asynccontextmanager
async def _embedded(folder, scope):
    async with open_up(Settings.read(breaker_scope=scope), folder) as parts:
        yield parts, parts


@asynccontextmanager
async def _fleet(corner, scope):
    urls = {"rabbitmq_url": corner.rabbitmq, "redis_url": corner.redis, "database_url": corner.postgres}
    settings = Settings.read(breaker_scope=scope, **urls)
    async with open_control_plane(settings) as plane:
        await plane.ready()
        async with open_jobapi(settings) as api:
            await api.ready()
            yield api, plane


class Walk:
    """Calls anything as anybody."""

    def __init__(self, system, jobs, plane, http):
        self.system, self._channels, self._http = system, {True: jobs, False: plane}, http

    def _in_job_api(self, rpc):
        return rpc.containing_service.name in {"JobService", "JobTypeService"}

    async def call(self, token, name, **fields):
        """The reply, or (code, words, reason); of a stream the first message."""
        rpc = RPCS[name]
        channel = self._channels[self._in_job_api(rpc)]
        made = channel.unary_stream if rpc.server_streaming else channel.unary_unary
        request, reply = GetMessageClass(rpc.input_type), GetMessageClass(rpc.output_type)
        path = f"/{rpc.containing_service.full_name}/{name}"
        call = made(path, request.SerializeToString, reply.FromString)(
            request(**fields, **ALSO.get(name, {})), metadata=[("authorization", f"Bearer {token}")], timeout=20
        )
        try:
            return await call.read() if rpc.server_streaming else await call
        except grpc.aio.AioRpcError as error:
            status = rpc_status.from_call(_Ended(error))
            return error.code(), error.details(), tuple(str(one.value) for one in status.details) if status else ()
        finally:
            call.cancel()

    async def rest(self, token, route, **fields):
        """(status, body) of a route whose variables and query are among the fields."""
        path, query = route.path, {}
        for name, value in fields.items():
            field = route.rpc.input_type.fields_by_name[name]
            if route.place(field) == "path":
                path = path.replace(f"{{{field.json_name}}}", str(value))
            elif route.place(field) == "query":
                query[field.json_name] = value
        where = self.system.jobs if self._in_job_api(route.rpc) else self.system.plane
        also = {name: value.removeprefix(f"{name.upper()}_") for name, value in ALSO.get(route.rpc.name, {}).items()}
        body = {"json": also} if route.body else {}
        headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
        if route.rpc.server_streaming:
            headers["accept"] = "text/event-stream"
        url = f"http://127.0.0.1:{where.rest_port}{path}"
        async with self._http.stream(route.verb, url, params=query, headers=headers, **body) as response:
            if response.headers["content-type"].startswith("text/event-stream"):
                text = ""
                async for part in response.aiter_text():
                    text += part
                    if "data:" in text:
                        break
                return response.status_code, text
            return response.status_code, (await response.aread()).decode()


class _Ended:
    """A call that has ended, as grpc_status wants it."""

    def __init__(self, error):
        self.code, self.details, self.trailing_metadata = error.code, error.details, error.trailing_metadata


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walk(opened):
    async with AsyncExitStack() as stack:
        api, plane = await stack.enter_async_context(opened())
        system = await stack.enter_async_context(serve_both(api, plane))
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{one.grpc_port}")) for one in (system.jobs, system.plane)
        ]
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=20))
        yield Walk(system, *channels, http)


def leaks(answer) -> bool:
    return THEIRS in str(answer).lower()


def without(answer, *names):
    text = str(answer)
    for name in names:
        text = text.replace(name, "X")
    return text


async def test_what_another_tenant_has_is_not_there(walk):
    """By gRPC and by REST; and nothing of it has changed afterwards."""
    ids = [f"{THEIRS}-{state}" for state in STATES]
    planes = walk.system.planes
    before = [await walk.system.parts.reader.get(job_id) for job_id in ids]
    assert None not in before
    incident = str(walk.system.incidents[THEIRS])
    breakers = await _revisions(planes)
    cases = [(name, {"job_id": job_id}, {"job_id": NO_JOB}, (job_id, NO_JOB)) for name in BY_JOB for job_id in ids]
    cases += [(name, {"incident_id": incident}, {"incident_id": NO_INCIDENT}, (incident, NO_INCIDENT)) for name in BY_INCIDENT]
    cases += [
        (name, {"job_type": TYPE, "tenant": THEIRS}, {"job_type": TYPE, "tenant": NOBODYS}, (THEIRS, NOBODYS))
        for name in (*READ_BREAKER, *CHANGE_BREAKER)
    ]
    for name, foreign, absent, words in cases:
        answer, expected = await walk.call("ann", name, **foreign), await walk.call("ann", name, **absent)
        assert answer[0] is grpc.StatusCode.NOT_FOUND, (name, foreign)
        assert without(answer, *words) == without(expected, *words), name
        for route in (one for one in ROUTES if one.rpc.name == name):
            seen, wanted = await walk.rest("ann", route, **foreign), await walk.rest("ann", route, **absent)
            if route.rpc.server_streaming:  # a slow machine begins the stream before its error
                assert _message(seen, *words) == _message(wanted, *words), route.path
                continue
            assert seen[0] == 404, (route.path, foreign)
            assert without(seen, *words) == without(wanted, *words), route.path
    for job_id in ids:
        answer = await walk.call("ann", "RequeueJobs", job_ids=[job_id])
        assert without(answer, job_id) == without(await walk.call("ann", "RequeueJobs", job_ids=[NO_JOB]), NO_JOB)
        assert answer[0] is grpc.StatusCode.NOT_FOUND
    assert [await walk.system.parts.reader.get(job_id) for job_id in ids] == before
    assert (await planes.incidents.get_incident(int(incident))).acknowledged is None
    assert await _revisions(planes) == breakers


def _message(answer, *words):
    """What the error of a stream says, whether it is the answer or an event of it."""
    (message,) = re.findall(r'"statusCode":404,"message":"([^"]*)"', answer[1])
    return without(message, *words)


async def _revisions(planes):
    """Of the breakers that jobs ask; a control plane removes others now and then."""
    return {one.key: one.rev for one in await planes.breakers.snapshots() if planes.breaker_scope.is_in_use(one.key)}


@changes
async def test_the_owner_does_find_it(walk):
    """So what is hidden from others is really there."""
    for name in ("GetJob", "ExplainJob", "WatchJob"):
        for state in STATES:
            assert not isinstance(await walk.call("bob", name, job_id=f"{THEIRS}-{state}"), tuple), (name, state)
    for name in ("GetScheduledJob", "UpdateScheduledJob", "RunScheduledJob"):
        assert not isinstance(await walk.call("bob", name, job_id=f"{THEIRS}-scheduled"), tuple), name
    assert not isinstance(await walk.call("ann", "CancelScheduledJob", job_id=f"{OURS}-scheduled"), tuple)
    for name, state in (("GetQuarantinedJob", "parked"), ("DiscardJob", "parked"), ("ResubmitJob", "quarantined"), ("CancelJob", "queued")):
        assert not isinstance(await walk.call("bob", name, job_id=f"{THEIRS}-{state}"), tuple), name
    assert not isinstance(await walk.call("bob", "RequeueJobs", job_ids=[f"{THEIRS}-running"], validate_only=True), tuple)
    noted = await walk.call("bob", "AcknowledgeIncident", incident_id=str(walk.system.incidents[THEIRS]), actor="somebody else")
    assert noted.incident.acknowledgement.actor == "bbb-bob"


LISTED = {
    "ListScheduledJobs": {},
    "ListJobs": {},
    "ListQuarantinedJobs": {},
    "ListFailureGroups": {},
    "RequeueJobs": {"validate_only": True},
    "ListIncidents": {},
    "ListBreakers": {},
    "ListWorkers": {},
}


@pytest.mark.parametrize("name", LISTED)
async def test_lists_have_only_what_is_of_its_tenants(walk, name):
    fields = LISTED[name]
    mine, theirs = await walk.call("ann", name, **fields), await walk.call("bob", name, **fields)
    assert not leaks(mine)
    assert OURS not in str(theirs)
    is_shared = name == "ListBreakers" and walk.system.is_shared  # it names no tenant
    if not is_shared and name not in {"ListWorkers", "RequeueJobs"}:  # there are none, and nobody's job is old enough to be lost
        assert OURS in str(mine), "the own is there"
        assert leaks(theirs)
    foreign, absent = [await walk.call("ann", name, tenant=tenant, **fields) for tenant in (THEIRS, NOBODYS)]
    assert foreign == absent
    assert foreign == type(foreign)(), "an empty list"
    for route in (one for one in ROUTES if one.rpc.name == name):
        status, body = await walk.rest("ann", route)
        assert status == 200
        assert not leaks(body)


@changes
async def test_the_audit_log_has_only_what_is_of_its_tenants(walk):
    assert (await walk.call("ann", "ListAuditEntries"))[0] is grpc.StatusCode.PERMISSION_DENIED
    mine, theirs, whole = [await walk.call(who, "ListAuditEntries") for who in ("chief", "otherchief", "root")]
    assert [{one.tenant for one in reply.entries} for reply in (mine, theirs)] == [{OURS}, {THEIRS}]
    assert not leaks(mine)
    assert {one.tenant for one in whole.entries} == {OURS, THEIRS, ""}
    foreign, absent = [await walk.call("chief", "ListAuditEntries", tenant=tenant) for tenant in (THEIRS, NOBODYS)]
    assert foreign == absent == type(mine)()
    first = await walk.call("chief", "ListAuditEntries", page_size=1)
    assert len((await walk.call("chief", "ListAuditEntries", page_size=1, page_token=first.next_page_token)).entries) == 1
    stolen = await walk.call("root", "ListAuditEntries", page_size=1, page_token=first.next_page_token)
    assert stolen[0] is grpc.StatusCode.INVALID_ARGUMENT
    (route,) = (one for one in ROUTES if one.rpc.name == "ListAuditEntries")
    status, body = await walk.rest("chief", route)
    assert (status, leaks(body), OURS in body) == (200, False, True)


async def test_counts_are_of_its_tenants_alone(walk):
    assert (await walk.call("ann", "ListQuarantinedJobs")).total_size == 2
    assert (await walk.call("both", "ListQuarantinedJobs")).total_size == 4
    assert (await walk.call("root", "ListQuarantinedJobs")).total_size == 4
    assert [group.count for group in (await walk.call("ann", "ListFailureGroups")).groups] == [1, 1]
    mine, all_ = [(await walk.call(who, "ExplainBreaker", job_type=TYPE, tenant=OURS)).explanation for who in ("ann", "root")]
    assert mine.parked_jobs == 1
    assert all_.parked_jobs == (2 if walk.system.is_shared else 1)


@adds
async def test_page_tokens_belong_to_a_principal(walk):
    more = await walk.call("both", "SubmitJob", job_type=TYPE, payload_json="{}", tenant=OURS, delay={"seconds": 3_600})
    await walk.call("both", "GetScheduledJob", job_id=more.job.job_id)  # it has arrived
    for name in ("ListScheduledJobs", "ListJobs", "ListQuarantinedJobs", "ListFailureGroups", "ListBreakers"):
        first = await walk.call("both", name, page_size=1)
        if not first.next_page_token:
            assert name == "ListBreakers"
            assert walk.system.is_shared
            continue
        assert not isinstance(await walk.call("both", name, page_size=1, page_token=first.next_page_token), tuple)
        for other in ("ann", "root"):
            code, _, reason = await walk.call(other, name, page_size=1, page_token=first.next_page_token)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "INVALID_PAGE_TOKEN" in str(reason)


@changes
async def test_resume_tokens_of_others_lead_nowhere(walk):
    theirs = await walk.call("bob", "WatchJob", job_id=f"{THEIRS}-running")
    answer = await walk.call("ann", "WatchJob", job_id=f"{THEIRS}-running", resume_token=theirs.resume_token)
    assert answer[0] is grpc.StatusCode.NOT_FOUND
    seen = await walk.call("bob", "WatchBreakers")
    watching = asyncio.create_task(walk.call("ann", "WatchBreakers", resume_token=seen.resume_token))
    mine = {} if walk.system.is_shared else {"tenant": OURS}
    while not watching.done():  # so that there is something to send
        for name in ("DisableBreaker", "SetBreakerAuto"):
            await walk.call("root", name, job_type=TYPE, **mine)
    assert not leaks(watching.result())
    assert not isinstance(watching.result(), tuple)


@adds
async def test_only_jobs_of_its_own_tenants_are_submitted(walk):
    body = {"job_type": TYPE, "payload_json": "{}"}
    own = await walk.call("ann", "SubmitJob", **body)
    assert own.job.tenant == OURS, "which it need not name"
    foreign, absent = [await walk.call("ann", "SubmitJob", tenant=tenant, **body) for tenant in (THEIRS, NOBODYS)]
    assert foreign[0] is grpc.StatusCode.PERMISSION_DENIED
    assert without(foreign, THEIRS) == without(absent, NOBODYS)
    batch = await walk.call("ann", "BatchSubmitJobs", requests=[body, {**body, "tenant": THEIRS}, {**body, "tenant": OURS}])
    assert [bool(one.job_id) for one in batch.results] == [True, False, True]
    assert batch.results[1].error.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    several = await walk.call("both", "SubmitJob", **body)
    assert several[0] is grpc.StatusCode.PERMISSION_DENIED
    assert "name one of them" in several[1]
    fresh = await walk.call("bob", "SubmitJob", **body)
    answer = await walk.call("ann", "GetJob", job_id=fresh.job.job_id)
    assert answer[0] is grpc.StatusCode.NOT_FOUND, "also while only the Job API knows it"
    url = f"http://127.0.0.1:{walk.system.jobs.rest_port}/jobs:batch"
    items = {"jobs": [{"jobType": TYPE, "payload": {}, "tenant": tenant} for tenant in (OURS, THEIRS)]}
    reply = await walk._http.post(url, json=items, headers={"authorization": "Bearer ann"})
    assert (reply.status_code, reply.json()["accepted"], reply.json()["refused"]) == (202, 1, 1)


@adds
async def test_idempotency_keys_belong_to_a_principal(walk):
    async def submit(who, **fields):
        reply = await walk.call(who, "SubmitJob", job_type=TYPE, payload_json="{}", request_id="one key", tenant=OURS, **fields)
        return reply.job.job_id, reply.duplicate

    first, repeat = await submit("ann"), await submit("ann")
    assert repeat == (first[0], True)
    other = await submit("abe")
    assert other[0] != first[0]
    assert other[1] is False
    batch = [await walk.call(who, "BatchSubmitJobs", requests=[{"job_type": TYPE, "payload_json": "{}", "request_id": "k"}] * 2)
             for who in ("ann", "bob")]  # fmt: skip
    ids = [{one.job_id for one in reply.results} for reply in batch]
    assert [len(some) for some in ids] == [1, 1]
    assert ids[0].isdisjoint(ids[1])


async def test_what_concerns_all_tenants_is_for_those_who_have_all(walk):
    answer = await walk.call("ann", "GetMetrics")
    assert answer[0] is grpc.StatusCode.PERMISSION_DENIED
    assert "all tenants" in answer[1]
    assert not isinstance(await walk.call("root", "GetMetrics"), tuple)
    for endpoints in (walk.system.jobs, walk.system.plane):
        for accept in ("text/plain", "application/json"):
            url, headers = f"http://127.0.0.1:{endpoints.rest_port}/metrics", {"accept": accept}
            replies = [await walk._http.get(url, headers={**headers, "authorization": f"Bearer {who}"}) for who in ("ann", "root")]
            assert [reply.status_code for reply in replies] == [403, 200]
    rpc = RPCS["Work"]
    call = walk._channels[False].stream_stream(
        f"/{rpc.containing_service.full_name}/Work",
        GetMessageClass(rpc.input_type).SerializeToString,
        GetMessageClass(rpc.output_type).FromString,
    )(iter(()), metadata=[("authorization", "Bearer program")], timeout=20)
    with pytest.raises(grpc.aio.AioRpcError, match="Work concerns all tenants"):
        await call.read()


@changes
async def test_a_shared_breaker_is_shown_without_what_is_of_others_and_changed_by_those_who_have_all(walk):
    shown = (await walk.call("ann", "GetBreaker", job_type=TYPE)).breaker
    told = await walk.call("ann", "ExplainBreaker", job_type=TYPE)
    explained = await walk.call("ann", "ExplainJob", job_id=f"{OURS}-parked")
    refused = await walk.call("ann", "SubmitJob", job_type=TYPE, payload_json="{}", on_open="ON_OPEN_REJECT")
    assert refused[0] is grpc.StatusCode.UNAVAILABLE
    assert shown.redacted is walk.system.is_shared
    assert not any(map(leaks, (shown, told, explained, refused)))
    assert OURS not in str(refused) or not walk.system.is_shared
    everything = (await walk.call("root", "GetBreaker", job_type=TYPE, tenant=THEIRS)).breaker
    assert everything.forced_by == "bbb-ada"
    assert not everything.redacted
    for name in CHANGE_BREAKER:
        if walk.system.is_shared:
            answer = await walk.call("ann", name, job_type=TYPE)
            assert answer[0] is grpc.StatusCode.PERMISSION_DENIED, name
            assert "the breaker of email concerns all tenants" in answer[1]
        else:
            assert not isinstance(await walk.call("ann", "ForceOpenBreaker", job_type=TYPE), tuple)
            answer = await walk.call("ann", name, job_type=TYPE)
            assert not isinstance(answer, tuple) or answer[0] is grpc.StatusCode.FAILED_PRECONDITION, name
    if not walk.system.is_shared:
        held = (await walk.call("ann", "ForceOpenBreaker", job_type=TYPE, actor="somebody else")).breaker
        assert (held.tenant, held.forced_by) == (OURS, "ann")
        (theirs,) = await walk.system.planes.breakers.snapshots([BreakerKey(TYPE, THEIRS)])
        assert theirs.forced_by == "bbb-ada"


async def test_the_incident_of_a_shared_breaker_is_shown_without_what_is_of_others(walk):
    shared = str(walk.system.incidents["default"])
    answer = await walk.call("ann", "GetIncident", incident_id=shared)
    noted = await walk.call("ann", "AcknowledgeIncident", incident_id=shared, note="mine")
    whole = (await walk.call("root", "GetIncident", incident_id=shared)).incident
    assert leaks(whole.cause)
    assert whole.acknowledgement.actor == "bbb-ada"
    if walk.system.is_shared:
        assert answer.incident.redacted
        assert answer.incident.cause.code == whole.cause.code
        assert answer.incident.acknowledgement.HasField("time")
        assert noted[0] is grpc.StatusCode.PERMISSION_DENIED
    else:
        assert answer[0] is noted[0] is grpc.StatusCode.NOT_FOUND, "it is of the tenant `default`"
    assert not leaks(answer)


@changes
async def test_watches_of_breakers_have_only_those_of_its_tenants(walk):
    """Until one of its own has changed: by then others would have been sent."""
    rpc = RPCS["WatchBreakers"]
    request, reply = GetMessageClass(rpc.input_type), GetMessageClass(rpc.output_type)
    path = f"/{rpc.containing_service.full_name}/WatchBreakers"
    call = walk._channels[False].unary_stream(path, request.SerializeToString, reply.FromString)(
        request(), metadata=[("authorization", "Bearer ann")]
    )
    seen = [await call.read()]
    for tenant in (THEIRS, OURS):
        changed = await walk.call("root", "DisableBreaker", job_type=TYPE, **({} if walk.system.is_shared else {"tenant": tenant}))
    async with asyncio.timeout(20):
        while seen[-1].breaker.rev < changed.breaker.rev or seen[-1].breaker.state != changed.breaker.state:
            seen.append(await call.read())
    call.cancel()
    assert not leaks(seen)
    assert {one.breaker.tenant for one in seen} <= {OURS, "default"}


async def test_payloads_and_results_are_a_right_apart(walk):
    case, job = f"{OURS}-quarantined", f"{OURS}-succeeded"
    hidden = (await walk.call("viewer", "GetQuarantinedJob", job_id=case)).job
    assert (hidden.payload_hidden, hidden.payload_json) == (True, "")
    shown = (await walk.call("ann", "GetQuarantinedJob", job_id=case)).job
    assert (shown.payload_hidden, shown.payload_json) == (False, '{"secret":"aaa"}')
    for who, found in (("viewer", (True, "")), ("ann", (False, '"aaa"'))):
        for name in ("GetJob", "WatchJob"):
            reply = (await walk.call(who, name, job_id=job)).job
            assert (reply.result_hidden, reply.result_json) == found, name
    status, body = await walk.rest("viewer", next(one for one in ROUTES if one.rpc.name == "GetQuarantinedJob"), job_id=case)
    assert (status, json.loads(body)["payloadHidden"]) == (200, True)
    status, body = await walk.rest("viewer", next(one for one in ROUTES if one.rpc.name == "GetJob"), job_id=job)
    assert (status, json.loads(body)["resultHidden"]) == (200, True)


async def test_types_of_jobs_are_of_no_tenant(walk):
    answers: Any = [await walk.call(who, "ListJobTypes") for who in ("ann", "bob")]
    assert answers[0] == answers[1]
    assert not leaks(answers[0])
    unknown = [await walk.call(who, "GetJobType", job_type="nothing") for who in ("ann", "bob")]
    assert unknown[0] == unknown[1]
    assert unknown[0][0] is grpc.StatusCode.NOT_FOUND


# Schedules. Each tenant has one of the same name, and one that only it has.


def of_schedule(name, schedule_id, **more):
    """A request about a schedule, with what the RPC needs beside its name."""
    if name == "UpdateSchedule":
        more["spec"] = {"job_type": TYPE, "cron": "0 4 * * *"}
    if name == "BackfillSchedule":
        more |= {"start_time": {"seconds": 1_700_000_000}, "end_time": {"seconds": 1_700_003_600}}
    return {"schedule_id": schedule_id, **more}


async def _schedules(planes):
    """All that is kept of them."""
    page = await planes.schedules.list_schedules(ScheduleQuery(), 100, "")
    return [(one, (await planes.schedules.list_runs(one.key, None, 100, "")).items) for one in page.items]


async def test_a_schedule_of_another_tenant_is_not_there(walk):
    planes = walk.system.planes
    before = await _schedules(planes)
    assert len(before) == 4
    only_theirs = f"{THEIRS}-only"
    for name in (*READ_SCHEDULE, *CHANGE_SCHEDULE):
        for foreign, absent in (
            (of_schedule(name, SCHEDULE, tenant=THEIRS), of_schedule(name, SCHEDULE, tenant=NOBODYS)),
            (of_schedule(name, only_theirs), of_schedule(name, "absent")),
            (of_schedule(name, only_theirs, tenant=THEIRS), of_schedule(name, "absent", tenant=NOBODYS)),
        ):
            words = [value for one in (foreign, absent) for value in (one["schedule_id"], one.get("tenant", "absent"))]
            answer, expected = await walk.call("ann", name, **foreign), await walk.call("ann", name, **absent)
            assert answer[0] is grpc.StatusCode.NOT_FOUND, (name, foreign)
            assert without(answer, *words) == without(expected, *words), name
        (route,) = (one for one in ROUTES if one.rpc.name == name)
        seen, wanted = [await walk.rest("ann", route, schedule_id=SCHEDULE, tenant=tenant) for tenant in (THEIRS, NOBODYS)]
        assert seen == wanted
        assert seen[0] == 404, route.path
    assert await _schedules(planes) == before


@changes
async def test_the_owner_does_find_its_schedule_and_changes_it(walk):
    found = (await walk.call("bob", "GetSchedule", schedule_id=SCHEDULE)).schedule
    assert (found.tenant, found.spec.description) == (THEIRS, f"of {THEIRS}")
    mine = (await walk.call("ann", "GetSchedule", schedule_id=SCHEDULE)).schedule
    assert (mine.tenant, leaks(mine)) == (OURS, False)
    run = (await walk.call("bob", "TriggerSchedule", schedule_id=SCHEDULE, actor="somebody else")).run
    assert run.actor == "bbb-bob"
    assert [one.job_id for one in (await walk.call("bob", "ListScheduleRuns", schedule_id=SCHEDULE)).runs] == [run.job_id]
    assert not (await walk.call("ann", "ListScheduleRuns", schedule_id=SCHEDULE)).runs
    assert (await walk.call("ann", "GetJob", job_id=run.job_id))[0] is grpc.StatusCode.NOT_FOUND
    for name in CHANGE_SCHEDULE[::-1]:  # it is deleted last but one
        if name != "DeleteSchedule":
            assert not isinstance(await walk.call("bob", name, **of_schedule(name, SCHEDULE)), tuple), name
    assert not isinstance(await walk.call("bob", "DeleteSchedule", schedule_id=SCHEDULE), tuple)
    assert (await walk.call("ann", "GetSchedule", schedule_id=SCHEDULE)).schedule == mine


async def test_lists_have_only_schedules_of_its_tenants(walk):
    mine, theirs, whole = [await walk.call(who, "ListSchedules") for who in ("ann", "bob", "root")]
    assert ({one.tenant for one in mine.schedules}, leaks(mine)) == ({OURS}, False)
    assert {one.tenant for one in theirs.schedules} == {THEIRS}
    assert [len(reply.schedules) for reply in (mine, theirs, whole)] == [2, 2, 4]
    foreign, absent = [await walk.call("ann", "ListSchedules", tenant=tenant) for tenant in (THEIRS, NOBODYS)]
    assert foreign == absent == type(mine)()
    first = await walk.call("both", "ListSchedules", page_size=1)
    assert not isinstance(await walk.call("both", "ListSchedules", page_size=1, page_token=first.next_page_token), tuple)
    for other in ("ann", "root"):
        answer = await walk.call(other, "ListSchedules", page_size=1, page_token=first.next_page_token)
        assert answer[0] is grpc.StatusCode.INVALID_ARGUMENT
    (route,) = (one for one in ROUTES if one.rpc.name == "ListSchedules")
    status, body = await walk.rest("ann", route)
    assert (status, leaks(body)) == (200, False)


@adds
async def test_only_schedules_of_its_own_tenants_are_created(walk):
    spec = {"job_type": TYPE, "cron": "0 3 * * *"}
    made = await walk.call("ann", "CreateSchedule", schedule_id=f"{THEIRS}-only", spec=spec, paused=True)
    assert made.schedule.tenant == OURS, "names are of a tenant, and nobody hears that another one has it"
    foreign, absent = [
        await walk.call("ann", "CreateSchedule", schedule_id=SCHEDULE, spec=spec, tenant=tenant) for tenant in (THEIRS, NOBODYS)
    ]
    assert foreign[0] is grpc.StatusCode.PERMISSION_DENIED
    assert without(foreign, THEIRS) == without(absent, NOBODYS)
    several = await walk.call("both", "CreateSchedule", schedule_id="new", spec=spec)
    assert several[0] is grpc.StatusCode.PERMISSION_DENIED
    assert "name one of them" in several[1]


@adds
async def test_a_key_of_a_trigger_belongs_to_a_principal(walk):
    ids = [
        (await walk.call(who, "TriggerSchedule", schedule_id=SCHEDULE, tenant=OURS, request_id="one key")).run.job_id
        for who in ("ann", "ann", "abe", "both")
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_who_may_only_view_reads_schedules_without_payloads_and_changes_nothing(walk):
    before = await _schedules(walk.system.planes)
    seen = (await walk.call("viewer", "GetSchedule", schedule_id=SCHEDULE)).schedule
    assert (seen.payload_hidden, seen.spec.WhichOneof("content"), seen.tenant) == (True, None, OURS)
    for name in ("ListSchedules", "ListScheduleRuns"):
        fields = {"schedule_id": SCHEDULE} if name == "ListScheduleRuns" else {}
        assert not isinstance(await walk.call("viewer", name, **fields), tuple)
    for name in (*CHANGE_SCHEDULE, "CreateSchedule"):
        answer = await walk.call("viewer", name, **of_schedule(name, SCHEDULE))
        assert answer[0] is grpc.StatusCode.PERMISSION_DENIED, name
        (route,) = (one for one in ROUTES if one.rpc.name == name)
        fields = {} if name == "CreateSchedule" else {"schedule_id": SCHEDULE}
        assert (await walk.rest("viewer", route, **fields))[0] == 403
    assert await _schedules(walk.system.planes) == before

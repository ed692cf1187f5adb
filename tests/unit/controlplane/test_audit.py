"""The audit log of a control plane, from both doors to what ListAuditEntries shows, with principals of the test's own."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import httpx
import pytest

from controlplane.app import serve
from sickbay.audit.v1.audit_service_pb2 import ListAuditEntriesRequest
from sickbay.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from sickbay.breakers.v1.breaker_service_pb2 import DisableBreakerRequest, GetBreakerRequest, ResetBreakerRequest
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.domain.access import Kind, Principal, Role
from sickbay.domain.breaker import Action, BreakerKey, Command
from sickbay.domain.errors import Unavailable
from sickbay.jobs.v1.quarantine_service_pb2 import DiscardJobRequest, ResubmitJobRequest
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub
from sickbay.server.access.control import Access
from sickbay.server.audit import auditor
from sickbay.server.audit import journal as journal_module
from sickbay.server.audit.refusals import BURST
from sickbay.server.endpoints import Address
from tests.support.embedded_backends import open_backends
from tests.support.known_callers import KnownCallers
from tests.support.ledger_events import quarantined
from tests.support.plain_http import NO_TLS

ROOT = Principal("root", frozenset({Role.ADMIN}), None, Kind.KEY, "k_root")
OPERATOR = Principal("olga", frozenset({Role.OPERATE}), None, Kind.TOKEN, "t_1")
SHOP = Principal("shop", frozenset({Role.SUBMIT}), frozenset({"acme"}), Kind.KEY, "k_shop")
ACME = Principal("auditor", frozenset({Role.ADMIN}), frozenset({"acme"}), Kind.KEY, "k_acme")


@dataclass
class Plane:
    """A control plane that serves, and how to call it."""

    backends: object
    rest: httpx.AsyncClient
    channel: grpc.aio.Channel
    port: int

    def as_(self, token):
        return {"authorization": f"Bearer {token}"} if token else {}

    def metadata(self, token):
        return tuple(self.as_(token).items())

    async def entries(self, token=ROOT.name, **query):
        stub = AuditServiceStub(self.channel)
        return list((await stub.ListAuditEntries(ListAuditEntriesRequest(**query), metadata=self.metadata(token))).entries)

    async def entry(self, number=1, token=ROOT.name, **query):
        """The latest of so many entries with a result."""
        found = []

        async def arrived():
            found[:] = await self.entries(token, **query)
            return len(found) >= number and all(one.result != "STARTED" for one in found)

        async with asyncio.timeout(20):
            while not await arrived():
                await asyncio.sleep(0.005)
        assert len(found) == number
        return found[0]


@asynccontextmanager
async def plane(*, auth=True):
    callers = KnownCallers(root=ROOT, olga=OPERATOR, shop=SHOP, acme=ACME)
    access = Access([callers]) if auth else None
    async with open_backends() as backends, serve(backends, Address("127.0.0.1", 0, 0, access=access)) as endpoints:
        await endpoints.serving()
        address = f"127.0.0.1:{endpoints.grpc_port}"
        url = f"http://127.0.0.1:{endpoints.rest_port}"
        async with grpc.aio.insecure_channel(address) as channel, httpx.AsyncClient(base_url=url, verify=NO_TLS, trust_env=False) as rest:
            yield Plane(backends, rest, channel, endpoints.grpc_port)


async def a_breaker(backends):
    await backends.breakers.command(BreakerKey("email"), Command(Action.FORCE_OPEN, by="x"))


async def test_over_rest_the_actor_is_the_principal_and_the_claim_a_note(caplog):
    caplog.set_level(logging.INFO)
    async with plane() as served:
        await a_breaker(served.backends)
        body = {"by": "ceo", "why": "I may"}
        answer = await served.rest.post("/breakers/email/disable", json=body, headers=served.as_("olga"))
        assert answer.json()["forced"]["by"] == "olga", "histories name the principal"
        found = await served.entry()
    assert (found.principal, found.principal_kind, found.credential) == ("olga", "token", "t_1")
    assert (found.claimed_actor, found.note) == ("ceo", "I may")
    assert (found.action, found.target_kind, found.target, found.door, found.source) == (
        *("DisableBreaker", "breaker", "email"),
        *("rest", "127.0.0.1"),
    )
    assert (found.result, found.before, found.after) == ("OK", "FORCED_OPEN", "DISABLED")
    assert found.end_time.ToMilliseconds() >= found.time.ToMilliseconds()
    (line,) = [one.getMessage() for one in caplog.records if one.name == "sickbay.audit"]
    assert 'action "DisableBreaker", principal "olga"' in line


async def test_over_grpc_likewise_and_an_error_has_its_reason():
    async with plane() as served:
        stub = BreakerServiceStub(served.channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ResetBreaker(ResetBreakerRequest(job_type="nope"), metadata=served.metadata("olga"))
        found = await served.entry()
    assert (found.door, found.source, found.principal) == ("grpc", "127.0.0.1", "olga")
    assert (found.result, found.reason, found.target) == ("NOT_FOUND", "BREAKER_NOT_FOUND", "nope")
    assert "not found" in found.message


async def test_an_action_on_a_job_has_its_tenant_and_states_and_never_a_payload():
    async with plane() as served:
        await served.backends.writer.apply([quarantined("j1", tenant="acme"), quarantined("j2", tenant="other")])
        stub = QuarantineServiceStub(served.channel)
        secret = '{"password": "hunter2"}'
        await stub.ResubmitJob(ResubmitJobRequest(job_id="j1", payload_json=secret, actor="ceo"), metadata=served.metadata("olga"))
        await stub.DiscardJob(DiscardJobRequest(job_id="j2"), metadata=served.metadata("olga"))
        await served.entry(2)
        discarded, resubmitted = sorted(await served.entries(), key=lambda one: one.action)
        assert (resubmitted.target, resubmitted.tenant) == ("j1", "acme")
        assert (resubmitted.before, resubmitted.after) == ("QUARANTINED, generation 0", "QUEUED, generation 1")
        assert resubmitted.request == f"payload_json=({len(secret)} characters)"
        assert "hunter2" not in str(resubmitted)
        assert (discarded.before, discarded.after) == ("QUARANTINED, generation 0", "DISCARDED, generation 0")
        assert [one.target for one in await served.entries("acme")] == ["j1"], "who has one tenant sees its entries"
        assert [one.target for one in await served.entries("acme", tenant="other")] == []
        record = await served.backends.reader.history("j1")
        assert {change.actor for change in record if change.actor} == {"olga"}


async def test_each_action_on_a_schedule_is_an_entry_and_refused_ones_are_too():
    async with plane() as served:
        spec = {"jobType": "report", "cron": "0 3 * * *", "payload": {"password": "hunter2"}}

        async def call(method, path, who="olga", **body):
            headers = served.as_(who) | ({"idempotency-key": "k"} if "trigger" in path else {})
            sends = {} if method == "DELETE" else {"json": body}
            return (await served.rest.request(method, f"/schedules{path}", headers=headers, **sends)).status_code

        assert await call("POST", "", scheduleId="nightly", tenant="acme", spec=spec, by="ceo") == 200
        assert await call("PUT", "/nightly?tenant=acme", spec={**spec, "timezone": "Europe/Berlin"}) == 200
        assert await call("POST", "/nightly/pause?tenant=acme", note="holiday") == 200
        assert await call("POST", "/nightly/resume?tenant=acme") == 200
        assert await call("POST", "/nightly/trigger?tenant=acme") == 200
        past = {"startAt": "2020-01-01T00:00:00Z", "endAt": "2020-01-03T00:00:00Z"}
        assert await call("POST", "/nightly/backfill?tenant=acme", **past) == 200
        assert await call("DELETE", "/nightly?tenant=acme", "shop") == 403
        assert await call("GET", "/nightly?tenant=acme", "shop") == 403, "who submits sees jobs, not schedules"
        assert await call("DELETE", "/nightly?tenant=acme") == 200
        await served.entry(9)
        found = sorted(await served.entries(), key=lambda one: (one.result, one.time.ToMilliseconds(), one.action))
        refused = [one for one in found if one.result != "OK"]
        done = {one.action: one for one in found if one.result == "OK"}
        assert {(one.principal, one.result) for one in refused} == {("shop", "PERMISSION_DENIED")}
        assert {one.action for one in refused} == {"DeleteSchedule", "GetSchedule"}
        assert {(one.target_kind, one.target, one.tenant, one.principal) for one in done.values()} == {
            ("schedule", "nightly", "acme", "olga")
        }
        told = {action: (one.before, one.after) for action, one in done.items()}
        assert told["CreateSchedule"][1].startswith("ACTIVE, job_type=report, payload_json=(22 characters), ")
        assert told["UpdateSchedule"] == ("ACTIVE, timezone=UTC", "ACTIVE, timezone=Europe/Berlin")
        assert told["PauseSchedule"] == ("ACTIVE", "PAUSED")
        assert told["ResumeSchedule"] == ("PAUSED", "ACTIVE")
        assert told["TriggerSchedule"][1].startswith("job ")
        assert told["BackfillSchedule"] == ("", "2 jobs")
        assert told["DeleteSchedule"][1] == "deleted"
        assert (done["CreateSchedule"].claimed_actor, done["PauseSchedule"].note) == ("ceo", "holiday")
        assert "hunter2" not in str(found)


async def test_refused_calls_of_every_kind_are_entries():
    async with plane() as served:
        await a_breaker(served.backends)
        stub = BreakerServiceStub(served.channel)
        for token in ("shop", "", "wrong"):
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.ResetBreaker(ResetBreakerRequest(job_type="email"), metadata=served.metadata(token))
            assert (await served.rest.post("/breakers/email/reset", headers=served.as_(token))).status_code in {401, 403}
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetBreaker(GetBreakerRequest(job_type="email"), metadata=served.metadata("shop"))
        assert (await served.rest.get("/no/such/path")).status_code == 401
        await served.entry(8)
        found = await served.entries(refused=True)
        told = sorted((one.principal, one.action, one.result, one.door) for one in found)
        assert told == [
            ("", "GET /no/such/path", "UNAUTHENTICATED", "rest"),
            ("", "POST /breakers/email/reset", "UNAUTHENTICATED", "rest"),
            ("", "POST /breakers/email/reset", "UNAUTHENTICATED", "rest"),
            ("", "ResetBreaker", "UNAUTHENTICATED", "grpc"),
            ("", "ResetBreaker", "UNAUTHENTICATED", "grpc"),
            ("shop", "GetBreaker", "PERMISSION_DENIED", "grpc"),
            ("shop", "ResetBreaker", "PERMISSION_DENIED", "grpc"),
            ("shop", "ResetBreaker", "PERMISSION_DENIED", "rest"),
        ]
        assert "wrong" not in str(found)
        assert {one.source for one in found} == {"127.0.0.1"}
        (still,) = await served.backends.breakers.snapshots([BreakerKey("email")])
        assert still.state == "FORCED_OPEN"


async def test_a_flood_of_refused_calls_is_counted_in_a_summary(monkeypatch):
    monkeypatch.setattr(auditor, "SUMMARY_S", 0.05)
    async with plane() as served:
        for _ in range(BURST + 30):
            assert (await served.rest.get("/breakers")).status_code == 401
        async with asyncio.timeout(20):
            while sum(one.count for one in await served.entries(refused=True, page_size=1000)) < BURST + 30:
                await asyncio.sleep(0.01)
        found = await served.entries(refused=True, page_size=1000)
        assert len(found) < BURST + 30
        assert sum(one.count for one in found) == BURST + 30
        scraped = (await served.rest.get("/metrics", headers=served.as_("root") | {"accept": "text/plain"})).text
        assert f'sickbay_audit_entries_total{{result="UNAUTHENTICATED"}} {BURST + 30:.1f}' in scraped


@pytest.mark.parametrize("token", ["olga", "shop"])
async def test_only_the_right_to_audit_reads_it(token):
    async with plane() as served:
        answer = await served.rest.get("/audit", headers=served.as_(token))
        assert answer.status_code == 403


async def test_without_access_control_the_claim_is_kept_as_a_claim():
    async with plane(auth=False) as served:
        await a_breaker(served.backends)
        await served.rest.post("/breakers/email/disable", json={"by": "ceo"})
        await BreakerServiceStub(served.channel).DisableBreaker(DisableBreakerRequest(job_type="email", actor="cto"))
        await served.entry(2, token="")
        second, first = sorted(await served.entries(""), key=lambda one: one.door)
    assert (first.principal, first.principal_kind, first.claimed_actor, first.door) == ("", "", "ceo", "rest")
    assert (second.principal, second.claimed_actor, second.door, second.result) == ("", "cto", "grpc", "OK")
    assert first.source == second.source == "127.0.0.1"


async def test_calls_that_change_nothing_have_no_entry():
    async with plane(auth=False) as served:
        await served.rest.get("/breakers")
        await served.rest.get("/audit")
        await a_breaker(served.backends)
        await served.rest.post("/breakers/email/reset")
        assert (await served.entry(token="")).action == "ResetBreaker"


async def test_json_lines_have_all_entries_of_all_pages(monkeypatch):
    monkeypatch.setattr("controlplane.rest.audit_export.MAX_PAGE_SIZE", 3)
    async with plane(auth=False) as served:
        for _ in range(8):
            await served.rest.post("/breakers/nope/reset")
        await served.entry(8, token="")
        answer = await served.rest.get("/audit?oldestFirst=true&result=NOT_FOUND", headers={"accept": "application/jsonl"})
        assert answer.headers["content-type"] == "application/jsonl"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        plain = (await served.rest.get("/audit")).json()["entries"]
        assert lines == plain[::-1]
        assert len(lines) == 8
        bad = await served.rest.get(
            "/audit?startTime=2026-01-02T00:00:00Z&endTime=2026-01-01T00:00:00Z", headers={"accept": "application/jsonl"}
        )
        assert bad.status_code == 400


async def test_the_entry_is_durable_before_the_action_takes_effect():
    """The action looks: its entry is in the broker already, as STARTED; and killed there it would stay so."""
    async with plane(auth=False) as served:
        await a_breaker(served.backends)
        command, seen = served.backends.breakers.command, []

        async def looking(*args):
            async with asyncio.timeout(20):
                while not (found := await served.entries("")):
                    await asyncio.sleep(0.005)
            seen.append([(one.action, one.result) for one in found])
            return await command(*args)

        served.backends.breakers.command = looking
        await served.rest.post("/breakers/email/reset")
        assert seen == [[("ResetBreaker", "STARTED")]]
        assert (await served.entry(token="")).result == "OK"


async def test_while_the_broker_is_away_an_operator_is_not_locked_out_and_the_entry_comes_later(monkeypatch):
    monkeypatch.setattr(journal_module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(journal_module, "MAX_RETRY_S", 0.01)
    async with plane(auth=False) as served:
        await a_breaker(served.backends)
        served.backends.broker.fail("publish", 1_000_000)
        assert (await served.rest.post("/breakers/email/reset")).status_code == 200
        assert await served.entries("") == []
        served.backends.broker.fail("publish", 0)
        assert (await served.entry(token="")).result == "OK"


async def test_a_client_that_leaves_does_not_take_the_result_with_it():
    async with plane(auth=False) as served:
        await a_breaker(served.backends)
        command, going, go = served.backends.breakers.command, asyncio.Event(), asyncio.Event()

        async def slow(*args):
            going.set()
            await go.wait()
            return await command(*args)

        served.backends.breakers.command = slow
        call = BreakerServiceStub(served.channel).ResetBreaker(ResetBreakerRequest(job_type="email"))
        leaving = asyncio.ensure_future(call)
        await going.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        go.set()
        found = await served.entry(token="")
    assert (found.result, found.after) == ("OK", "CLOSED")


async def test_a_command_that_the_store_cannot_carry_out_is_an_entry_with_that_result():
    async with plane(auth=False) as served:
        served.backends.breakers.fail("command", 1, error=Unavailable("redis is away"))
        served.backends.breakers.fail("snapshots", 1)
        assert (await served.rest.post("/breakers/email/reset")).status_code == 503
        found = await served.entry(token="")
    assert (found.result, found.message, found.before) == ("UNAVAILABLE", "redis is away", "")

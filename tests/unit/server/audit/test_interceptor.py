"""What the interceptor writes about streams, and about calls that a servicer itself refuses."""

import asyncio
from types import SimpleNamespace

import grpc
import pytest
from prometheus_client import CollectorRegistry

from sickbay.contract.access import RULES
from sickbay.domain.access import Kind, Principal, Role
from sickbay.domain.errors import FailedPrecondition, PermissionDenied
from sickbay.messages.audit import decode_entries
from sickbay.ports.access import Credentials
from sickbay.server.access.caller import CallContext, Caller
from sickbay.server.audit.auditor import Auditor
from sickbay.server.audit.interceptor import AuditInterceptor
from sickbay.server.audit.notes import notes_of

WORK = "/sickbay.jobs.v1.WorkerService/Work"
GET = "/sickbay.jobs.v1.JobService/GetJob"
PROGRAM = Principal("billing", frozenset({Role.WORK}), None, Kind.CERTIFICATE, "cert")
CALLER = Caller(PROGRAM, Credentials(peer="10.0.0.7"))


class Line:
    """A broker that keeps the entries."""

    def __init__(self):
        self.entries = []

    async def publish(self, messages):
        for message in messages:
            self.entries += decode_entries(message.body, 2**40)


def context():
    return CallContext(SimpleNamespace(peer=lambda: "ipv4:10.0.0.7:4711", code=lambda: None), CALLER)


async def wrapped(auditor, method, handler, *, has_access=True):
    async def continuation(_):
        return handler

    return await AuditInterceptor(auditor, has_access=has_access).intercept_service(continuation, SimpleNamespace(method=method))


async def test_a_stream_is_started_before_its_first_step_and_ends_with_it():
    line = Line()
    auditor = Auditor(line, lambda: 5, CollectorRegistry())
    seen = []

    async def work(requests, called):
        seen.append([one.result for one in line.entries])
        notes_of(called).before = "unknown"
        async for request in requests:
            yield request * 2

    async def requests():
        yield 1
        yield 2

    async with auditor.open():
        handler = await wrapped(auditor, WORK, grpc.stream_stream_rpc_method_handler(work))
        assert [reply async for reply in handler.stream_stream(requests(), context())] == [2, 4]
    assert seen == [["STARTED"]]
    last = line.entries[-1]
    assert (last.action, last.result, last.principal, last.target_kind, last.source, last.before) == (
        *("Work", "OK", "billing", "program"),
        *("10.0.0.7", "unknown"),
    )
    assert last.entry_id == line.entries[0].entry_id


@pytest.mark.parametrize("how", ["error", "close", "cancel"])
async def test_a_stream_that_is_broken_off_has_its_result_too(how):
    line = Line()
    auditor = Auditor(line, lambda: 5, CollectorRegistry())

    async def work(requests, called):
        yield 1
        if how == "error":
            raise FailedPrecondition("it is off")
        await asyncio.Event().wait()

    async with auditor.open():
        handler = await wrapped(auditor, WORK, grpc.stream_stream_rpc_method_handler(work))
        replies = handler.stream_stream(None, context())
        assert await anext(replies) == 1
        if how == "error":
            with pytest.raises(FailedPrecondition):
                await anext(replies)
        elif how == "close":
            await replies.aclose()
        else:
            waiting = asyncio.ensure_future(anext(replies))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
    expected = ("FAILED_PRECONDITION", "it is off") if how == "error" else ("CANCELLED", "")
    assert (line.entries[-1].result, line.entries[-1].message) == expected


async def test_what_a_servicer_itself_refuses_is_an_entry_with_its_principal():
    line = Line()
    auditor = Auditor(line, lambda: 5, CollectorRegistry())

    async def get(request, called):
        raise PermissionDenied("not of your tenants")

    async with auditor.open():
        handler = await wrapped(auditor, GET, grpc.unary_unary_rpc_method_handler(get))
        with pytest.raises(PermissionDenied):
            await handler.unary_unary(None, context())
    (entry,) = line.entries
    assert (entry.action, entry.result, entry.principal, entry.message) == ("GetJob", "PERMISSION_DENIED", "billing", "not of your tenants")


@pytest.mark.parametrize("method", [method for method, rule in RULES.items() if not rule.is_action])
async def test_without_access_control_what_is_no_action_is_not_even_wrapped(method):
    handler = grpc.unary_unary_rpc_method_handler(lambda request, called: request)
    assert await wrapped(None, method, handler, has_access=False) is handler


@pytest.mark.parametrize("method", [method for method, rule in RULES.items() if rule.is_action])
async def test_every_action_is_wrapped(method):
    handler = grpc.unary_unary_rpc_method_handler(lambda request, called: request)
    assert await wrapped(None, method, handler, has_access=False) is not handler

"""Writes the audit log of one service: actions as they begin and end, and refused calls."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic
from typing import Any, Final, Self

from prometheus_client import CollectorRegistry

from sickbay.concurrency.tasks import DetachedTasks, background
from sickbay.contract.audit import with_reply, with_request
from sickbay.domain.access import Principal
from sickbay.domain.audit import OK, AuditEntry, bounded
from sickbay.domain.errors import PermissionDenied, SickbayError, Unauthenticated
from sickbay.ports import Broker, Clock
from sickbay.ports.access import Credentials
from sickbay.server.access.caller import REST_CALLER, REST_PEER, caller_of
from sickbay.server.audit.journal import Journal, line_of, log
from sickbay.server.audit.metrics import AuditMetrics
from sickbay.server.audit.notes import Notes
from sickbay.server.audit.refusals import RefusalLimit
from sickbay.server.errors import fault_of
from sickbay.server.inprocess.context import PEER
from sickbay.server.interceptors.metrics import code_of
from sickbay.server.peers import endpoint_of, normalize

SUMMARY_S: Final = 60.0
"""How often refused calls without an entry of their own are summed up."""
GRPC: Final = "grpc"
REST: Final = "rest"


class Auditor:
    """One per service. `async with` opens it; `refused` is told of refused calls (`OnRefused`), which are logged elsewhere."""

    def __init__(self, broker: Broker, clock: Clock, registry: CollectorRegistry) -> None:
        """Entries go through `broker`, with the time of `clock` (ms)."""
        self._clock = clock
        self._metrics = AuditMetrics(registry)
        self._journal = Journal(broker, self._metrics)
        self._refusals = RefusalLimit(monotonic())
        self.detached = DetachedTasks()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Write until the context ends."""
        async with self._journal:
            try:
                async with background(self._sum_up), self.detached:
                    yield self
            finally:
                self._tell_summaries()

    async def begin(self, method: str, request: Any, context: Any) -> AuditEntry:
        """The entry of an action, durable as STARTED (`Journal.write`)."""
        caller = caller_of(context)
        is_rest = context.peer() == PEER
        source = caller.credentials.peer or (normalize(REST_PEER.get()) if is_rest else endpoint_of(context.peer())[0])
        entry = self._entry(method, caller.principal, source, REST if is_rest else GRPC)
        entry = bounded(with_request(entry, request))
        await self._journal.write(entry)
        return entry

    async def end(
        self, entry: AuditEntry, notes: Notes, reply: Any = None, error: BaseException | None = None, context: Any = None
    ) -> None:
        """Write the result of an action, and log it."""
        await self._journal.write(self._ended(entry, notes, reply, error, context))

    def end_soon(self, entry: AuditEntry, notes: Notes, error: BaseException | None, context: Any) -> None:
        """The same without waiting, for a stream: nobody waits for its end."""
        self._journal.add(self._ended(entry, notes, None, error, context))

    def refused(self, method: str, credentials: Credentials, principal: Principal | None, error: SickbayError) -> None:
        """A call was refused, so no action has begun. Ignores errors that are no refusal, such as Unavailable."""
        if not isinstance(error, PermissionDenied | Unauthenticated):
            return
        result = fault_of(error).code.name
        self._metrics.count(result)
        is_rest = " " in method or REST_CALLER.get() is not None
        entry = self._entry(method, principal, credentials.peer, REST if is_rest else GRPC)
        entry = replace(entry, result=result, ended_at=entry.at, reason=error.reason.value, message=str(error))
        entry = bounded(entry)
        if self._refusals.admits(entry, monotonic()):
            self._journal.add(entry)

    def _ended(self, entry: AuditEntry, notes: Notes, reply: Any, error: BaseException | None, context: Any) -> AuditEntry:
        entry = replace(entry, before=notes.before, tenant=notes.tenant or entry.tenant, ended_at=self._clock())
        if error is None:
            entry = with_reply(replace(entry, result=OK, after=notes.after), reply)
        else:
            message = str(error) if isinstance(error, SickbayError) else ""
            reason = error.reason.value if isinstance(error, SickbayError) else ""
            entry = replace(entry, result=code_of(error, context).name, reason=reason, message=message)
        entry = bounded(entry)
        self._metrics.count(entry.result)
        log.info("%s", line_of(entry))
        return entry

    def _entry(self, method: str, principal: Principal | None, source: str, door: str) -> AuditEntry:
        at, action = self._clock(), method.rpartition("/")[2] if " " not in method else method
        entry = AuditEntry(uuid.uuid4().hex, at, action, source=source, door=door)
        if principal is None or not principal.is_known:
            return entry
        return replace(entry, principal=principal.name, kind=principal.kind.value, credential=principal.credential)

    async def _sum_up(self) -> None:
        while True:
            await asyncio.sleep(SUMMARY_S)
            self._tell_summaries()

    def _tell_summaries(self) -> None:
        for entry in self._refusals.summaries():
            told = replace(entry, entry_id=uuid.uuid4().hex, ended_at=self._clock())
            self._journal.add(told)

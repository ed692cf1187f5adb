"""BreakerService: parse, one core call, reply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from gen.sickbay.breakers.v1 import breaker_service_pb2 as pb
from gen.sickbay.breakers.v1.breaker_pb2 import Breaker
from gen.sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceServicer
from sickbay import wire
from sickbay import wire_requests as parse
from sickbay.circuit import Key, Snapshot
from sickbay.errors import ErrorReason, NotFound
from sickbay.ports import Breakers, Broker, Clock, LedgerWriter, Queue
from sickbay.wire_pages import next_page_token, paging
from sickbay.wire_requests import Commanding


class BreakerApi(BreakerServiceServicer):
    """Serves BreakerService."""

    def __init__(self, breakers: Breakers, broker: Broker, ledger: LedgerWriter, clock: Clock) -> None:
        """`broker` and `ledger` are asked for numbers only."""
        self._breakers = breakers
        self._broker = broker
        self._ledger = ledger
        self._clock = clock

    async def ListBreakers(self, request: pb.ListBreakersRequest, context: Any) -> pb.ListBreakersResponse:
        """See the contract."""
        asked, whose = paging(request), parse.tenant_filter(request.tenant)
        circuits = [one for one in await self._circuits() if (not whose or one.key.tenant == whose) and one.key.name > asked.cursor]
        page = circuits[: asked.limit]
        cursor = page[-1].key.name if len(circuits) > asked.limit else ""
        return pb.ListBreakersResponse(breakers=map(wire.breaker, page), next_page_token=next_page_token(request, cursor))

    async def GetBreaker(self, request: pb.GetBreakerRequest, context: Any) -> pb.GetBreakerResponse:
        """See the contract."""
        key = parse.breaker_key(request.job_type, request.tenant)
        for circuit in await self._breakers.snapshots():
            if circuit.key == key:
                return pb.GetBreakerResponse(breaker=wire.breaker(circuit))
        raise _unknown(key)

    async def ResetBreaker(self, request: pb.ResetBreakerRequest, context: Any) -> pb.ResetBreakerResponse:
        """See the contract."""
        return pb.ResetBreakerResponse(breaker=await self._command(request))

    async def ForceOpenBreaker(self, request: pb.ForceOpenBreakerRequest, context: Any) -> pb.ForceOpenBreakerResponse:
        """See the contract."""
        return pb.ForceOpenBreakerResponse(breaker=await self._command(request))

    async def DisableBreaker(self, request: pb.DisableBreakerRequest, context: Any) -> pb.DisableBreakerResponse:
        """See the contract."""
        return pb.DisableBreakerResponse(breaker=await self._command(request))

    async def SetBreakerMetricsOnly(self, request: pb.SetBreakerMetricsOnlyRequest, context: Any) -> pb.SetBreakerMetricsOnlyResponse:
        """See the contract."""
        return pb.SetBreakerMetricsOnlyResponse(breaker=await self._command(request))

    async def SetBreakerAuto(self, request: pb.SetBreakerAutoRequest, context: Any) -> pb.SetBreakerAutoResponse:
        """See the contract."""
        return pb.SetBreakerAutoResponse(breaker=await self._command(request))

    async def WatchBreakers(self, request: pb.WatchBreakersRequest, context: Any) -> AsyncIterator[pb.WatchBreakersResponse]:
        """See the contract."""
        kind, whose = parse.job_type_filter(request.job_type), parse.tenant_filter(request.tenant)

        def wanted(circuit: Snapshot) -> bool:
            return (not kind or circuit.key.job_type == kind) and (not whose or circuit.key.tenant == whose)

        async with self._breakers.watch() as changes:
            told = {circuit.key: circuit.rev for circuit in await self._circuits()}
            for circuit in filter(wanted, await self._circuits()):
                yield pb.WatchBreakersResponse(breaker=wire.breaker(circuit))
            async for circuit in changes:
                if wanted(circuit) and circuit.rev > told.get(circuit.key, 0):
                    told[circuit.key] = circuit.rev
                    yield pb.WatchBreakersResponse(breaker=wire.breaker(circuit))

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: Any) -> pb.GetMetricsResponse:
        """See the contract."""
        return wire.metrics(
            await self._breakers.snapshots(),
            jobs=await self._ledger.counts(),
            depths={queue.value: await self._broker.depth(queue) for queue in Queue},
            duplicates=await self._ledger.duplicates(),
            now=self._clock(),
        )

    async def _command(self, request: Commanding) -> Breaker:
        key, command = parse.command(request)
        return wire.breaker(await self._breakers.command(key, command))

    async def _circuits(self) -> Sequence[Snapshot]:
        return sorted(await self._breakers.snapshots(), key=lambda circuit: circuit.key.name)


def _unknown(key: Key) -> NotFound:
    return NotFound(f"Circuit breaker for jobType '{key.job_type}' not found", ErrorReason.BREAKER_NOT_FOUND)

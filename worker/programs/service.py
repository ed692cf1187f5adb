"""Serves the stream of WorkerService.Work: reads what a program says, and writes what it is told."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import grpc

from sickbay.contract import work as contract
from sickbay.domain.errors import ErrorReason, FailedPrecondition, InvalidArgument, ResourceExhausted, SickbayError
from sickbay.domain.job import MAX_PAYLOAD_BYTES
from sickbay.domain.program import WorkStream
from sickbay.jobs.v1 import work_pb2 as pb
from sickbay.jobs.v1 import worker_service_pb2
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceServicer
from sickbay.server.peers import endpoint_of
from worker.programs.allowance import Allowance
from worker.programs.connected import Connected
from worker.programs.program import Program

MAX_MESSAGE_BYTES: Final = MAX_PAYLOAD_BYTES
"""A larger message of a program ends its stream."""
REGISTRATION_COUNTS: Final = 50
"""As many messages as a registration counts for: it changes what the whole fleet knows of this worker."""
_OFF: Final = (
    "this worker takes no programs: start it with WORK_STREAM=local for programs on the same machine or in the same pod, or, where only"
    " programs that may read and answer jobs reach its port, with WORK_STREAM=any"
)
_LOCAL: Final = (
    "this worker takes programs only by its loopback address (WORK_STREAM=local): connect from the same machine, container or pod, or"
    " start the worker with WORK_STREAM=any"
)

log = logging.getLogger(__name__)


class WorkApi(WorkerServiceServicer):
    """Serves a worker's part of WorkerService."""

    def __init__(self, connected: Connected, access: WorkStream) -> None:
        """`access` says from where programs may connect."""
        self._connected, self._access = connected, access

    async def ListWorkers(self, request: worker_service_pb2.ListWorkersRequest, context: Any) -> Any:
        """See the contract."""
        why = "a worker does not know the others: call ListWorkers on the control plane (gRPC port 50053)"
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, why)

    async def Work(self, request_iterator: AsyncIterator[pb.WorkRequest], context: Any) -> AsyncIterator[pb.WorkResponse]:
        """See the contract."""
        host, port = endpoint_of(context.peer())
        self._check_access(host)
        program = self._connected.connect(f"{host}:{port}")
        context.add_done_callback(lambda _: self._connected.end(program))  # should writing fail, nobody closes this generator at once
        reading = asyncio.create_task(self._read_safely(program, request_iterator), name=f"program at {host}:{port}")
        try:
            async for said in program.outgoing():
                yield said
        finally:
            self._connected.end(program)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    def _check_access(self, host: str) -> None:
        if self._access is WorkStream.OFF:
            raise FailedPrecondition(_OFF, ErrorReason.NOT_CONFIGURED)
        if self._access is WorkStream.LOCAL and not _is_loopback(host):
            raise FailedPrecondition(_LOCAL, ErrorReason.NOT_CONFIGURED)

    async def _read_safely(self, program: Program, requests: AsyncIterator[pb.WorkRequest]) -> None:
        """Read to the end of what the program says; then its stream is at its end."""
        try:
            await self._read(program, requests)
        except SickbayError as error:
            program.end(error)
        except Exception as error:
            log.exception("cannot read what program %s says", program)
            program.end(SickbayError(str(error)))
        else:
            program.end()

    async def _read(self, program: Program, requests: AsyncIterator[pb.WorkRequest]) -> None:
        allowance = Allowance(asyncio.get_running_loop().time)
        async for said in requests:
            if program.is_over:
                return
            size = said.ByteSize()
            if size > MAX_MESSAGE_BYTES:
                why = (
                    f"a message of a program may have {MAX_MESSAGE_BYTES:,} bytes, and this one has {size:,}; keep large results elsewhere"
                )
                raise ResourceExhausted(why, ErrorReason.INVALID_MESSAGES)
            pause = allowance.take(self._take_in(program, said), size)
            if pause:
                self._connected.on_flood(program)
                await asyncio.sleep(pause)

    def _take_in(self, program: Program, said: pb.WorkRequest) -> int:
        """Act on a message; returns for how many it counts."""
        program.heard()
        if said.HasField("register"):
            self._connected.register(program, contract.registration(said.register))
            return REGISTRATION_COUNTS
        if program.registration is None:
            raise InvalidArgument("the first message of a stream must be register: the program's name, its job types and its slots")
        return 0 if program.take_in(said) else 1


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

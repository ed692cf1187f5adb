"""WorkerService: parse, one core call, reply."""

from __future__ import annotations

from typing import Any

import grpc

from sickbay.contract import requests as parse
from sickbay.contract import workers as contract
from sickbay.contract.paging import next_page_token, parse_paging
from sickbay.jobs.v1 import worker_service_pb2 as pb
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceServicer
from sickbay.ports.workers import WorkerRegistry
from sickbay.server.access.caller import principal_of


class WorkerApi(WorkerServiceServicer):
    """Serves the control plane's part of WorkerService."""

    def __init__(self, workers: WorkerRegistry) -> None:
        """It reads the registry at each call."""
        self._workers = workers

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: Any) -> pb.ListWorkersResponse:
        """See the contract."""
        principal = principal_of(context)
        paging, job_type = parse_paging(request, principal.name), parse.job_type_filter(request.job_type)
        asked = parse.tenants(request.tenant, principal) if request.tenant else None
        fleet = await self._workers.fleet()
        page, cursor = contract.page(fleet.workers, job_type, paging.cursor, paging.limit, tenants=asked)
        workers = [contract.worker(one, principal.tenants) for one in page]
        return pb.ListWorkersResponse(workers=workers, next_page_token=next_page_token(request, cursor, principal.name))

    async def Work(self, request_iterator: Any, context: Any) -> Any:
        """See the contract."""
        why = "the control plane has no jobs to run: call Work on a worker (gRPC port 50052) whose WORK_STREAM allows it"
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, why)
        yield  # never reached; it makes this a stream

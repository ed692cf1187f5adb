"""JobTypeService: parse, one core call, reply."""

from __future__ import annotations

from typing import Any

from sickbay.contract import job_types as contract
from sickbay.contract import requests as parse
from sickbay.contract.paging import next_page_token, parse_paging
from sickbay.domain.errors import ErrorReason, NotFound
from sickbay.job_types.view import JobTypeView
from sickbay.jobs.v1 import job_type_service_pb2 as pb
from sickbay.jobs.v1.job_type_service_pb2_grpc import JobTypeServiceServicer


class JobTypeApi(JobTypeServiceServicer):
    """Serves JobTypeService."""

    def __init__(self, types: JobTypeView) -> None:
        """It looks at the registry at each call."""
        self._types = types

    async def ListJobTypes(self, request: pb.ListJobTypesRequest, context: Any) -> pb.ListJobTypesResponse:
        """See the contract."""
        paging = parse_paging(request)
        page, cursor = contract.page(await self._types.look(), paging.cursor, paging.limit)
        return pb.ListJobTypesResponse(types=map(contract.job_type, page), next_page_token=next_page_token(request, cursor))

    async def GetJobType(self, request: pb.GetJobTypeRequest, context: Any) -> pb.GetJobTypeResponse:
        """See the contract."""
        name = parse.job_type(request.job_type)
        found = (await self._types.look()).get(name)
        if found is None:
            raise NotFound(
                f"no live worker takes the job type {name!r}, and none has described it within the last 24 hours; start a worker that has "
                "a handler for it",
                ErrorReason.JOB_TYPE_NOT_FOUND,
            )
        return pb.GetJobTypeResponse(type=contract.job_type(found))

"""The calls about job types, as `client.types` and `client.type`; the Job API answers them."""

from __future__ import annotations

from sickbay.client.calls import MAX_PAGE, Call, Pages, Rpc
from sickbay.client.reading import read
from sickbay.client.types import JobType
from sickbay.jobs.v1 import job_type_service_pb2 as pb


def list_types(*, limit: int | None = None, page_size: int = MAX_PAGE, timeout: float | None = None) -> Pages[JobType]:
    """Iterate over the job types that live workers take, or have described within the last 24 hours, by name."""
    request = pb.ListJobTypesRequest(page_size=page_size)
    return Pages(Rpc.of_types("ListJobTypes"), request, lambda reply: (read(one, JobType) for one in reply.types), timeout, limit)


def get(job_type: str, *, timeout: float | None = None) -> Call[JobType]:
    """Get a job type with the JSON Schema of its payloads. NotFound if no worker takes it or has described it."""
    request = pb.GetJobTypeRequest(job_type=job_type)
    return Call(Rpc.of_types("GetJobType"), request, lambda reply: read(reply.type, JobType), timeout)

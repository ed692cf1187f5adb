"""The calls about jobs in quarantine, as `client.quarantine` has them; the control plane answers them."""

from __future__ import annotations

from typing import Any

from sickbay.client.calls import MAX_PAGE, Call, Pages, Rpc, duration, enum_number
from sickbay.client.jobs import Job
from sickbay.client.payload import Payload, payload_text
from sickbay.client.quarantine import FailureGroup, QuarantinedJob
from sickbay.client.reading import read
from sickbay.domain.job import JobState, Reason
from sickbay.domain.priority import Priority
from sickbay.jobs.v1 import job_pb2
from sickbay.jobs.v1 import quarantine_service_pb2 as pb


def list_quarantined(
    *,
    job_type: str = "",
    tenant: str = "",
    state: JobState | str | None = None,
    reason: Reason | str | None = None,
    error_code: str = "",
    fingerprint: str = "",
    min_age_s: float | None = None,
    priority: Priority | str | None = None,
    limit: int | None = None,
    page_size: int = MAX_PAGE,
    timeout: float | None = None,
) -> Pages[QuarantinedJob]:
    """Iterate over parked and quarantined jobs, longest waiting first, without payloads. Empty filters do not filter."""
    request = pb.ListQuarantinedJobsRequest(
        job_type=job_type,
        tenant=tenant,
        state=enum_number(job_pb2.Job.State, state, "state"),
        reason=enum_number(pb.QuarantinedJob.Reason, reason, "reason"),
        error_code=error_code,
        fingerprint=fingerprint,
        min_age=duration(min_age_s, "min_age_s"),
        priority=enum_number(job_pb2.Priority, priority, "priority"),
        page_size=page_size,
    )
    method = Rpc.of_quarantine("ListQuarantinedJobs")
    return Pages(method, request, lambda reply: (read(job, QuarantinedJob) for job in reply.jobs), timeout, limit)


def get(job_id: str, *, timeout: float | None = None) -> Call[QuarantinedJob]:
    """Get a job with its payload, revisions and history. NotFound if it is not in quarantine."""
    request = pb.GetQuarantinedJobRequest(job_id=job_id)
    return Call(Rpc.of_quarantine("GetQuarantinedJob"), request, lambda reply: read(reply.job, QuarantinedJob), timeout)


def groups(
    *, job_type: str = "", tenant: str = "", limit: int | None = None, page_size: int = MAX_PAGE, timeout: float | None = None
) -> Pages[FailureGroup]:
    """Iterate over groups of jobs in quarantine with the same type, error code and shape of message, largest first."""
    request = pb.ListFailureGroupsRequest(job_type=job_type, tenant=tenant, page_size=page_size)
    method = Rpc.of_quarantine("ListFailureGroups")
    return Pages(method, request, lambda reply: (read(group, FailureGroup) for group in reply.groups), timeout, limit)


def resubmit(
    job_id: str,
    *,
    payload: Payload | None = None,
    job_type: str = "",
    priority: Priority | str | None = None,
    etag: str = "",
    actor: str = "",
    skip_validation: bool = False,
    timeout: float | None = None,
) -> Call[Job]:
    """Return a job to the queue with all its retries, if you like with another payload, type or priority.

    InvalidRequest if the payload does not fit the schema of its job type, and one is known, unless `skip_validation` is set.

    Conflict if `etag` is given and the job has changed since; NotFound if it is not in quarantine. It is not sent again by itself, because
    a repeat would be NotFound although the first one took effect: get the job if no answer came.
    """
    request = pb.ResubmitJobRequest(
        job_id=job_id,
        job_type=job_type,
        etag=etag,
        actor=actor,
        priority=enum_number(job_pb2.Priority, priority, "priority"),
        skip_validation=skip_validation,
    )
    if payload is not None:
        request.payload_json = payload_text(payload)
    return _once("ResubmitJob", request, timeout)


def discard(job_id: str, *, etag: str = "", actor: str = "", timeout: float | None = None) -> Call[Job]:
    """Discard a job for good. Conflict if `etag` is given and the job has changed since; NotFound if it is not in quarantine.

    It is not sent again by itself, for the same reason as `resubmit`.
    """
    return _once("DiscardJob", pb.DiscardJobRequest(job_id=job_id, etag=etag, actor=actor), timeout)


def _once(method: str, request: Any, timeout: float | None) -> Call[Job]:
    return Call(Rpc.of_quarantine(method), request, lambda reply: read(reply.job, Job), timeout, is_safe=False)

"""The calls about jobs that are to run later, as `client.scheduled_jobs` has them; the control plane answers them."""

from __future__ import annotations

from datetime import datetime

from sickbay.client.calls import MAX_PAGE, Call, Pages, Rpc, enum_number
from sickbay.client.jobs import Job
from sickbay.client.payload import Payload, payload_text
from sickbay.client.reading import read
from sickbay.client.scheduled import ScheduledJob
from sickbay.client.when import Span, set_run_time, timestamp
from sickbay.domain.priority import Priority
from sickbay.jobs.v1 import job_pb2
from sickbay.jobs.v1 import scheduled_job_service_pb2 as pb


def list_scheduled(
    *,
    job_type: str = "",
    tenant: str = "",
    schedule_id: str = "",
    before: datetime | None = None,
    limit: int | None = None,
    page_size: int = MAX_PAGE,
    timeout: float | None = None,
) -> Pages[ScheduledJob]:
    """Iterate over SCHEDULED jobs by the time when they are due, without payloads; `before`: only those that are due before then.

    Empty filters do not filter.
    """
    request = pb.ListScheduledJobsRequest(
        job_type=job_type, tenant=tenant, schedule_id=schedule_id, before_time=timestamp(before, "before"), page_size=page_size
    )
    method = Rpc.of_scheduled_jobs("ListScheduledJobs")
    return Pages(method, request, lambda reply: (read(job, ScheduledJob) for job in reply.jobs), timeout, limit)


def get(job_id: str, *, timeout: float | None = None) -> Call[ScheduledJob]:
    """Get a job with its payload and history. NotFound if it is not (or no longer) SCHEDULED."""
    request = pb.GetScheduledJobRequest(job_id=job_id)
    return Call(Rpc.of_scheduled_jobs("GetScheduledJob"), request, lambda reply: read(reply.job, ScheduledJob), timeout)


def update(
    job_id: str,
    *,
    delay: Span | None = None,
    run_at: datetime | None = None,
    payload: Payload | None = None,
    priority: Priority | str | None = None,
    etag: str = "",
    actor: str = "",
    skip_validation: bool = False,
    timeout: float | None = None,
) -> Call[ScheduledJob]:
    """Change when a job runs, its payload or its priority. `delay` counts from now; a `run_at` that has passed means at once.

    InvalidRequest if the payload does not fit the schema of its job type, and one is known, unless `skip_validation` is set.

    Conflict if `etag` is given and the job has changed since; NotFound if it is not (or no longer) SCHEDULED, FailedPrecondition if it is
    being sent to the workers right now. It is not sent again by itself, because a repeat could be NotFound or a Conflict although the
    first one took effect: get the job if no answer came.
    """
    request = pb.UpdateScheduledJobRequest(
        job_id=job_id,
        priority=enum_number(job_pb2.Priority, priority, "priority"),
        etag=etag,
        actor=actor,
        skip_validation=skip_validation,
    )
    set_run_time(request, delay, run_at)
    if payload is not None:
        request.payload_json = payload_text(payload)
    method = Rpc.of_scheduled_jobs("UpdateScheduledJob")
    return Call(method, request, lambda reply: read(reply.job, ScheduledJob), timeout, is_safe=False)


def run(job_id: str, *, etag: str = "", actor: str = "", timeout: float | None = None) -> Call[Job]:
    """Run a job now: it is QUEUED when this returns. The errors of `update`; it is not sent again by itself either."""
    request = pb.RunScheduledJobRequest(job_id=job_id, etag=etag, actor=actor)
    return Call(Rpc.of_scheduled_jobs("RunScheduledJob"), request, lambda reply: read(reply.job, Job), timeout, is_safe=False)


def cancel(job_id: str, *, etag: str = "", actor: str = "", timeout: float | None = None) -> Call[Job]:
    """Cancel a job; once this returns it does not run any more. The errors of `update`; repeating it without `etag` is harmless."""
    request = pb.CancelScheduledJobRequest(job_id=job_id, etag=etag, actor=actor)
    return Call(Rpc.of_scheduled_jobs("CancelScheduledJob"), request, lambda reply: read(reply.job, Job), timeout, is_safe=not etag)

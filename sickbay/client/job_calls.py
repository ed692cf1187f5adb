"""The calls of the Job API, as `Client` and `AsyncClient` have them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from sickbay.client.calls import MAX_PAGE, RECONNECT_S, Call, Pages, Rpc, Watch, enum_number, enum_numbers
from sickbay.client.errors import DeadlineExceeded, JobNotSucceeded, ResultNotKept, out_of_time
from sickbay.client.jobs import BreakerNotice, Job, JobExplanation, JobUpdate, NewJob, OnOpen, StateChange, SubmittedJob
from sickbay.client.payload import Payload, named, payload_text
from sickbay.client.reading import read
from sickbay.client.retry import room
from sickbay.client.when import Span, set_run_time
from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority
from sickbay.handlers.payloads.typing import PayloadObject
from sickbay.jobs.v1 import job_pb2
from sickbay.jobs.v1 import job_service_pb2 as pb

BATCH: Final = Rpc.of_jobs("BatchSubmitJobs")


def submit(
    job_type: str | PayloadObject,
    payload: Payload | None = None,
    *,
    tenant: str = "",
    priority: Priority | str | None = None,
    request_id: str = "",
    on_open: OnOpen | str | None = None,
    delay: Span | None = None,
    run_at: datetime | None = None,
    wait_for_limits: bool | float = False,
    timeout: float | None = None,
) -> Call[SubmittedJob]:
    """Submit a job; once this returns, it is durable.

    `payload` is a mapping, JSON text of an object, or an object of a class with fields: a model of pydantic, a msgspec Struct, a dataclass.
    Such an object alone is enough if `@job_type` of `sickbay` says the job type of its class: `submit(Email(...))`.

    `request_id` is the idempotency key: a repeat within 24 hours returns the first job. The client makes one if you give none, and keeps it
    when it sends the request again. With `on_open="REJECT"` CircuitOpen is raised while the circuit is open. `wait_for_limits`: wait while
    a limit rejects the job, within the timeout (True), or for so many seconds more.

    `delay` (seconds, or a timedelta) or `run_at` (an aware datetime) say when it is to run: until then it is SCHEDULED. A `run_at` that has
    passed means at once. Both are part of what `request_id` compares.
    """
    request = submit_request(NewJob(job_type, payload, tenant, priority, request_id, on_open, delay, run_at))

    def parse(reply: pb.SubmitJobResponse) -> SubmittedJob:
        return SubmittedJob(read(reply.job, Job), reply.duplicate, notice(reply), request.request_id)

    return Call(Rpc.of_jobs("SubmitJob"), request, parse, timeout, room_s=room(wait_for_limits))


def get(job_id: str, *, timeout: float | None = None) -> Call[Job]:
    """Get a job with its history. NotFound if the id is unknown."""
    return Call(Rpc.of_jobs("GetJob"), pb.GetJobRequest(job_id=job_id), lambda reply: read(reply.job, Job), timeout)


def explain(job_id: str, *, timeout: float | None = None) -> Call[JobExplanation]:
    """Explain why a job is in its state, since when, and what happens next. NotFound if the id is unknown."""
    request = pb.ExplainJobRequest(job_id=job_id)
    return Call(Rpc.of_jobs("ExplainJob"), request, lambda reply: read(reply.explanation, JobExplanation), timeout)


def list_jobs(
    *,
    job_type: str = "",
    tenant: str = "",
    states: Iterable[JobState | str] | JobState | str = (),
    priority: Priority | str | None = None,
    full: bool = False,
    limit: int | None = None,
    page_size: int = MAX_PAGE,
    timeout: float | None = None,
) -> Pages[Job]:
    """Iterate over jobs, newest submission first; pages are fetched as they are needed, each within the timeout.

    Empty filters do not filter. `full` adds histories and tracebacks.
    """
    request = pb.ListJobsRequest(
        job_type=job_type,
        tenant=tenant,
        states=enum_numbers(job_pb2.Job.State, states, "states"),
        priority=enum_number(job_pb2.Priority, priority, "priority"),
        view=job_pb2.JOB_VIEW_FULL if full else job_pb2.JOB_VIEW_BASIC,
        page_size=page_size,
    )
    return Pages(Rpc.of_jobs("ListJobs"), request, lambda reply: (read(job, Job) for job in reply.jobs), timeout, limit)


def watch(job_id: str, *, resume_token: str = "", timeout: float | None = None, reconnect_for: float = RECONNECT_S) -> Watch[JobUpdate]:
    """Iterate over a job's state, now and after every change, until it has ended; a parked or quarantined job has not.

    While it is RUNNING its progress comes, too, in updates without a `change`, if its handler reports any. The last update of a job that
    has SUCCEEDED has its result. A broken connection is resumed after the last change that was received, no change is missed or repeated,
    for at most `reconnect_for` seconds.
    DeadlineExceeded after `timeout` seconds in all; None waits as long as it takes.
    """
    request = pb.WatchJobRequest(job_id=job_id, resume_token=resume_token)

    def parse(reply: pb.WatchJobResponse) -> JobUpdate:
        change = read(reply.change, StateChange) if reply.HasField("change") else None
        return JobUpdate(read(reply.job, Job), change, reply.resume_token)

    return Watch(Rpc.of_jobs("WatchJob"), request, parse, timeout, reconnect_for)


def cancel(job_id: str, *, timeout: float | None = None) -> Call[Job]:
    """Cancel a job and return it; once this returns no further run of it begins.

    It is CANCELLED, or it still runs and has a `cancel_request_time`: then it ends CANCELLED, or SUCCEEDED if its handler completes
    successfully all the same. FailedPrecondition if it has ended, or runs on a worker of an earlier version.
    """
    return Call(Rpc.of_jobs("CancelJob"), pb.CancelJobRequest(job_id=job_id), lambda reply: read(reply.job, Job), timeout)


def not_ended(job_id: str, last: Job | None, timeout: float | None) -> DeadlineExceeded:
    """The error of a wait that is over before the job; `last` is what is known of it."""
    state = f"; it is {last.state}" if last is not None else ""
    return out_of_time(f"job {job_id} has not ended within {timeout:g} s{state}")


def result_of(job: Job) -> Any:
    """The decoded result of a job that was waited for. JobNotSucceeded or ResultNotKept if it has none."""
    if job.state is not JobState.SUCCEEDED:
        cause = f": {job.errors[-1].code}: {job.errors[-1].message}" if job.errors and job.state is JobState.QUARANTINED else ""
        raise JobNotSucceeded(f"job {job.job_id} is {job.state}, not SUCCEEDED{cause}", job)
    if job.result_note:
        raise ResultNotKept(job.result_note, job)
    return job.result


def submit_request(job: NewJob, *, own_key: bool = True) -> pb.SubmitJobRequest:
    """The request for a new job, with a key of our own if it has none and `own_key`. InvalidRequest if it cannot even be written."""
    job_type, payload = named(job.job_type, job.payload)
    request = pb.SubmitJobRequest(
        job_type=job_type,
        payload_json=payload_text(payload),
        tenant=job.tenant,
        priority=enum_number(job_pb2.Priority, job.priority, "priority"),
        request_id=job.request_id or (new_key() if own_key else ""),
        on_open=enum_number(pb.OnOpen, job.on_open, "on_open"),
    )
    set_run_time(request, job.delay, job.run_at)
    return request


def new_key() -> str:
    """An idempotency key that nobody else has."""
    return str(uuid.uuid4())


def notice(reply: pb.SubmitJobResponse | pb.BatchSubmitResult) -> BreakerNotice | None:
    """What the reply says about the breaker; None if it is closed."""
    return read(reply.breaker, BreakerNotice) if reply.HasField("breaker") else None

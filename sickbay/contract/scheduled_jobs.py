"""ScheduledJobService: validation of its requests, and conversion of SCHEDULED jobs to protobuf."""

from __future__ import annotations

from dataclasses import replace

from sickbay.contract import requests as parse
from sickbay.contract import responses
from sickbay.contract.times import moment_ms, run_time
from sickbay.domain.access import ANYBODY, Principal
from sickbay.domain.errors import InvalidArgument
from sickbay.domain.job import JobRecord
from sickbay.domain.queries import QuarantinedJob, ScheduledJobEdit, ScheduledJobQuery
from sickbay.jobs.v1 import job_pb2
from sickbay.jobs.v1 import scheduled_job_service_pb2 as pb

_NOTHING = "there is nothing to change; send delay or run_time, a payload or a priority"


def scheduled_query(request: pb.ListScheduledJobsRequest, principal: Principal = ANYBODY) -> ScheduledJobQuery:
    """Which SCHEDULED jobs to list, of those that the principal sees."""
    return ScheduledJobQuery(
        job_type=parse.job_type_filter(request.job_type),
        tenants=parse.tenants(request.tenant, principal),
        schedule_id=parse.line(request.schedule_id, "schedule id", parse.MAX_ID_CHARS),
        before=moment_ms(request.before_time, "before_time") if request.HasField("before_time") else None,
    )


def scheduled_edit(request: pb.UpdateScheduledJobRequest) -> ScheduledJobEdit:
    """The changes of a SCHEDULED job, at least one."""
    delay_ms, run_at = run_time(request)
    edit = ScheduledJobEdit(run_at, delay_ms, parse.content(request), parse.priority(request.priority))
    if edit == ScheduledJobEdit():
        raise InvalidArgument(_NOTHING)
    return edit


def scheduled(record: JobRecord) -> pb.ScheduledJob:
    """A SCHEDULED job as in lists: without payload, revisions and history."""
    return _scheduled(record, responses.job(record))


def scheduled_details(found: QuarantinedJob, *, hides_payload: bool = False) -> pb.ScheduledJob:
    """A SCHEDULED job with payload, revisions and history; `hides_payload`: without payloads, and it says so."""
    message = _scheduled(found.record, responses.job(found.record, found.history))
    message.payload_hidden = hides_payload
    message.payload_json = "" if hides_payload else responses.json_text(found.record.job.payload_json)
    hidden = (replace(one, before=b"", after=b"") if hides_payload else one for one in found.revisions)
    message.revisions.extend(map(responses.revision, hidden))
    return message


def _scheduled(record: JobRecord, known: job_pb2.Job) -> pb.ScheduledJob:
    return pb.ScheduledJob(job=known, etag=record.etag)

"""RequeueJobs: validation of its requests, and conversion of its results to protobuf."""

from __future__ import annotations

from typing import Final

from sickbay.contract import requests as parse
from sickbay.contract import responses
from sickbay.contract.times import span_ms
from sickbay.domain.access import ANYBODY, Principal
from sickbay.domain.errors import InvalidArgument
from sickbay.domain.queries import LostQuery, Requeued, RequeueOrder, Verdict
from sickbay.jobs.v1 import quarantine_service_pb2 as pb

MAX_REQUEUED: Final = 500
"""The maximum number of jobs in one call."""
DEFAULT_MIN_AGE_MS: Final = 60_000

_OUTCOMES: Final = {verdict: pb.RequeuedJob.Outcome.Value(f"OUTCOME_{verdict.value}") for verdict in Verdict}


def lost_query(request: pb.RequeueJobsRequest, now: int, principal: Principal = ANYBODY) -> LostQuery:
    """Which jobs may be lost, of those that the principal sees; `now` in ms."""
    if len(request.job_ids) > MAX_REQUEUED:
        raise InvalidArgument(f"at most {MAX_REQUEUED} jobs can be named, not {len(request.job_ids):,}; split them")
    quiet = span_ms(request.min_age, "minimal age", 1_000, now) if request.HasField("min_age") else DEFAULT_MIN_AGE_MS
    ids = tuple(dict.fromkeys(map(parse.job_id, request.job_ids)))
    return LostQuery(now - quiet, parse.job_type_filter(request.job_type), parse.tenants(request.tenant, principal), ids)


def requeue_order(request: pb.RequeueJobsRequest, principal: Principal = ANYBODY) -> RequeueOrder:
    """What to do with them."""
    return RequeueOrder(
        actor=parse.actor(request.actor, principal),
        validate_only=request.validate_only,
        even_if_waiting=request.even_if_waiting,
        discard_without_payload=request.discard_without_payload,
    )


def requeued(one: Requeued) -> pb.RequeuedJob:
    """A job that may have been lost, with its outcome."""
    return pb.RequeuedJob(job=responses.job(one.record), outcome=_OUTCOMES[one.verdict], message=one.message)

"""The exceptions of REST from the rules of `transcoding`: a table of messages with a documented JSON format.

Other messages need no entry: fields are in camelCase, states without prefix, times as RFC 3339 in UTC with milliseconds, payloads byte
for byte. Unset fields are omitted, so a healthy breaker is just
`{"jobType": ..., "state": "CLOSED"}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgspec

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsResponse, ListBreakersResponse, ResetBreakerResponse
from sickbay.domain.job import DEFAULT_TENANT, NAME_PATTERN, JobState
from sickbay.jobs.v1.job_pb2 import JOB_VIEW_BASIC, JOB_VIEW_FULL, Job
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitResult, BreakerNotice, SubmitJobResponse
from sickbay.server.rest.schedule_shapes import SCHEDULES
from sickbay.server.rest.transcoding.fields import Shape, Shapes, View
from sickbay.server.rest.transcoding.kinds import JSON_VALUE, flag, whole_seconds
from sickbay.server.rest.transcoding.render import Renderer
from sickbay.server.rest.transcoding.times import millis, rfc3339

__all__ = ["View", "millis", "rfc3339"]

_OPENED: Final = frozenset({Breaker.STATE_OPEN, Breaker.STATE_HALF_OPEN, Breaker.STATE_FORCED_OPEN})
_STATES: Final = {number: name.removeprefix("STATE_") for name, number in Breaker.State.items()}
_AGE: Final = 10**9
MOST_KEPT: Final = 20_000
"""Of so many breakers the JSON is kept, some 500 bytes each."""


def encode(view: Any) -> bytes:
    """The view as compact JSON."""
    return msgspec.json.encode(view)


def accepted_view(reply: SubmitJobResponse) -> View:
    """The documented response to an accepted job."""
    is_later = reply.job.state == Job.STATE_SCHEDULED
    message = "Job scheduled" if is_later else "Job queued for processing"
    view = {"status": "accepted", "message": message, "jobType": reply.job.job_type, "jobId": reply.job.job_id}
    return view | ({"runAt": rfc3339(reply.job.run_time.ToMilliseconds())} if is_later else {}) | _beside(reply)


def batch_result_view(result: BatchSubmitResult) -> View:
    """The result for an accepted job of a batch."""
    return {"jobId": result.job_id} | _beside(result)


def _beside(reply: SubmitJobResponse | BatchSubmitResult) -> View:
    """What is said about an accepted job only if there is something to say."""
    view: View = {"duplicate": True} if reply.duplicate else {}
    return view | {"breaker": _notice_view(reply.breaker)} if reply.HasField("breaker") else view


def _notice_view(notice: BreakerNotice) -> View:
    state = Breaker.State.Name(notice.state).removeprefix("STATE_")
    probe_at = millis(notice.probe_time) if notice.HasField("probe_time") else None
    return _without_none({"state": state, "probeAt": probe_at, "note": notice.note})


def reset_view(breaker: Breaker) -> View:
    """The documented response to a reset, which names everybody whose breaker it was."""
    shared = f": that of the dependency '{breaker.dependency}', shared by {', '.join(breaker.job_types)}" if breaker.dependency else ""
    message = f"Circuit breaker for '{breaker.job_type}' has been reset{shared}"
    return {"message": message, "jobType": breaker.job_type} | _without_none(_shared_view(breaker))


def breaker_view(breaker: Breaker) -> View:
    """A breaker; its times are integers, ms since the epoch, as documented.

    Built in the documented order, without what is empty: lists have thousands of breakers, and most fields of most of them are.
    """
    view: View = {"jobType": breaker.job_type}
    if (tenant := breaker.tenant) != DEFAULT_TENANT:
        view["tenant"] = tenant
    if breaker.dependency:
        view |= _shared_view(breaker)
    state = breaker.state
    view["state"] = _STATES.get(state) or Breaker.State.Name(state)
    if state in _OPENED:
        _add_opening(view, breaker)
    if breaker.HasField("probe_time"):
        view["probeAt"] = millis(breaker.probe_time)
    if job_id := breaker.probe_job_id:
        view["probeJobId"] = job_id
    if hanging := breaker.hanging_probes:
        view["hangingProbes"] = hanging
    if trips := breaker.trips:
        view["trips"] = trips
    if waits := breaker.waiting_for:
        view["waitingFor"] = waits
    _add_failures(view, breaker)
    _add_control(view, breaker)
    return view


@lru_cache(maxsize=MOST_KEPT)
def breaker_json(breaker: bytes) -> msgspec.Raw:
    """A serialized breaker as JSON. Of a list that is read again hardly any has changed, and looking it up takes a fifth of the time."""
    return msgspec.Raw(encode(breaker_view(Breaker.FromString(breaker))))


def breakers_view(breakers: Sequence[View | msgspec.Raw], next_page_token: str = "") -> View:
    """A page of breakers."""
    return _without_none({"count": len(breakers), "breakers": breakers, "nextPageToken": next_page_token or None})


def metrics_view(metrics: GetMetricsResponse) -> View:
    """The system in numbers."""
    breakers = metrics.circuit_breakers
    return {
        "circuitBreakers": {"total": breakers.total, "open": breakers.open, "closed": breakers.closed},
        "failures": {"byJobType": dict(sorted(metrics.failures_by_job_type.items()))},
        "jobs": {"byState": dict(sorted(metrics.jobs_by_state.items()))},
        "queues": dict(sorted(metrics.queue_depths.items())),
        "duplicates": metrics.duplicates,
    }


def _shared_view(breaker: Breaker) -> View:
    return {"dependency": breaker.dependency or None, "jobTypes": list(breaker.job_types) if breaker.dependency else None}


def _add_opening(view: View, breaker: Breaker) -> None:
    if breaker.HasField("open_time"):
        view["openedAt"] = millis(breaker.open_time)
    view["cooldownElapsed"] = breaker.cooldown_elapsed
    if breaker.HasField("cooldown"):
        view["cooldownMs"] = breaker.cooldown.ToMilliseconds()


def _add_failures(view: View, breaker: Breaker) -> None:
    if code := breaker.reason_code:
        view["reason"] = {"code": code, "count": breaker.reason_count, "message": breaker.reason_message}
    if count := breaker.failures_in_row:
        view["failuresInRow"] = {"code": breaker.failures_in_row_code, "count": count}
    if total := breaker.total_failures:
        view["totalFailures"] = total
    if runs := breaker.recent_runs:
        view["recentRuns"] = runs
        view["recentFailureRate"] = round(breaker.recent_failure_rate, 3)


def _add_control(view: View, breaker: Breaker) -> None:
    if breaker.recovering:
        view["recovering"] = True
        view["throttled"] = {"admittedPerSecond": round(breaker.admitted_per_second, 1)}
    if breaker.forced_by or breaker.forced_why or breaker.HasField("forced_until_time"):
        view["forced"] = _forced_view(breaker)
    if missed := breaker.would_have_tripped:
        view["wouldHaveTripped"] = missed
    if breaker.degraded:
        view["degraded"] = True
    if breaker.redacted:
        view["redacted"] = True


def _forced_view(breaker: Breaker) -> View:
    view: View = {}
    if breaker.HasField("forced_until_time"):
        view["until"] = millis(breaker.forced_until_time)
    if by := breaker.forced_by:
        view["by"] = by
    if why := breaker.forced_why:
        view["why"] = why
    return view


def _without_none(view: View) -> View:
    return {name: value for name, value in view.items() if value is not None}


def _reset(reply: ResetBreakerResponse) -> View:
    return reset_view(reply.breaker)


def _breakers(reply: ListBreakersResponse) -> View:
    return breakers_view([breaker_json(breaker.SerializeToString()) for breaker in reply.breakers], reply.next_page_token)


_NAME: Final = {"pattern": f"^{NAME_PATTERN}$"}
_NAME_OR_NONE: Final = {"pattern": f"^({NAME_PATTERN})?$"}
_LOOSE: Final = {"additionalProperties": True, "required": []}
"""The items of a batch are validated one by one."""

SHAPES: Final[Shapes] = MappingProxyType(
    {
        **SCHEDULES,
        # Responses.
        "sickbay.jobs.v1.Job": Shape(
            names={
                "submit_time": "submittedAt",
                "update_time": "updatedAt",
                "start_time": "startedAt",
                "next_attempt_time": "nextAttemptAt",
                "cancel_request_time": "cancelRequestedAt",
                "run_time": "runAt",
                "tick_time": "tickAt",
            },
            sparse=frozenset({"history", "result_note", "result_hidden", "schedule_id"}),
            kinds={"result_json": JSON_VALUE},
        ),
        "sickbay.jobs.v1.Progress": Shape(names={"update_time": "updatedAt"}, sparse=frozenset({"message"})),
        "sickbay.jobs.v1.AttemptError": Shape(sparse=frozenset({"traceback"})),
        "sickbay.jobs.v1.StateChange": Shape(sparse=frozenset({"code", "message", "actor", "traceback"})),
        "sickbay.jobs.v1.QuarantinedJob": Shape(
            inline="job",
            names={"quarantine_time": "quarantinedAt"},
            sparse=frozenset({"fingerprint", "payload_hidden"}),
            along={"revisions": "payload_json"},
        ),
        "sickbay.jobs.v1.ScheduledJob": Shape(inline="job", sparse=frozenset({"payload_hidden", "revisions"})),
        "sickbay.jobs.v1.PayloadRevision": Shape(sparse=frozenset({"actor"})),
        "sickbay.jobs.v1.FailureGroup": Shape(names={"first_time": "firstAt", "last_time": "lastAt"}),
        "sickbay.jobs.v1.Worker": Shape(names={"start_time": "since", "last_seen_time": "lastSeen"}),
        "sickbay.jobs.v1.JobType": Shape(names={"announce_time": "announcedAt"}),
        "sickbay.jobs.v1.RequeuedJob": Shape(inline="job", sparse=frozenset({"message"})),
        "sickbay.jobs.v1.ListQuarantinedJobsResponse": Shape(names={"total_size": "count"}),
        "sickbay.jobs.v1.SubmitJobResponse": Shape(view=accepted_view, body="AcceptedBody"),
        "sickbay.jobs.v1.BatchSubmitJobsResponse": Shape(body="BatchBody"),
        "sickbay.jobs.v1.JobExplanation": Shape(names={"since_time": "since", "next_time": "nextAt"}, sparse=frozenset({"commands"})),
        "sickbay.breakers.v1.BreakerExplanation": Shape(
            names={"since_time": "since", "next_time": "nextAt"}, sparse=frozenset({"commands"})
        ),
        "sickbay.breakers.v1.Breaker": Shape(view=breaker_view, body="BreakerBody"),
        "sickbay.breakers.v1.ListBreakersResponse": Shape(view=_breakers, body="BreakersBody"),
        "sickbay.breakers.v1.ResetBreakerResponse": Shape(view=_reset, body="ResetBody"),
        "sickbay.breakers.v1.GetMetricsResponse": Shape(view=metrics_view, body="MetricsBody"),
        "sickbay.breakers.v1.Incident": Shape(
            names={"open_time": "openedAt", "close_time": "closedAt"}, sparse=frozenset({"timeline", "omitted_entries", "redacted"})
        ),
        "sickbay.breakers.v1.FailedJob": Shape(sparse=frozenset({"trace_id"})),
        "sickbay.breakers.v1.IncidentEntry": Shape(sparse=frozenset({"code", "message", "actor", "job_id"})),
        "sickbay.breakers.v1.IncidentAcknowledgement": Shape(sparse=frozenset({"actor", "note"})),
        "sickbay.audit.v1.AuditEntry": Shape(
            names={"time": "time", "end_time": "endedAt"},
            sparse=frozenset(
                {
                    *("principal", "principal_kind", "credential", "target_kind", "target", "tenant", "reason", "message"),
                    *("before", "after", "claimed_actor", "note", "request", "source"),
                }
            ),
        ),
        # Requests.
        "sickbay.jobs.v1.SubmitJobRequest": Shape(names={"run_time": "runAt"}, documented={"job_type": _NAME, "tenant": _NAME_OR_NONE}),
        "sickbay.jobs.v1.BatchSubmitJobsRequest": Shape(
            names={"requests": "jobs"}, documented={"requests": {"minItems": 1, "maxItems": 1000, "items": _LOOSE}}
        ),
        "sickbay.jobs.v1.GetJobRequest": Shape(hidden=frozenset({"view"})),
        "sickbay.jobs.v1.ListJobsRequest": Shape(
            names={"states": "state", "view": "history"}, kinds={"view": flag(JOB_VIEW_BASIC, JOB_VIEW_FULL)}
        ),
        "sickbay.jobs.v1.ListQuarantinedJobsRequest": Shape(
            kinds={"min_age": whole_seconds(0, _AGE)},
            documented={"state": {"enum": [state.value for state in JobState if state.in_quarantine]}},
        ),
        "sickbay.jobs.v1.ResubmitJobRequest": Shape(documented={"job_type": _NAME}),
        "sickbay.jobs.v1.ListScheduledJobsRequest": Shape(names={"before_time": "before"}),
        "sickbay.jobs.v1.UpdateScheduledJobRequest": Shape(names={"run_time": "runAt"}),
        "sickbay.jobs.v1.RequeueJobsRequest": Shape(kinds={"min_age": whole_seconds(1, _AGE)}, documented={"job_ids": {"maxItems": 500}}),
        "sickbay.breakers.v1.ListBreakersRequest": Shape(
            documented={"page_size": {"description": "The maximum number of results, 1 to 1,000; 0 means 1,000."}}
        ),
        "sickbay.breakers.v1.ForceOpenBreakerRequest": Shape(names={"duration": "seconds"}, documented={"duration": {"minimum": 0.001}}),
    }
)

render: Final = Renderer(SHAPES)
"""Converts a message to its view."""
job_view: Final = render
change_view: Final = render
quarantined_view: Final = render
scheduled_view: Final = render
requeued_view: Final = render
failure_group_view: Final = render
incident_view: Final = render
audit_view: Final = render
worker_view: Final = render
job_type_view: Final = render

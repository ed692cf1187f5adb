"""The JSON of REST, key by key."""

import json
from dataclasses import replace

import grpc
import pytest

from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsResponse, ListBreakersResponse
from sickbay.contract import explanations, responses
from sickbay.contract.faults import Fault
from sickbay.domain.breaker import BreakerKey, BreakerState, Snapshot
from sickbay.domain.errors import Quota
from sickbay.domain.explain_job import Case
from sickbay.domain.explanation import BreakerReason, BreakerStep, Explanation, JobReason, JobStep
from sickbay.domain.failure import Failure
from sickbay.domain.job import Job, JobRecord, JobState, Reason, StateChange
from sickbay.domain.progress import Progress
from sickbay.domain.queries import FailureGroup, PayloadRevision, QuarantinedJob
from sickbay.domain.result import Result
from sickbay.domain.retry import RetryPolicy
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitResult, SubmitJobResponse
from sickbay.server.rest import schemas, views
from sickbay.server.rest.errors import fault_response, item_error_view

T0 = 1_704_067_200_000  # 2024-01-01T00:00:00Z
FAILED = Failure(T0 + 1, 1, 2, "API_TIMEOUT", "no answer")
JOB = Job("id-1", "email", b'{ "big": 12345678901234567890 }', "acme", 2, 1, (FAILED,), T0)
RECORD = JobRecord(JOB, JobState.PARKED, T0 + 2_500, T0 + 1, 3, Reason.CIRCUIT_OPEN, "etag-1", "f00")
CHANGE = StateChange(T0 + 2_500, JobState.PARKED, 1, 2, "CIRCUIT_OPEN", "open", "worker-1")

JOB_VIEW = {
    "jobId": "id-1",
    "jobType": "email",
    "tenant": "acme",
    "state": "PARKED",
    "attempt": 2,
    "generation": 1,
    "errors": [{"time": "2024-01-01T00:00:00.001Z", "attempt": 2, "generation": 1, "code": "API_TIMEOUT", "message": "no answer"}],
    "submittedAt": "2024-01-01T00:00:00.000Z",
    "updatedAt": "2024-01-01T00:00:02.500Z",
    "startedAt": "2024-01-01T00:00:00.001Z",
    "duplicates": 3,
    "priority": "NORMAL",
}
CHANGE_VIEW = {
    "time": "2024-01-01T00:00:02.500Z",
    "state": "PARKED",
    "attempt": 2,
    "generation": 1,
    "code": "CIRCUIT_OPEN",
    "message": "open",
    "actor": "worker-1",
}
WARD_VIEW = {"reason": "CIRCUIT_OPEN", "etag": "etag-1", "quarantinedAt": "2024-01-01T00:00:02.500Z", "fingerprint": "f00"}


@pytest.mark.parametrize("text", ['{ "n": 9007199254740993 }', "[]", "null", '"text"', "0", "false"])
def test_a_result_is_the_json_value_itself_byte_for_byte(text):
    done = JobRecord(Job("id", "email", submitted_at=T0), JobState.SUCCEEDED, T0, result=Result(text.encode()))
    view = views.job_view(responses.job(done))
    assert f'"result":{text}'.encode() in views.encode(view)
    assert "resultNote" not in view


def test_progress_is_omitted_until_the_handler_says_something():
    going = JobRecord(Job("id", "email", submitted_at=T0), JobState.RUNNING, T0)
    assert "progress" not in views.job_view(responses.job(going))
    said = replace(going, progress=Progress(0.4, "320 of 800", T0 + 2_500))
    assert views.job_view(responses.job(said))["progress"] == {
        "fraction": 0.4,
        "message": "320 of 800",
        "updatedAt": "2024-01-01T00:00:02.500Z",
    }
    said = replace(going, progress=Progress(0.0, at=T0))
    assert views.job_view(responses.job(said))["progress"] == {"fraction": 0.0, "updatedAt": "2024-01-01T00:00:00.000Z"}


def test_without_a_result_its_field_is_omitted():
    done = JobRecord(Job("id", "email", submitted_at=T0), JobState.SUCCEEDED, T0)
    assert not {"result", "resultNote"} & views.job_view(responses.job(done)).keys()
    lost = views.job_view(responses.job(replace(done, result=Result(note="it is too large"))))
    assert ("result" in lost, lost["resultNote"]) == (False, "it is too large")


def test_a_job():
    assert views.job_view(responses.job(RECORD)) == JOB_VIEW
    assert views.job_view(responses.job(RECORD, [CHANGE])) == JOB_VIEW | {"history": [CHANGE_VIEW]}


def test_a_fresh_job():
    view = views.job_view(responses.job(JobRecord(Job("id", "email", submitted_at=T0), JobState.QUEUED, T0)))
    assert view == {
        "jobId": "id",
        "jobType": "email",
        "tenant": "default",
        "state": "QUEUED",
        "attempt": 0,
        "generation": 0,
        "errors": [],
        "submittedAt": "2024-01-01T00:00:00.000Z",
        "updatedAt": "2024-01-01T00:00:00.000Z",
        "duplicates": 0,
        "priority": "NORMAL",
    }


def test_a_job_that_is_retried():
    waiting = replace(JOB, failures=(replace(FAILED, retry_at=T0 + 5_000),))
    view = views.job_view(responses.job(JobRecord(waiting, JobState.RETRYING, T0)))
    assert view["nextAttemptAt"] == "2024-01-01T00:00:05.000Z"


def test_a_quarantined_job_in_a_list():
    assert views.quarantined_view(responses.quarantined(RECORD)) == JOB_VIEW | WARD_VIEW


def test_a_quarantined_job_alone_has_its_payload_byte_for_byte():
    case = QuarantinedJob(RECORD, [PayloadRevision(T0, "ann", b'{"x":1.0}', JOB.payload_json)], [CHANGE])
    text = views.encode(views.quarantined_view(responses.quarantined_details(case)))
    assert b'"payload":{ "big": 12345678901234567890 }' in text
    assert b'"before":{"x":1.0}' in text
    revision = {"time": "2024-01-01T00:00:00.000Z", "actor": "ann", "before": {"x": 1.0}, "after": {"big": 12345678901234567890}}
    expected = JOB_VIEW | WARD_VIEW | {"history": [CHANGE_VIEW], "payload": {"big": 12345678901234567890}, "revisions": [revision]}
    assert json.loads(text) == expected


def test_a_failure_group():
    group = FailureGroup("email", "API_TIMEOUT", "f00", "no answer", "id-1", 9, T0, T0 + 1)
    assert views.failure_group_view(responses.failure_group(group)) == {
        "jobType": "email",
        "errorCode": "API_TIMEOUT",
        "fingerprint": "f00",
        "sampleMessage": "no answer",
        "sampleJobId": "id-1",
        "count": 9,
        "firstAt": "2024-01-01T00:00:00.000Z",
        "lastAt": "2024-01-01T00:00:00.001Z",
    }


EMAIL, SMS = BreakerKey("email"), BreakerKey("sms")
OPEN = {"opened_at": T0, "cooldown_ms": 60_000}
OPEN_VIEW = {"openedAt": T0, "cooldownElapsed": False, "cooldownMs": 60_000}


@pytest.mark.parametrize(
    ("breaker", "expected"),
    [
        (Snapshot(SMS, BreakerState.CLOSED, 5, 6, T0, cooldown_ms=60_000), {"jobType": "sms", "state": "CLOSED"}),
        (
            Snapshot(EMAIL, BreakerState.OPEN, 5, 6, T0, opened_at=T0, cooldown_elapsed=True),
            {"jobType": "email", "state": "OPEN", "openedAt": T0, "cooldownElapsed": True},
        ),
        (
            Snapshot(
                EMAIL,
                BreakerState.OPEN,
                5,
                6,
                T0,
                trips=2,
                probe_at=T0 + 9,
                reason_code="API_TIMEOUT",
                reason_count=5,
                reason_message="no answer",
                total_failures=7,
                **OPEN,
            ),
            {"jobType": "email", "state": "OPEN", "trips": 2, "probeAt": T0 + 9, "totalFailures": 7}
            | {"reason": {"code": "API_TIMEOUT", "count": 5, "message": "no answer"}}
            | OPEN_VIEW,
        ),
        (
            Snapshot(EMAIL, BreakerState.HALF_OPEN, 5, 6, T0, probe_job_id="id-1", degraded=True, **OPEN),
            {"jobType": "email", "state": "HALF_OPEN", "probeJobId": "id-1", "degraded": True} | OPEN_VIEW,
        ),
        (
            Snapshot(EMAIL, BreakerState.HALF_OPEN, 5, 6, T0, probe_job_id="id-1", probe_at=T0 + 2_000, hanging_probes=3, **OPEN),
            {"jobType": "email", "state": "HALF_OPEN", "probeJobId": "id-1", "probeAt": T0 + 2_000, "hangingProbes": 3} | OPEN_VIEW,
        ),
        (
            Snapshot(EMAIL, BreakerState.FORCED_OPEN, 5, 6, T0, forced_until=T0 + 1, forced_by="ann", forced_why="w", **OPEN),
            {"jobType": "email", "state": "FORCED_OPEN", "forced": {"until": T0 + 1, "by": "ann", "why": "w"}} | OPEN_VIEW,
        ),
        (
            Snapshot(BreakerKey("email", "acme"), BreakerState.CLOSED, 5, 6, T0, failures_in_row=3, failures_in_row_code="X"),
            {"jobType": "email", "tenant": "acme", "state": "CLOSED", "failuresInRow": {"code": "X", "count": 3}},
        ),
        (
            Snapshot(EMAIL, BreakerState.CLOSED, 5, 6, T0, recent_runs=30, recent_failure_rate=1 / 3),
            {"jobType": "email", "state": "CLOSED", "recentRuns": 30, "recentFailureRate": 0.333},
        ),
        (
            Snapshot(EMAIL, BreakerState.CLOSED, 5, 6, T0, recovering=True, rate=83.27),
            {"jobType": "email", "state": "CLOSED", "recovering": True, "throttled": {"admittedPerSecond": 83.3}},
        ),
        (
            Snapshot(EMAIL, BreakerState.METRICS_ONLY, 5, 6, T0, would_have_tripped=4, forced_by="ann"),
            {"jobType": "email", "state": "METRICS_ONLY", "wouldHaveTripped": 4, "forced": {"by": "ann"}},
        ),
    ],
)
def test_breakers(breaker, expected):
    assert views.breaker_view(responses.breaker(breaker)) == expected


def test_the_breaker_of_a_dependency_says_who_shares_it():
    breaker = responses.breaker(Snapshot(BreakerKey("dependency:smtp"), BreakerState.CLOSED, 5, 6, T0), "email", ["email", "sms"])
    shared = {"dependency": "smtp", "jobTypes": ["email", "sms"]}
    assert views.breaker_view(breaker) == {"jobType": "email", "state": "CLOSED"} | shared
    message = "Circuit breaker for 'email' has been reset: that of the dependency 'smtp', shared by email, sms"
    assert views.reset_view(breaker) == {"message": message, "jobType": "email"} | shared


def test_a_page_of_breakers():
    assert views.breakers_view([{"jobType": "sms"}]) == {"count": 1, "breakers": [{"jobType": "sms"}]}
    assert views.breakers_view([], "t") == {"count": 0, "breakers": [], "nextPageToken": "t"}


def test_a_page_of_breakers_has_the_json_of_each_also_when_it_is_read_again_after_a_change():
    failing = Snapshot(EMAIL, BreakerState.CLOSED, 1, 1, T0, failures_in_row=2, failures_in_row_code="API_TIMEOUT", total_failures=2)
    for email in (failing, failing, replace(failing, failures_in_row=3, total_failures=3), failing):
        shown = [responses.breaker(email), responses.breaker(Snapshot(SMS, BreakerState.OPEN, 1, 1, T0, trips=1, opened_at=T0))]
        page = json.loads(views.encode(views.render(ListBreakersResponse(breakers=shown))))
        assert page == {"count": 2, "breakers": [views.breaker_view(one) for one in shown]}


def test_metrics():
    breakers = [Snapshot(EMAIL, BreakerState.OPEN, 1, 1, T0, total_failures=15), Snapshot(SMS, BreakerState.CLOSED, 1, 1, T0)]
    message = responses.metrics(breakers, jobs={JobState.SUCCEEDED: 2}, depths={"jobs.main": 3}, consumers={}, duplicates=1, now=T0)
    assert views.metrics_view(message) == {
        "circuitBreakers": {"total": 2, "open": 1, "closed": 1},
        "failures": {"byJobType": {"email": 15}},
        "jobs": {"byState": {"SUCCEEDED": 2}},
        "queues": {"jobs.main": 3},
        "duplicates": 1,
    }


def test_metrics_of_an_empty_system_have_the_documented_keys():
    view = views.metrics_view(GetMetricsResponse())
    assert view["circuitBreakers"] == {"total": 0, "open": 0, "closed": 0}
    assert view["failures"] == {"byJobType": {}}


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (T0 + 7, "2024-01-01T00:00:00.007Z"), (253_402_300_799_999, "9999-12-31T23:59:59.999Z")],
)
def test_times(ms, text):
    assert views.rfc3339(ms) == text


NOTICE = explanations.notice(Snapshot(EMAIL, BreakerState.OPEN, 5, 6, T0, probe_at=T0 + 9, **OPEN))
NOTICE_VIEW = {"state": "OPEN", "probeAt": T0 + 9, "note": "the circuit is open: the job will be parked and run when the circuit closes"}


def test_an_accepted_job_has_its_breaker_only_if_that_is_not_closed():
    """So the documented answer stays as it is."""
    job = responses.job(JobRecord(JOB, JobState.QUEUED, T0))
    known = {"status": "accepted", "message": "Job queued for processing", "jobType": "email", "jobId": "id-1"}
    assert views.accepted_view(SubmitJobResponse(job=job, breaker=explanations.notice(None))) == known
    assert views.accepted_view(SubmitJobResponse(job=job, duplicate=True)) == known | {"duplicate": True}
    view = views.accepted_view(SubmitJobResponse(job=job, breaker=NOTICE))
    assert view == known | {"breaker": NOTICE_VIEW}
    assert schemas.AcceptedBody.model_validate(view)


def test_the_items_of_a_batch():
    assert views.batch_result_view(BatchSubmitResult(job_id="id-1")) == {"jobId": "id-1"}
    view = views.batch_result_view(BatchSubmitResult(job_id="id-1", duplicate=True, breaker=NOTICE))
    assert view == {"jobId": "id-1", "duplicate": True, "breaker": NOTICE_VIEW}
    error = item_error_view(Fault(grpc.StatusCode.UNAVAILABLE, "m", "CIRCUIT_OPEN", 41.2))
    assert error == {"statusCode": 503, "message": "m", "reason": "CIRCUIT_OPEN", "retryAfterSeconds": 42}
    assert item_error_view(Fault(grpc.StatusCode.INVALID_ARGUMENT, "m")) == {"statusCode": 400, "message": "m", "reason": "BAD_REQUEST"}
    assert schemas.BatchBody.model_validate({"accepted": 1, "refused": 1, "results": [view, {"error": error}]})


def test_explanations():
    seen = Snapshot(EMAIL, BreakerState.DISABLED, 5, 6, T0)
    known = Explanation(BreakerReason.DISABLED, T0, BreakerStep.PERSON_DECIDES, None, ("It is disabled.",), ())
    assert views.render(explanations.breaker(responses.breaker(seen), None, known)) == {
        "breaker": {"jobType": "email", "state": "DISABLED"},
        "reason": "DISABLED",
        "since": "2024-01-01T00:00:00.000Z",
        "nextStep": "PERSON_DECIDES",
        "sentences": ["It is disabled."],
    }
    ended = Explanation(JobReason.SUCCEEDED, None, JobStep.NONE, None, ("It has \ud800 ended.",), ())
    case = Case(JobRecord(JOB, JobState.SUCCEEDED, T0), (), EMAIL, seen, RetryPolicy(), 1, T0)
    assert views.render(explanations.job(case, ended)) == {
        "jobId": "id-1",
        "jobType": "email",
        "tenant": "acme",
        "state": "SUCCEEDED",
        "reason": "SUCCEEDED",
        "nextStep": "NONE",
        "sentences": ["It has ? ended."],
    }


def test_an_exceeded_rate_has_the_fields_of_the_draft():
    """Of draft-ietf-httpapi-ratelimit-headers-10, beside Retry-After, which says when the next job has its place."""
    fault = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "m", "SUBMISSION_RATE_EXCEEDED", 0.4, Quota("tenant", 100, 60, 7))
    response = fault_response(fault)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"
    assert response.headers["ratelimit-policy"] == '"tenant";q=100;w=60'
    assert response.headers["ratelimit"] == '"tenant";r=0;t=7'
    assert "ratelimit" not in fault_response(Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "m", "TOO_MANY_QUEUED", 2.0)).headers

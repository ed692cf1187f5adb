"""Domain to protobuf."""

from dataclasses import fields, replace

import pytest

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.contract import responses
from sickbay.domain.breaker import BreakerKey, BreakerState, Snapshot
from sickbay.domain.failure import Failure
from sickbay.domain.job import Job, JobRecord, JobState, Reason, StateChange
from sickbay.domain.queries import FailureGroup, PayloadRevision, QuarantinedJob
from sickbay.domain.result import Result
from sickbay.jobs.v1 import quarantine_service_pb2
from sickbay.jobs.v1.job_pb2 import Job as JobMessage

FAILED = Failure(1_500, 1, 2, "API_TIMEOUT", "no answer")
JOB = Job("id-1", "email", b'{"a": 1}', "acme", 2, 1, (FAILED,), 1_001)
RECORD = JobRecord(JOB, JobState.PARKED, 2_002, 1_500, 3, Reason.CIRCUIT_OPEN, "etag-1", "f00")
CHANGE = StateChange(2_002, JobState.PARKED, 1, 2, "CIRCUIT_OPEN", "open", "worker-1")


def test_a_job_with_everything():
    message = responses.job(RECORD, [CHANGE])
    assert (message.job_id, message.job_type, message.tenant, message.state) == ("id-1", "email", "acme", JobMessage.STATE_PARKED)
    assert (message.attempt, message.generation, message.duplicates) == (2, 1, 3)
    assert [time.ToMilliseconds() for time in (message.submit_time, message.update_time, message.start_time)] == [1_001, 2_002, 1_500]
    error, change = message.errors[0], message.history[0]
    assert (error.time.ToMilliseconds(), error.attempt, error.generation, error.code, error.message) == (
        1500,
        2,
        1,
        "API_TIMEOUT",
        "no answer",
    )
    assert (change.time.ToMilliseconds(), change.state, change.attempt, change.generation) == (2002, JobMessage.STATE_PARKED, 2, 1)
    assert (change.code, change.message, change.actor) == ("CIRCUIT_OPEN", "open", "worker-1")


def test_what_is_not_known_is_unset():
    message = responses.job(JobRecord(Job("id", "email"), JobState.QUEUED, 5))
    assert not message.HasField("submit_time")
    assert not message.HasField("start_time")
    assert not message.history


def test_a_job_that_waits_for_its_next_attempt_says_until_when():
    """In no other state; a worker of an earlier version has not said it."""
    waiting = replace(JOB, failures=(replace(FAILED, retry_at=9_000),))
    assert responses.job(JobRecord(waiting, JobState.RETRYING, 5)).next_attempt_time.ToMilliseconds() == 9_000
    assert not responses.job(JobRecord(waiting, JobState.PARKED, 5)).HasField("next_attempt_time")
    assert not responses.job(JobRecord(JOB, JobState.RETRYING, 5)).HasField("next_attempt_time")


def test_a_result_is_json_text_or_a_note():
    kept = responses.job(replace(RECORD, result=Result(b'{ "n": 9007199254740993 }')))
    assert (kept.result_json, kept.result_note) == ('{ "n": 9007199254740993 }', "")
    lost = responses.job(replace(RECORD, result=Result(note="too large")))
    assert (lost.result_json, lost.result_note) == ("", "too large")
    assert (responses.job(RECORD).result_json, responses.job(RECORD).result_note) == ("", "")


def test_odd_values_are_bent_not_raised():
    odd = Failure(10**20, 2**40, -1, "X", "half \ud800 pair")
    message = responses.job(JobRecord(Job("id", "email", attempt=2**40, failures=(odd,), submitted_at=-5), JobState.QUEUED, 10**20))
    assert message.attempt == 2**32 - 1
    assert message.errors[0].message == "half ? pair"
    assert message.update_time.ToJsonString().startswith("9999-12-31")
    assert message.submit_time.ToMilliseconds() == 0


def test_every_name_is_in_the_contract():
    """The domain's enums and the contract's have the same names."""
    assert {f"STATE_{state.value}" for state in JobState} == set(JobMessage.State.keys()) - {"STATE_UNSPECIFIED"}
    assert {f"REASON_{reason.value}" for reason in Reason} == set(quarantine_service_pb2.QuarantinedJob.Reason.keys()) - {
        "REASON_UNSPECIFIED"
    }
    assert {f"STATE_{state.value}" for state in BreakerState} == set(Breaker.State.keys()) - {"STATE_UNSPECIFIED"}


def test_quarantined_jobs_in_lists_have_no_payload():
    message = responses.quarantined(RECORD)
    assert (message.job, message.reason, message.etag, message.fingerprint) == (
        responses.job(RECORD),
        quarantine_service_pb2.QuarantinedJob.REASON_CIRCUIT_OPEN,
        "etag-1",
        "f00",
    )
    assert message.quarantine_time.ToMilliseconds() == 2_002
    assert message.payload_json == ""
    assert not message.revisions


def test_a_case_has_everything():
    message = responses.quarantined_details(QuarantinedJob(RECORD, [PayloadRevision(7, "ann", b"{}", b'{"a": 1}')], [CHANGE]))
    assert message.payload_json == '{"a": 1}'
    assert message.job == responses.job(RECORD, [CHANGE])
    revision = message.revisions[0]
    assert (revision.time.ToMilliseconds(), revision.actor, revision.before_json, revision.after_json) == (7, "ann", "{}", '{"a": 1}')


def test_a_failure_group():
    message = responses.failure_group(FailureGroup("email", "API_TIMEOUT", "f00", "no answer", "id-1", 9, 1, 2))
    assert (message.job_type, message.error_code, message.fingerprint, message.count) == ("email", "API_TIMEOUT", "f00", 9)
    assert (message.sample_message, message.sample_job_id) == ("no answer", "id-1")
    assert (message.first_time.ToMilliseconds(), message.last_time.ToMilliseconds()) == (1, 2)


NOT_COPIED = {
    "key": ("job_type", "tenant", "dependency"),
    "updated_at": ("update_time",),
    "opened_at": ("open_time",),
    "probe_at": ("probe_time",),
}
NOT_COPIED |= {"cooldown_ms": ("cooldown",), "forced_until": ("forced_until_time",)}


def test_a_breaker_has_every_field_of_the_snapshot():
    """Numbers differ from field to field, so that a mix-up shows."""
    values = {field.name: number for number, field in enumerate(fields(Snapshot), start=1)}
    text = {"reason_code", "reason_message", "failures_in_row_code", "probe_job_id", "forced_by", "forced_why"}
    flags = {"cooldown_elapsed", "recovering", "degraded", "redacted"}
    content = {name: name if name in text else True if name in flags else value for name, value in values.items()}
    key = BreakerKey("dependency:smtp", "acme")
    snapshot = Snapshot(**content | {"key": key, "state": BreakerState.HALF_OPEN})
    message = responses.breaker(snapshot, "email", ["email", "sms"], "worker")
    assert (message.job_type, message.tenant, message.state) == ("email", "acme", Breaker.STATE_HALF_OPEN)
    assert (message.dependency, list(message.job_types), message.waiting_for) == ("smtp", ["email", "sms"], "worker")
    assert message.admitted_per_second == content["rate"]
    for name in values.keys() - NOT_COPIED.keys() - {"state", "now", "rate", "by_rate"}:
        assert getattr(message, name) == content[name], name
    for name in NOT_COPIED.keys() - {"key"}:
        assert getattr(message, NOT_COPIED[name][0]).ToMilliseconds() == content[name], name
    assert {field.name for field, _ in message.ListFields()} == {field.name for field in Breaker.DESCRIPTOR.fields}


@pytest.mark.parametrize("ms", [0, None])
def test_no_time_no_timestamp(ms):
    assert responses.timestamp(ms) is None


def test_metrics():
    def breaker(key, state, failures):
        return Snapshot(key, state, 1, 1, 1, total_failures=failures)

    breakers = [
        breaker(BreakerKey("email"), BreakerState.OPEN, 15),
        breaker(BreakerKey("email", "acme"), BreakerState.FORCED_OPEN, 1),
        breaker(BreakerKey("sms"), BreakerState.DISABLED, 0),
    ]
    message = responses.metrics(
        breakers, jobs={JobState.SUCCEEDED: 4}, depths={"jobs.main": 2}, consumers={"jobs.main": 3}, duplicates=1, now=9
    )
    assert (message.circuit_breakers.total, message.circuit_breakers.open, message.circuit_breakers.closed) == (3, 2, 1)
    assert dict(message.failures_by_job_type) == {"email": 16}
    assert dict(message.jobs_by_state) == {"SUCCEEDED": 4}
    assert dict(message.queue_depths) == {"jobs.main": 2}
    assert dict(message.queue_consumers) == {"jobs.main": 3}
    assert (message.duplicates, message.time.ToMilliseconds()) == (1, 9)

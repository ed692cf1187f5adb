"""Messages become dataclasses, field by field."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest

from sickbay.breakers.v1 import breaker_pb2, explanation_pb2
from sickbay.client import (
    AttemptError,
    Backfill,
    Breaker,
    BreakerExplanation,
    BreakerNotice,
    BreakerState,
    FailureGroup,
    Job,
    JobExplanation,
    JobState,
    JobType,
    OnOpen,
    Origin,
    Overlap,
    PayloadRevision,
    Priority,
    Progress,
    QuarantinedJob,
    RunOutcome,
    Schedule,
    ScheduledJob,
    ScheduleRun,
    ScheduleSpec,
    ScheduleState,
    ServerFault,
    StateChange,
    Trigger,
    WhileOpen,
)
from sickbay.client.reading import number, read
from sickbay.jobs.v1 import explanation_pb2 as job_explanation_pb2
from sickbay.jobs.v1 import job_pb2, job_service_pb2, job_type_pb2, quarantine_service_pb2, scheduled_job_service_pb2
from sickbay.schedules.v1 import schedule_pb2, schedule_service_pb2
from tests.support.cli_services import case, failed, job

SHAPES = {
    Job: job_pb2.Job,
    AttemptError: job_pb2.AttemptError,
    StateChange: job_pb2.StateChange,
    Progress: job_pb2.Progress,
    BreakerNotice: job_service_pb2.BreakerNotice,
    JobExplanation: job_explanation_pb2.JobExplanation,
    Breaker: breaker_pb2.Breaker,
    BreakerExplanation: explanation_pb2.BreakerExplanation,
    QuarantinedJob: quarantine_service_pb2.QuarantinedJob,
    PayloadRevision: quarantine_service_pb2.PayloadRevision,
    FailureGroup: quarantine_service_pb2.FailureGroup,
    JobType: job_type_pb2.JobType,
    ScheduledJob: scheduled_job_service_pb2.ScheduledJob,
    Schedule: schedule_pb2.Schedule,
    ScheduleRun: schedule_pb2.ScheduleRun,
    Backfill: schedule_service_pb2.BackfillScheduleResponse,
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_dataclass_has_all_fields_of_its_message(kind):
    assert {one.name for one in fields(kind) if one.init} == set(SHAPES[kind].DESCRIPTOR.fields_by_name)


def test_a_spec_has_all_fields_of_its_message():
    """Its payload is that of either form."""
    assert {one.name for one in fields(ScheduleSpec)} == set(schedule_pb2.ScheduleSpec.DESCRIPTOR.fields_by_name) - {"payload_json"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (JobState, job_pb2.Job.State),
        (Priority, job_pb2.Priority),
        (OnOpen, job_service_pb2.OnOpen),
        (BreakerState, breaker_pb2.Breaker.State),
        (Overlap, schedule_pb2.Overlap),
        (WhileOpen, schedule_pb2.WhileOpen),
        (ScheduleState, schedule_pb2.Schedule.State),
        (Origin, schedule_pb2.Schedule.Origin),
        (Trigger, schedule_pb2.ScheduleRun.Trigger),
        (RunOutcome, schedule_pb2.ScheduleRun.Outcome),
    ],
)
def test_an_enum_has_all_values_of_its_message(ours, theirs):
    assert {number(theirs.DESCRIPTOR, one) for one in ours} == {one.number for one in theirs.DESCRIPTOR.values} - {0}


def test_a_job():
    assert read(job(), Job).priority is Priority.NORMAL
    message = job(state="RETRYING", errors=[failed("API_TIMEOUT", "slow")], priority=job_pb2.PRIORITY_LOW, attempt=1)
    message.next_attempt_time.FromNanoseconds(1_700_000_000_123_456_789)
    found = read(message, Job)
    assert (found.state, found.priority, found.attempt) == (JobState.RETRYING, Priority.LOW, 1)
    assert found.submit_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert found.next_attempt_time == datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC)
    assert (found.start_time, found.history) == (None, ())
    assert [(error.code, error.message) for error in found.errors] == [("API_TIMEOUT", "slow")]


def test_a_result_is_decoded_when_it_is_read():
    message = job(state="SUCCEEDED", result_json='{"n":  9007199254740993}')
    found = read(message, Job)
    assert found.result_json == '{"n":  9007199254740993}'
    assert found.result is found.result == {"n": 9007199254740993}
    assert found == read(message, Job), "decoding changes no job"
    assert read(job(result_json="false"), Job).result is False
    assert read(job(result_note="the result is not UTF-8"), Job).result_note == "the result is not UTF-8"
    assert read(job(), Job).result is None


def test_the_progress_of_a_run():
    message = job(state="RUNNING")
    assert read(message, Job).progress is None
    message.progress.fraction, message.progress.message = 0.4, "320 of 800"
    message.progress.update_time.FromSeconds(1_700_000_000)
    assert read(message, Job).progress == Progress(0.4, "320 of 800", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC))


def test_a_breaker():
    message = breaker_pb2.Breaker(job_type="email", state=breaker_pb2.Breaker.STATE_OPEN, job_types=["a", "b"])
    message.cooldown.FromMilliseconds(1_500)
    found = read(message, Breaker)
    assert (found.state, found.cooldown, found.job_types) == (BreakerState.OPEN, timedelta(seconds=1.5), ("a", "b"))
    assert found.probe_time is None


def test_an_explanation_has_an_optional_number_and_open_sets():
    message = explanation_pb2.BreakerExplanation(reason=explanation_pb2.BreakerExplanation.REASON_COOLDOWN, sentences=["It waits."])
    message.breaker.state = breaker_pb2.Breaker.STATE_OPEN
    found = read(message, BreakerExplanation)
    assert (found.reason, found.next_step, found.parked_jobs, found.sentences) == ("COOLDOWN", "", None, ("It waits.",))
    message.parked_jobs = 0
    message.MergeFromString(bytes([2 << 3, 99]))
    found = read(message, BreakerExplanation)
    assert (found.parked_jobs, found.reason) == (0, "99")


def test_a_state_that_is_too_new_is_told():
    message = job()
    message.MergeFromString(bytes([4 << 3, 99]))
    with pytest.raises(ServerFault, match=r"does not know sickbay.jobs.v1.Job.State 99; update it"):
        read(message, Job)


def test_a_payload_is_decoded_when_it_is_read():
    message = case(payload_json='{"to":  "ä"}')
    found = read(message, QuarantinedJob)
    assert found.payload_json == '{"to":  "ä"}'.encode()
    assert found.payload is found.payload == {"to": "ä"}
    assert (found.job_id, found.state, found.reason) == (message.job.job_id, JobState.QUARANTINED, "RETRIES_EXHAUSTED")
    with pytest.raises(ValueError, match="not a JSON object but list"):
        _ = read(case(payload_json="[]"), QuarantinedJob).payload

"""Jobs that are to run later, and schedules: what is sent, and what is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import grpc
import pytest

from sickbay import job_type
from sickbay.client import (
    InvalidRequest,
    JobState,
    NewJob,
    Overlap,
    Priority,
    RunOutcome,
    ScheduleSpec,
    ScheduleState,
    Trigger,
    Unavailable,
    WhileOpen,
)
from sickbay.contract.faults import Fault
from sickbay.jobs.v1 import job_service_pb2, scheduled_job_service_pb2
from sickbay.schedules.v1 import schedule_pb2, schedule_service_pb2
from tests.support.cli_services import DUE_MS, JOB_ID, job, schedule, schedule_run, scheduled
from tests.support.client_answers import accepted

BERLIN = timezone(timedelta(hours=1), "CET")
AT = datetime(2027, 1, 1, 8, tzinfo=BERLIN)


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(seconds=90)])
def test_a_delay_is_seconds_or_a_timedelta(client, fleet, delay):
    later = job(state="SCHEDULED")
    later.run_time.FromMilliseconds(DUE_MS)
    fleet.answers["SubmitJob"] = job_service_pb2.SubmitJobResponse(job=later)
    submitted = client.call("submit", "email", {}, delay=delay)
    assert (submitted.state, submitted.job.run_time) == (JobState.SCHEDULED, datetime.fromtimestamp(DUE_MS / 1000, UTC))
    (request,) = fleet.requests
    assert (request.delay.ToMilliseconds(), request.HasField("run_time")) == (90_000, False)


def test_a_time_is_sent_in_utc(client, fleet):
    fleet.answers["BatchSubmitJobs"] = accepted
    client.call("submit_many", [NewJob("email", {}, run_at=AT), NewJob("email", {}, delay=0.5), NewJob("email", {})])
    first, second, third = fleet.requests[0].requests
    assert (first.run_time.ToJsonString(), first.HasField("delay")) == ("2027-01-01T07:00:00Z", False)
    assert second.delay.ToMilliseconds() == 500
    assert not third.HasField("delay")
    assert not third.HasField("run_time")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"delay": 1, "run_at": AT}, "two ways to say when"),
    ({"delay": -1}, "delay: -1 is neither a number of seconds nor a timedelta, at least 0"),
    ({"delay": "10m"}, "delay: '10m' is neither"),
    ({"delay": True}, "delay: True is neither"),
    ({"delay": float("nan")}, "delay: nan is neither"),
    ({"delay": timedelta(seconds=-1)}, "is neither"),
    ({"run_at": datetime(2027, 1, 1, 8)}, "run_at: 2027-01-01 08:00:00 has no time zone; give an aware datetime"),  # noqa: DTZ001
    ({"run_at": "2027-01-01T08:00Z"}, "run_at: '2027-01-01T08:00Z' is not a datetime"),
    ({"run_at": datetime.min.replace(tzinfo=BERLIN)}, "is not a time of the years 1 to 9999"),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[words[:20] for _, words in WRONG])
def test_what_is_no_time_is_not_sent(client, fleet, given, words):
    with pytest.raises(InvalidRequest, match=words.replace("(", r"\(")):
        client.call("submit", "email", {}, **given)
    with pytest.raises(InvalidRequest):
        client.call("scheduled_jobs.update", JOB_ID, **given)
    (result,) = client.call("submit_many", [NewJob("email", {}, **given)])
    assert isinstance(result.error, InvalidRequest)
    assert fleet.requests == []


def test_scheduled_jobs_are_listed_by_pages(client, fleet):
    page = scheduled_job_service_pb2.ListScheduledJobsResponse
    pages = {"": page(jobs=[scheduled("a"), scheduled("b")], next_page_token="t"), "t": page(jobs=[scheduled("c")])}
    fleet.answers["ListScheduledJobs"] = lambda request: pages[request.page_token]
    found = client.call("scheduled_jobs.list", job_type="email", tenant="acme", schedule_id="nightly", before=AT)
    assert [one.job_id for one in found] == ["a", "b", "c"]
    assert (found[0].etag, found[0].run_time, found[0].payload_json) == ("etag-a", datetime.fromtimestamp(DUE_MS / 1000, UTC), b"")
    request = fleet.requests[0]
    assert (request.job_type, request.tenant, request.schedule_id) == ("email", "acme", "nightly")
    assert request.before_time.ToJsonString() == "2027-01-01T07:00:00Z"


def test_a_scheduled_job_is_read_and_changed(client, fleet):
    found = scheduled(payload_json='{"n":12345678901234567890}')
    fleet.answers["GetScheduledJob"] = scheduled_job_service_pb2.GetScheduledJobResponse(job=found)
    fleet.answers["UpdateScheduledJob"] = scheduled_job_service_pb2.UpdateScheduledJobResponse(job=found)
    fleet.answers["RunScheduledJob"] = scheduled_job_service_pb2.RunScheduledJobResponse(job=job())
    fleet.answers["CancelScheduledJob"] = scheduled_job_service_pb2.CancelScheduledJobResponse(job=job(state="CANCELLED"))
    read = client.call("scheduled_jobs.get", JOB_ID)
    assert read.payload == {"n": 12345678901234567890}
    client.call("scheduled_jobs.update", JOB_ID, run_at=AT, payload={"n": 1}, priority="high", etag=read.etag, actor="ada")
    sent = fleet.requests[-1]
    assert (sent.payload_json, sent.etag, sent.actor) == ('{"n":1}', f"etag-{JOB_ID}", "ada")
    assert sent.run_time.ToJsonString() == "2027-01-01T07:00:00Z"
    client.call("scheduled_jobs.update", JOB_ID, delay=5)
    assert (fleet.requests[-1].delay.seconds, fleet.requests[-1].WhichOneof("content")) == (5, None)
    assert client.call("scheduled_jobs.run", JOB_ID).state is JobState.QUEUED
    assert client.call("scheduled_jobs.cancel", JOB_ID).state is JobState.CANCELLED


def test_a_spec_is_sent_as_it_is_written(client, fleet):
    fleet.answers["CreateSchedule"] = schedule_service_pb2.CreateScheduleResponse(schedule=schedule(payload='{"of":"night"}'))
    spec = ScheduleSpec(
        "report",
        {"of": "night"},
        priority="low",
        cron="0 3 * * *",
        timezone="Europe/Berlin",
        start_time=AT,
        end_time=AT + timedelta(days=1),
        jitter=30,
        overlap="buffer_one",
        catch_up_window=timedelta(hours=1),
        pause_on_failure=True,
        while_open=WhileOpen.SKIP,
        description="every night",
    )
    made = client.call("schedules.create", "nightly", spec, tenant="acme", paused=True, actor="ada")
    (request,) = fleet.requests
    assert (request.schedule_id, request.tenant, request.paused, request.validate_only) == ("nightly", "acme", True, False)
    sent = request.spec
    assert (sent.job_type, sent.payload_json, sent.cron, sent.timezone) == ("report", '{"of":"night"}', "0 3 * * *", "Europe/Berlin")
    assert (sent.overlap, sent.while_open, sent.pause_on_failure) == (schedule_pb2.OVERLAP_BUFFER_ONE, schedule_pb2.WHILE_OPEN_SKIP, True)
    assert (sent.jitter.seconds, sent.catch_up_window.seconds, sent.HasField("interval")) == (30, 3600, False)
    assert (sent.start_time.ToJsonString(), sent.end_time.ToJsonString()) == ("2027-01-01T07:00:00Z", "2027-01-02T07:00:00Z")
    assert (made.state, made.payload, made.last_run) == (ScheduleState.ACTIVE, {"of": "night"}, None)
    assert made.next_times[0] == datetime.fromtimestamp(DUE_MS / 1000, UTC)


@job_type("report")
@dataclass
class Report:
    of: str


def test_the_payload_of_a_spec_follows_the_rules_of_submit(client, fleet):
    fleet.answers["CreateSchedule"] = schedule_service_pb2.CreateScheduleResponse(schedule=schedule())
    client.call("schedules.create", "nightly", ScheduleSpec("report", interval=60))
    assert (fleet.requests[-1].spec.payload_json, fleet.requests[-1].spec.interval.seconds) == ("{}", 60)
    client.call("schedules.create", "nightly", ScheduleSpec("report", Report("night"), interval=60))
    assert fleet.requests[-1].spec.payload_json == '{"of":"night"}'
    client.call("schedules.create", "nightly", ScheduleSpec(Report("day"), interval=60))
    assert (fleet.requests[-1].spec.payload_json, fleet.requests[-1].spec.job_type) == ('{"of":"day"}', "report")
    with pytest.raises(InvalidRequest, match="is a payload of the job type 'report', not of 'email'"):
        client.call("schedules.create", "nightly", ScheduleSpec("email", Report("night"), interval=60))
    with pytest.raises(InvalidRequest, match="must be a mapping, or JSON text, not list"):
        client.call("schedules.create", "nightly", ScheduleSpec("email", [1]))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="the spec must be one such as ScheduleSpec"):
        client.call("schedules.create", "nightly", "0 3 * * *")
    with pytest.raises(InvalidRequest, match="overlap: 'never' is none of SKIP, BUFFER_ONE, ALLOW"):
        client.call("schedules.create", "nightly", ScheduleSpec("email", overlap="never"))


def test_a_spec_that_was_read_is_sent_back_with_changes(client, fleet):
    """Its payload byte for byte; one that a list has, without payload, is not sent: it would empty the payload."""
    found = schedule(payload='{"n": 1.0}', priority=2)
    fleet.answers["GetSchedule"] = schedule_service_pb2.GetScheduleResponse(schedule=found)
    fleet.answers["UpdateSchedule"] = schedule_service_pb2.UpdateScheduleResponse(schedule=found)
    fleet.answers["ListSchedules"] = schedule_service_pb2.ListSchedulesResponse(schedules=[schedule()])
    read = client.call("schedules.get", "nightly", tenant="acme")
    assert (read.spec.overlap, read.spec.catch_up_window, read.spec.interval) == (Overlap.SKIP, timedelta(days=1), None)
    assert isinstance(read.spec.priority, Priority)
    client.call("schedules.update", "nightly", replace(read.spec, cron="@daily"), etag=read.etag)
    changed = schedule_pb2.ScheduleSpec()
    changed.CopyFrom(found.spec)
    changed.cron = "@daily"
    assert (fleet.requests[-1].spec, fleet.requests[-1].etag) == (changed, "etag-nightly")
    (listed,) = client.call("schedules.list", job_type="report", state="active", origin="API")
    assert fleet.requests[-1].state == schedule_pb2.Schedule.STATE_ACTIVE
    with pytest.raises(InvalidRequest, match="the payload is missing in this spec"):
        client.call("schedules.update", "nightly", listed.spec)
    client.call("schedules.update", "nightly", replace(listed.spec, payload={"n": 2}))
    assert fleet.requests[-1].spec.payload_json == '{"n":2}'


def test_a_change_with_an_etag_is_not_repeated(client, fleet, sleeps):
    """When it is unknown whether it took effect; without one it is."""
    silence = Fault(grpc.StatusCode.UNAVAILABLE, "Socket closed")
    answers = iter([silence, silence, schedule_service_pb2.PauseScheduleResponse(schedule=schedule(state="PAUSED"))])
    fleet.answers["PauseSchedule"] = lambda _: next(answers)
    with pytest.raises(Unavailable):
        client.call("schedules.pause", "nightly", etag="e", note="migration")
    assert (len(fleet.requests), fleet.requests[0].note, sleeps.slept) == (1, "migration", [])
    assert client.call("schedules.pause", "nightly").state is ScheduleState.PAUSED
    assert (len(fleet.requests), len(sleeps.slept)) == (3, 1)


def test_the_other_calls_of_schedules(client, fleet):
    answers = schedule_service_pb2
    missed = schedule_run("MISSED", count=3)
    fleet.answers |= {
        "ResumeSchedule": answers.ResumeScheduleResponse(schedule=schedule()),
        "DeleteSchedule": answers.DeleteScheduleResponse(),
        "TriggerSchedule": answers.TriggerScheduleResponse(run=schedule_run(job_state="QUEUED", actor="ada")),
        "BackfillSchedule": answers.BackfillScheduleResponse(runs=[schedule_run()], existing=2),
        "ListScheduleRuns": answers.ListScheduleRunsResponse(runs=[schedule_run(), missed]),
    }
    assert client.call("schedules.resume", "nightly").state is ScheduleState.ACTIVE
    assert client.call("schedules.delete", "nightly", etag="e") is None
    run = client.call("schedules.trigger", "nightly")
    assert (run.job_id, run.job_state, run.trigger, run.actor) == (JOB_ID, JobState.QUEUED, Trigger.TICK, "ada")
    assert len(fleet.requests[-1].request_id) == 36
    filled = client.call("schedules.backfill", "nightly", AT, AT + timedelta(days=1), validate_only=True)
    assert (len(filled.runs), filled.existing, fleet.requests[-1].validate_only) == (1, 2, True)
    with pytest.raises(InvalidRequest, match=r"start_time: .* has no time zone"):
        client.call("schedules.backfill", "nightly", datetime(2024, 1, 1), AT)  # noqa: DTZ001
    _, second = client.call("schedules.runs", "nightly", outcome="missed")
    assert (second.outcome, second.count, second.job_id, second.job_state) == (RunOutcome.MISSED, 3, "", None)

"""`sickbay schedules` against a fake control plane."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sickbay.jobs.v1.job_pb2 import PRIORITY_HIGH
from sickbay.schedules.v1 import schedule_pb2, schedule_service_pb2
from tests.support.cli_services import JOB_ID, Fleet, schedule, schedule_run
from tests.support.known_schedules import BAD, Known, changes, schedule_fleet, sent, usual_schedules


@pytest.fixture
def known() -> Known:
    return usual_schedules()


@pytest.fixture
def fleet(known: Known) -> Iterator[Fleet]:
    with schedule_fleet(known) as started:
        yield started


def test_list(fleet: Fleet):
    result = fleet.run("schedules", "list", "--type", "report", "--state", "active", "--origin", "api")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["SCHEDULE", "hourly", "nightly"]
    assert "0 3 * * *" in result.stdout
    (request,) = fleet.requests
    assert (request.job_type, request.state, request.origin) == (
        "report",
        schedule_pb2.Schedule.STATE_ACTIVE,
        schedule_pb2.Schedule.ORIGIN_API,
    )
    assert [one["scheduleId"] for one in fleet.json("schedules", "list")["schedules"]] == ["hourly", "nightly"]
    fleet.answers["ListSchedules"] = schedule_service_pb2.ListSchedulesResponse()
    assert fleet.run("schedules", "list").stderr == "there are no schedules\n"
    assert fleet.run("schedules", "list", "--tenant", "x").stderr == "no schedules match\n"


def test_show_has_the_next_times_in_its_zone_and_the_runs(fleet: Fleet, known):
    known["default", "nightly"].last_run.CopyFrom(schedule_run(job_state="QUARANTINED"))
    shown = fleet.run("schedules", "show", "nightly").stdout
    assert "0 3 * * *, Europe/Berlin" in shown
    assert "2096-10-02 09:06:40 CEST, in " in shown
    assert shown.count("2096-10-0") == 5
    assert "QUARANTINED" in shown
    assert "2023-11-14 23:13:20 CET (7 times until then)" in shown
    assert '"of": "night"' in shown
    known["default", "nightly"].payload_hidden = True
    assert "hidden (needs the right to read payloads)" in fleet.run("schedules", "show", "nightly").stdout
    assert fleet.run("schedules", "show", "nightly", "--toml").exit_code == 1
    missing = fleet.run("schedules", "show", "x")
    assert (missing.exit_code, missing.stderr) == (3, "Error: the tenant default has no schedule x\n")


def test_show_a_paused_one_and_one_of_code(fleet: Fleet, known):
    paused = schedule("weekly", "PAUSED", payload="{}", pause_on_failure=True, overlap=schedule_pb2.OVERLAP_ALLOW)
    paused.pause_note, paused.paused_by = "migration", "ada"
    paused.origin, paused.orphaned = schedule_pb2.Schedule.ORIGIN_CODE, True
    known["default", "weekly"] = paused
    shown = " ".join(fleet.run("schedules", "show", "weekly").stdout.split())
    for words in ("state PAUSED (orphaned)", "migration by ada", "from code: @handler(schedule=...) of report; no live", "overlap ALLOW"):
        assert words in shown


def test_runs(fleet: Fleet):
    result = fleet.run("schedules", "runs", "nightly", "--outcome", "missed")
    assert result.stdout.splitlines()[1].split()[3:6] == ["SUBMITTED", JOB_ID, "SUCCEEDED"]
    assert sent(fleet, "ListScheduleRuns")[0].outcome == schedule_pb2.ScheduleRun.OUTCOME_MISSED
    assert [one["outcome"] for one in fleet.json("schedules", "runs", "nightly")["runs"]] == ["SUBMITTED", "MISSED"]


def test_create_with_every_option(fleet: Fleet):
    said = ["--cron", "0 3 * * *", "--timezone", "Europe/Berlin", "--payload", '{"a": 1}', "--priority", "high", "--jitter", "30s"]
    said += ["--start", "2027-01-01T08:00Z", "--end", "2028-01-01T08:00Z", "--overlap", "buffer_one", "--catch-up", "1h"]
    said += ["--pause-on-failure", "--while-open", "skip", "--description", "every night", "--paused", "--tenant", "acme", "--actor", "ada"]
    result = fleet.run("schedules", "create", "new", "report", *said)
    assert result.stdout.splitlines()[:2] == ["created new", "it runs next at"]
    (request,) = fleet.requests
    assert (request.schedule_id, request.tenant, request.paused, request.validate_only, request.actor) == (
        "new",
        "acme",
        True,
        False,
        "ada",
    )
    spec = request.spec
    assert (spec.job_type, spec.cron, spec.timezone, spec.payload_json) == ("report", "0 3 * * *", "Europe/Berlin", '{"a": 1}')
    assert (spec.priority, spec.jitter.seconds, spec.catch_up_window.seconds) == (PRIORITY_HIGH, 30, 3600)
    assert (spec.start_time.ToJsonString(), spec.end_time.ToJsonString()) == ("2027-01-01T08:00:00Z", "2028-01-01T08:00:00Z")
    assert (spec.overlap, spec.while_open) == (schedule_pb2.OVERLAP_BUFFER_ONE, schedule_pb2.WHILE_OPEN_SKIP)
    assert (spec.pause_on_failure, spec.description) == (True, "every night")


def test_create_only_to_check(fleet: Fleet):
    result = fleet.run("schedules", "create", "new", "report", "--every", "90s", "--dry-run")
    assert (result.stdout.splitlines()[0], changes(fleet)) == ("new is valid", [])
    assert fleet.requests[0].spec.interval.seconds == 90
    assert fleet.run("schedules", "create", "new", "report", "--every", "90s", "--cron", "x").exit_code == 2
    fleet.answers["CreateSchedule"] = BAD
    result = fleet.run("schedules", "create", "new", "report", "--cron", "0 30 * * *")
    assert (result.exit_code, result.stderr) == (1, "Error: cron: the hour 30 is not 0 to 23\n")


def test_update_changes_only_what_is_given(fleet: Fleet, known):
    known["default", "nightly"].spec.end_time.FromMilliseconds(10**12)
    before = schedule_pb2.ScheduleSpec()
    before.CopyFrom(known["default", "nightly"].spec)
    assert fleet.run("schedules", "update", "nightly", "--every", "10m", "--no-end").exit_code == 0
    (request,) = sent(fleet, "UpdateSchedule")
    before.ClearField("end_time")
    before.ClearField("cron")
    before.ClearField("timezone")
    before.interval.seconds = 600
    assert (request.spec, request.etag) == (before, "etag-nightly")
    nothing = fleet.run("schedules", "update", "nightly")
    assert (nothing.exit_code, "nothing would change" in nothing.stderr) == (2, True)


def test_update_does_not_lose_a_hidden_payload(fleet: Fleet, known):
    known["default", "nightly"].payload_hidden = True
    known["default", "nightly"].spec.ClearField("content")
    result = fleet.run("schedules", "update", "nightly", "--cron", "@daily")
    assert (result.exit_code, "would be lost" in result.stderr, sent(fleet, "UpdateSchedule")) == (1, True, [])
    assert fleet.run("schedules", "update", "nightly", "--payload", "{}").exit_code == 0


def test_pause_resume_and_trigger(fleet: Fleet):
    assert fleet.run("schedules", "pause", "nightly", "--note", "migration").stdout.startswith("paused nightly\n")
    assert sent(fleet, "PauseSchedule")[0].note == "migration"
    assert fleet.run("schedules", "resume", "nightly").stdout.startswith("resumed nightly\nit runs next at\n")
    assert fleet.run("schedules", "trigger", "nightly", "--key", "k").stdout == f"triggered nightly: job {JOB_ID}\n"
    assert sent(fleet, "TriggerSchedule")[0].request_id == "k"


def test_backfill_says_how_many_first(fleet: Fleet):
    asked = ["schedules", "backfill", "nightly", "--from", "2027-01-01T00:00Z", "--to", "2027-01-03T00:00Z"]
    checked = fleet.run(*asked, "--dry-run")
    assert checked.stdout == "2023-11-14 23:13:20 CET\n" * 2
    assert checked.stderr == "2 jobs would be submitted; 3 times had a job already\n"
    refused = fleet.run(*asked)
    assert (refused.exit_code, "Submit 2 jobs of nightly?" in refused.stderr) == (1, True)
    assert all(request.validate_only for request in sent(fleet, "BackfillSchedule"))
    assert fleet.run(*asked, "--yes").stderr == "submitted 2 jobs; 3 times had a job already\n"
    assert [request.validate_only for request in sent(fleet, "BackfillSchedule")][-2:] == [True, False]


def test_delete_asks(fleet: Fleet, known):
    assert fleet.run("schedules", "delete", "nightly").exit_code == 1
    assert fleet.run("schedules", "delete", "nightly", "--yes").stdout == "deleted nightly\n"
    assert ("default", "nightly") not in known

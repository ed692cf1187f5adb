"""`sickbay schedules` against a fake control plane."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import grpc
import pytest

from sickbay.contract.faults import Fault
from sickbay.jobs.v1.job_pb2 import PRIORITY_HIGH
from sickbay.schedules.v1 import schedule_pb2, schedule_service_pb2
from tests.support.cli_services import BUSY, JOB_ID, Fleet, schedule, schedule_run

GONE = Fault(grpc.StatusCode.NOT_FOUND, "the tenant default has no schedule x", "SCHEDULE_NOT_FOUND")
BAD = Fault(grpc.StatusCode.INVALID_ARGUMENT, "cron: the hour 30 is not 0 to 23", "INVALID_SCHEDULE")
STALE = Fault(grpc.StatusCode.ABORTED, "the schedule has changed; read it again", "ETAG_MISMATCH")


@pytest.fixture
def known() -> dict[tuple[str, str], schedule_pb2.Schedule]:
    """The schedules of the fake control plane, with their payloads."""
    return {
        ("default", "nightly"): schedule(payload='{"of": "night"}'),
        ("default", "hourly"): schedule("hourly", cron="@hourly", timezone=""),
    }


@pytest.fixture
def fleet(known):
    def answer(method: str, of: Any):
        def found(request: Any) -> Any:
            one = known.get((request.tenant or "default", request.schedule_id))
            return GONE if one is None else of(one)

        started.answers[method] = found

    def made(request: Any) -> schedule_pb2.Schedule:
        one = schedule(request.schedule_id)
        one.tenant = request.tenant or "default"
        one.spec.CopyFrom(request.spec)
        if not request.validate_only:
            known[one.tenant, one.schedule_id] = one
        return one

    def deleted(request: Any) -> Any:
        del known[request.tenant or "default", request.schedule_id]
        return pb.DeleteScheduleResponse()

    def listed(request: Any) -> Any:
        found = []
        for (tenant, _), one in sorted(known.items()):
            if (tenant == request.tenant or not request.tenant) and request.origin in {0, one.origin}:
                brief = schedule_pb2.Schedule()
                brief.CopyFrom(one)
                brief.spec.ClearField("content")
                found.append(brief)
        return pb.ListSchedulesResponse(schedules=found)

    pb = schedule_service_pb2
    with Fleet() as started:
        answer("GetSchedule", lambda one: pb.GetScheduleResponse(schedule=one))
        answer("PauseSchedule", lambda one: pb.PauseScheduleResponse(schedule=schedule(one.schedule_id, "PAUSED")))
        answer("ResumeSchedule", lambda one: pb.ResumeScheduleResponse(schedule=one))
        answer("TriggerSchedule", lambda _: pb.TriggerScheduleResponse(run=schedule_run(job_state="QUEUED")))
        answer("BackfillSchedule", lambda _: pb.BackfillScheduleResponse(runs=[schedule_run(), schedule_run()], existing=3))
        answer("ListScheduleRuns", lambda _: pb.ListScheduleRunsResponse(runs=[schedule_run(), schedule_run("MISSED", count=7)]))
        started.answers["CreateSchedule"] = lambda request: pb.CreateScheduleResponse(schedule=made(request))
        started.answers["UpdateSchedule"] = lambda request: pb.UpdateScheduleResponse(schedule=made(request))
        started.answers["DeleteSchedule"] = deleted
        started.answers["ListSchedules"] = listed
        yield started


def sent(fleet: Fleet, method: str) -> list[Any]:
    return [request for name, request in fleet.calls if name == method]


def changes(fleet: Fleet) -> list[str]:
    """What was changed, not only checked."""
    return [name for name, request in fleet.calls if name[:3] in {"Cre", "Upd", "Del"} and not getattr(request, "validate_only", False)]


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


FILE = """
[schedules.nightly]
type = "report"
cron = "30 3 * * *"
timezone = "Europe/Berlin"
payload = { of = "night" }

[schedules.hourly]
type = "report"
cron = "@hourly"

[tenants.acme.schedules.new]
type = "ping"
every = "30s"
"""


def test_diff_shows_what_apply_would_change(fleet: Fleet, known):
    known["default", "old"] = schedule("old")
    result = fleet.run("schedules", "diff", "-f", "-", "--delete-missing", stdin=FILE)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "~ nightly",
        '    - cron = "0 3 * * *"',
        '    + cron = "30 3 * * *"',
        "+ acme/new",
        '    + type = "ping"',
        '    + every = "30s"',
        "- old",
    ]
    assert result.stderr == "1 schedule as the file says\n"
    assert {name for name, _ in fleet.calls} == {"GetSchedule", "ListSchedules"}
    view = json.loads(fleet.run("schedules", "diff", "-f", "-", "--json", stdin=FILE).stdout)
    assert [one["action"] for one in view["schedules"]] == ["update", "keep", "create"]
    assert view["schedules"][0]["changes"] == [{"key": "cron", "before": '"0 3 * * *"', "after": '"30 3 * * *"'}]


def test_apply_makes_it_so(fleet: Fleet, known):
    known["default", "old"] = schedule("old")
    asked = fleet.run("schedules", "apply", "-f", "-", "--delete-missing", stdin=FILE)
    assert (asked.exit_code, "Create 1, update 1 and delete 1 schedules?" in asked.stderr, changes(fleet)) == (1, True, [])
    result = fleet.run("schedules", "apply", "-f", "-", "--delete-missing", "--yes", stdin=FILE)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-3:] == ["updated nightly", "created acme/new", "deleted old"]
    (update,) = [one for one in sent(fleet, "UpdateSchedule") if not one.validate_only]
    assert update.etag == "etag-nightly"
    assert sent(fleet, "DeleteSchedule")[0].etag == "etag-old"
    assert fleet.run("schedules", "diff", "-f", "-", "--delete-missing", stdin=FILE).exit_code == 0
    again = fleet.run("schedules", "apply", "-f", "-", stdin=FILE)
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "3 schedules as the file says\n")


def test_others_are_left_alone(fleet: Fleet, known):
    """Without --delete-missing, those of tenants that the file is not about, and those that workers announce."""
    of_code = schedule("announced")
    of_code.origin = schedule_pb2.Schedule.ORIGIN_CODE
    known |= {("default", "announced"): of_code, ("other", "x"): schedule("x")}
    known["other", "x"].tenant = "other"
    assert fleet.run("schedules", "apply", "-f", "-", "--yes", stdin="").exit_code == 0
    assert changes(fleet) == []
    result = fleet.run("schedules", "apply", "-f", "-", "--yes", "--delete-missing", stdin="")
    assert result.stdout.splitlines()[-2:] == ["deleted hourly", "deleted nightly"]
    assert set(known) == {("default", "announced"), ("other", "x")}


def test_one_of_code_is_not_changed(fleet: Fleet, known):
    known["default", "nightly"].origin = schedule_pb2.Schedule.ORIGIN_CODE
    result = fleet.run("schedules", "apply", "-f", "-", "--yes", stdin=FILE)
    assert (result.exit_code, changes(fleet)) == (1, [])
    assert "schedules.nightly: it comes from code" in result.stderr
    assert fleet.run("schedules", "diff", "-f", "-", stdin=FILE).exit_code == 1


def test_nothing_is_changed_if_the_service_finds_a_mistake(fleet: Fleet):
    fleet.answers["CreateSchedule"] = BAD
    result = fleet.run("schedules", "apply", "-f", "-", "--yes", stdin=FILE)
    assert (result.exit_code, changes(fleet)) == (1, [])
    assert "tenants.acme.schedules.new: cron: the hour 30 is not 0 to 23\nError: nothing was changed\n" in result.stderr


def test_a_change_meanwhile_is_not_overwritten(fleet: Fleet):
    valid = fleet.answers["UpdateSchedule"]
    fleet.answers["UpdateSchedule"] = lambda request: valid(request) if request.validate_only else STALE
    result = fleet.run("schedules", "apply", "-f", "-", "--yes", stdin=FILE)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "created acme/new")
    assert result.stderr.endswith("nightly: the schedule has changed; read it again\nError: 1 of 2 changes failed\n")
    view = json.loads(fleet.run("schedules", "apply", "-f", "-", "--yes", "--json", stdin=FILE).stdout)
    assert [one.get("result") for one in view["schedules"]] == [None, "unchanged", "unchanged"]
    assert view["schedules"][0]["error"] == "the schedule has changed; read it again"


def test_a_service_that_goes_away_ends_the_work(fleet: Fleet):
    valid = fleet.answers["UpdateSchedule"]
    fleet.answers["UpdateSchedule"] = lambda request: valid(request) if request.validate_only else BUSY
    result = fleet.run("schedules", "apply", "-f", "-", "--yes", stdin=FILE)
    assert (result.exit_code, "acme/new: not tried" in result.stderr, "2 of 2 changes failed" in result.stderr) == (4, True, True)


def test_a_file_with_mistakes(fleet: Fleet, tmp_path):
    path = tmp_path / "schedules.toml"
    path.write_text('[schedules.a]\ntype = "x"\ncrn = "@daily"\n')
    for command in ("apply", "diff"):
        result = fleet.run("schedules", command, "-f", str(path))
        assert (result.exit_code, fleet.calls) == (2, [])
        assert f"{path}: line 3: schedules.a.crn: unknown key; did you mean cron?" in result.stderr
    assert fleet.run("schedules", "diff", "-f", str(tmp_path / "none")).exit_code == 2


def test_diff_tells_a_refusal_from_a_difference(fleet: Fleet):
    fleet.answers["GetSchedule"] = Fault(grpc.StatusCode.PERMISSION_DENIED, "not for you", "PERMISSION_DENIED")
    assert fleet.run("schedules", "diff", "-f", "-", stdin=FILE).exit_code == 2
    fleet.answers["GetSchedule"] = BUSY
    assert fleet.run("schedules", "diff", "-f", "-", stdin=FILE).exit_code == 4


def test_a_hidden_payload_is_not_compared(fleet: Fleet, known):
    known["default", "nightly"].payload_hidden = True
    known["default", "nightly"].spec.ClearField("content")
    text = FILE.replace("30 3", "0 3").partition("[tenants")[0]
    result = fleet.run("schedules", "diff", "-f", "-", stdin=text)
    assert (result.exit_code, "nightly: its payload is hidden, and was not compared" in result.stderr) == (0, True)


def test_an_export_is_what_apply_reads(fleet: Fleet, known):
    """And applying it changes nothing; what workers announce is left out."""
    of_code = schedule("announced")
    of_code.origin = schedule_pb2.Schedule.ORIGIN_CODE
    known |= {("default", "announced"): of_code, ("acme", "x"): schedule("x", payload='{"n": null}')}
    known["acme", "x"].tenant = "acme"
    exported = fleet.run("schedules", "list", "--toml")
    assert exported.stderr == "1 schedule left out: they are announced by workers, and changed in their code\n"
    document = tomllib.loads(exported.stdout)
    assert (set(document["schedules"]), set(document["tenants"]["acme"]["schedules"])) == ({"nightly", "hourly"}, {"x"})
    result = fleet.run("schedules", "apply", "-f", "-", "--delete-missing", stdin=exported.stdout)
    assert (result.exit_code, result.stdout, changes(fleet)) == (0, "", [])
    assert fleet.run("schedules", "list", "--toml", "--json").exit_code == 2
    shown = fleet.run("schedules", "show", "nightly", "--toml").stdout
    assert tomllib.loads(shown)["schedules"]["nightly"]["payload"] == {"of": "night"}

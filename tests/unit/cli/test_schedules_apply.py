"""`sickbay schedules apply` and `diff` against a fake control plane."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator

import grpc
import pytest

from sickbay.contract.faults import Fault
from sickbay.schedules.v1 import schedule_pb2
from tests.support.cli_services import BUSY, Fleet, schedule
from tests.support.known_schedules import BAD, STALE, Known, changes, schedule_fleet, sent, usual_schedules


@pytest.fixture
def known() -> Known:
    return usual_schedules()


@pytest.fixture
def fleet(known: Known) -> Iterator[Fleet]:
    with schedule_fleet(known) as started:
        yield started


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

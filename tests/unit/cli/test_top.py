"""`sickbay top` against fake services: one frame for scripts, and the live screen in a terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from sickbay.breakers.v1 import breaker_service_pb2 as pb
from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.incident_pb2 import Incident
from sickbay.breakers.v1.incident_service_pb2 import ListIncidentsResponse
from sickbay.contract.faults import Fault
from sickbay.jobs.v1.quarantine_service_pb2 import ListQuarantinedJobsRequest, ListQuarantinedJobsResponse, QuarantinedJob
from sickbay.jobs.v1.worker_pb2 import TenantSlots, Worker
from sickbay.jobs.v1.worker_service_pb2 import ListWorkersRequest, ListWorkersResponse
from tests.support.canned_services import closed_port
from tests.support.cli_services import Fleet
from tests.support.terminal import Terminal

QUICK = ("--every", "100ms")
OPENED = 1_700_000_000_000
AWAY = Fault(grpc.StatusCode.UNAVAILABLE, "RabbitMQ is unavailable", "BACKEND_UNAVAILABLE", 2.0)


def breaker(job_type: str = "email", state: str = "OPEN", **fields: Any) -> Breaker:
    made = Breaker(job_type=job_type, tenant="default", state=Breaker.State.Value(f"STATE_{state}"), rev=1, **fields)
    if state != "CLOSED":
        made.open_time.FromMilliseconds(OPENED)
    return made


class Numbers:
    """Metrics that grow by ten jobs and a second with each call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: pb.GetMetricsRequest) -> pb.GetMetricsResponse:
        self.calls += 1
        answer = pb.GetMetricsResponse(jobs_by_state={"SUCCEEDED": 10 * self.calls, "PARKED": 7}, queue_depths={"jobs.main": 3})
        answer.time.FromMilliseconds(OPENED + 1_000 * self.calls)
        return answer


def parked(request: ListQuarantinedJobsRequest) -> ListQuarantinedJobsResponse:
    case = QuarantinedJob()
    case.quarantine_time.FromMilliseconds(OPENED + len(request.job_type))
    return ListQuarantinedJobsResponse(jobs=[case], total_size=len(request.job_type))


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet() as started:
        started.answers["ListBreakers"] = pb.ListBreakersResponse(breakers=[breaker(), breaker("sms", "CLOSED")])
        started.answers["GetMetrics"] = Numbers()
        started.answers["ListQuarantinedJobs"] = parked
        started.answers["WatchBreakers"] = []
        yield started


def test_one_frame(fleet: Fleet):
    result = fleet.run("top", "--once", *QUICK)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    told = [line.split() for line in result.stdout.splitlines()]
    assert told[1] == ["jobs/s", "10.0", "submitted", "10.0", "succeeded", "0.0", "failed"]
    assert told[4][:3] == ["BREAKER", "STATE", "SINCE"]
    assert (told[5][0], told[5][1]) == ("email", "OPEN")
    assert (told[6][0], told[6][1]) == ("sms", "CLOSED")
    assert ["jobs.main", "3", "0.0/s"] in told


def test_without_a_terminal_it_is_one_frame(fleet: Fleet):
    assert fleet.run("top", *QUICK).exit_code == 0
    view = fleet.json("top", *QUICK)
    assert view["jobs"] == {
        "byState": {"QUEUED": 0, "RUNNING": 0, "RETRYING": 0, "PARKED": 7, "QUARANTINED": 0, "SCHEDULED": 0},
        "perSecond": {"submitted": 10.0, "succeeded": 10.0, "failed": 0.0, "retrying": 0.0, "parked": 0.0, "quarantined": 0.0},
    }
    assert [one["jobType"] for one in view["breakers"]] == ["email", "sms"]
    assert (view["breakers"][0]["parkedJobs"], view["breakers"][0]["oldestParkedAt"]) == (5, OPENED + 5)
    assert "parkedJobs" not in view["breakers"][1], "it is closed, and had no parked jobs"
    assert view["changes"] == [{"jobType": "email", "time": OPENED, "state": "OPEN"}]
    assert view["health"]["worker"]["status"] == "up"


def test_incidents_are_shown_if_the_control_plane_has_them(fleet: Fleet):
    assert fleet.json("top", *QUICK)["incidents"] == [], "it does not answer such a call"
    incident = Incident(incident_id="12", job_type="email", tenant="default", open=True)
    fleet.answers["ListIncidents"] = ListIncidentsResponse(incidents=[incident])
    assert [one["incidentId"] for one in fleet.json("top", *QUICK)["incidents"]] == ["12"]
    assert "INCIDENT" in fleet.run("top", *QUICK).stdout
    fleet.answers["ListIncidents"] = AWAY
    assert fleet.run("top", *QUICK).exit_code == 4


def test_tenants_and_the_slots_that_their_jobs_take_are_shown_if_there_are_any(fleet: Fleet):
    assert "TENANT" not in fleet.run("top", *QUICK).stdout, "it does not answer such a call"

    def page(request: ListWorkersRequest) -> ListWorkersResponse:
        shares = [TenantSlots(tenant=tenant, slots_in_use=slots) for tenant, slots in (("acme", 2), ("default", 1))]
        return ListWorkersResponse(workers=[Worker(tenants=shares)], next_page_token="" if request.page_token else "2")

    fleet.answers["ListWorkers"] = page
    assert fleet.json("top", *QUICK)["tenants"] == [{"tenant": "acme", "slotsInUse": 4}, {"tenant": "default", "slotsInUse": 2}]
    told = [line.split() for line in fleet.run("top", *QUICK).stdout.splitlines()]
    assert told[told.index(["TENANT", "RUNNING"]) + 1 :][:2] == [["acme", "4"], ["default", "2"]]


def test_everything_of_one_tenant_is_asked_for_by_its_name(fleet: Fleet):
    fleet.answers["ListIncidents"] = ListIncidentsResponse()
    fleet.answers["ListWorkers"] = ListWorkersResponse(workers=[Worker(tenants=[TenantSlots(tenant="acme", slots_in_use=2)])])
    assert fleet.json("top", "--tenant", "acme", *QUICK)["tenants"] == [{"tenant": "acme", "slotsInUse": 2}]
    asked = {name: request.tenant for name, request in fleet.calls if name.startswith("List")}
    assert asked == dict.fromkeys(("ListBreakers", "ListIncidents", "ListQuarantinedJobs", "ListWorkers"), "acme")


def test_the_parked_jobs_of_a_dependency_are_those_of_all_its_types(fleet: Fleet):
    shared = breaker("dependency:smtp", dependency="smtp", job_types=["email", "sms"])
    fleet.answers["ListBreakers"] = pb.ListBreakersResponse(breakers=[shared])
    (row,) = fleet.json("top", *QUICK)["breakers"]
    assert (row["parkedJobs"], row["oldestParkedAt"]) == (8, OPENED + 3)
    asked = [request for name, request in fleet.calls if name == "ListQuarantinedJobs"]
    assert {(one.job_type, one.tenant) for one in asked} == {("email", ""), ("sms", "")}


def test_parked_jobs_are_those_of_the_breakers_tenant_if_each_has_its_own(fleet: Fleet):
    other = breaker(state="HALF_OPEN")
    other.tenant = "acme"
    fleet.answers["ListBreakers"] = pb.ListBreakersResponse(breakers=[breaker(), other])
    assert len(fleet.json("top", *QUICK)["breakers"]) == 2
    asked = [request for name, request in fleet.calls if name == "ListQuarantinedJobs"]
    assert {(one.job_type, one.tenant) for one in asked} == {("email", "default"), ("email", "acme")}


def test_all_pages_of_breakers_are_read(fleet: Fleet):
    def page(request: pb.ListBreakersRequest) -> pb.ListBreakersResponse:
        number = int(request.page_token or 0)
        breakers = [breaker(f"t{number}", "CLOSED")]
        return pb.ListBreakersResponse(breakers=breakers, next_page_token=str(number + 1) if number < 2 else "")

    fleet.answers["ListBreakers"] = page
    assert [one["jobType"] for one in fleet.json("top", *QUICK)["breakers"]] == ["t0", "t1", "t2"]


def test_a_server_behind_the_control_plane_that_is_away_hides_only_its_numbers(fleet: Fleet):
    fleet.answers["GetMetrics"] = AWAY
    result = fleet.run("top", "--once", *QUICK)
    assert (result.exit_code, result.stderr) == (4, "Error: control plane: RabbitMQ is unavailable (try again in 2 s)\n")
    assert "control plane: RabbitMQ is unavailable" in result.stdout
    assert ["email", "OPEN"] in [line.split()[:2] for line in result.stdout.splitlines()]


def test_services_that_are_not_there(fleet: Fleet):
    nowhere = f"localhost:{closed_port()}"
    result = fleet.run("top", "--once", *QUICK, "--control-plane", nowhere, "--worker", nowhere)
    assert (result.exit_code, result.stderr) == (4, "Error: 2 services of 3 not serving\n")
    assert "Job API up  worker down  control plane down" in result.stdout
    assert "there are no numbers yet" in result.stdout


@pytest.mark.parametrize("every", ["0s", "99ms", "2h", "soon"])
def test_a_time_between_readings_that_makes_no_sense(fleet: Fleet, every: str):
    result = fleet.run("top", "--once", "--every", every)
    assert result.exit_code == 2
    assert "--every" in result.stderr
    assert fleet.calls == []


def live(fleet: Fleet, *args: str, **env: str) -> Terminal:
    return Terminal([sys.executable, "-m", "sickbay_cli", "top", *QUICK, *args], fleet.env | env)


def test_the_live_screen_goes_on_until_q(fleet: Fleet):
    with live(fleet) as terminal:
        terminal.until(lambda screen: "10.0 submitted" in screen and "email" in screen)
        fleet.answers["ListBreakers"] = pb.ListBreakersResponse(breakers=[breaker("fax", "FORCED_OPEN")])
        terminal.until(lambda screen: "FORCED_OPEN" in screen and "sms" not in screen)
        assert "\x1b[1;31mOPEN" in terminal.text
        terminal.press(b"x")
        terminal.press(b"q")
        assert (terminal.ended(), terminal.is_restored) == (0, True)


def test_changes_come_from_the_watch(fleet: Fleet):
    """Also those that lie between two readings."""
    told = [breaker("fax", state) for state in ("CLOSED", "OPEN", "HALF_OPEN")]
    for rev, one in enumerate(told):
        one.rev = rev + 1
    fleet.answers["ListBreakers"] = pb.ListBreakersResponse(breakers=told[:1])
    fleet.answers["WatchBreakers"] = [pb.WatchBreakersResponse(breaker=one, resume_token="t") for one in told]

    def states(screen: str) -> list[str]:
        return [line.split()[2] for line in screen.splitlines() if "fax" in line.split()[1:2]]

    with live(fleet) as terminal:
        terminal.until(lambda screen: states(screen) == ["HALF_OPEN", "OPEN"])
        terminal.press(b"q")
        assert terminal.ended() == 0


@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_end_it_and_the_terminal_is_as_before(fleet: Fleet, end: signal.Signals, code: int):
    with live(fleet) as terminal:
        terminal.until(lambda screen: "email" in screen)
        terminal.press(b"\x03") if end is signal.SIGINT else terminal.process.send_signal(end)
        assert (terminal.ended(), terminal.is_restored) == (code, True)


def test_it_can_be_stopped_and_continued(fleet: Fleet):
    """By Ctrl-Z and `fg` of a shell, which finds the terminal as it was."""
    shell = ["bash", "-mc", '"$@"; echo STOPPED; read -r; fg > /dev/null; exit $?', "bash"]
    with Terminal([*shell, sys.executable, "-m", "sickbay_cli", "top", *QUICK], fleet.env) as terminal:
        terminal.until(lambda screen: "email" in screen)
        terminal.press(b"\x1a")
        terminal.until(lambda _: "STOPPED" in terminal.text)
        assert terminal.is_restored
        terminal.text = ""
        terminal.press(b"\n")
        terminal.until(lambda screen: "email" in screen)
        terminal.press(b"q")
        assert (terminal.ended(), terminal.is_restored) == (0, True)


def test_it_fits_the_terminal_as_that_changes(fleet: Fleet):
    with live(fleet) as terminal:
        terminal.until(lambda screen: "jobs.main" in screen)
        terminal.resize(8, 30)
        terminal.text = ""
        screen = terminal.until(lambda screen: "BREAKER" in screen and "jobs.main" not in screen)
        assert all(len(line.rstrip("\r")) <= 30 for line in screen.split("\n"))
        terminal.press(b"q")
        assert terminal.ended() == 0


def test_what_goes_away_is_told_and_what_comes_back_is_shown(fleet: Fleet):
    with live(fleet) as terminal:
        terminal.until(lambda screen: "email" in screen)
        before, fleet.answers["ListBreakers"] = fleet.answers["ListBreakers"], AWAY
        told = terminal.until(lambda screen: "RabbitMQ is unavailable" in screen)
        assert "the numbers below are those of" in told
        assert "email" in told
        fleet.answers["ListBreakers"] = before
        terminal.until(lambda screen: "RabbitMQ is unavailable" not in screen)
        terminal.press(b"q")
        assert terminal.ended() == 0


def test_it_ends_at_once_although_a_service_does_not_answer(fleet: Fleet):
    with live(fleet, "--control-plane", f"localhost:{closed_port()}", "--timeout", "600") as terminal:
        terminal.until(lambda screen: "control plane down" in screen)
        terminal.press(b"q")
        assert terminal.ended() == 0


def test_without_colour(fleet: Fleet):
    with live(fleet, NO_COLOR="1") as terminal:
        terminal.until(lambda screen: "email" in screen)
        terminal.press(b"q")
        assert terminal.ended() == 0
        assert "\x1b[31m" not in terminal.text
        assert ";31m" not in terminal.text


def test_a_terminal_that_can_nothing_gets_one_frame(fleet: Fleet):
    with live(fleet, TERM="dumb") as terminal:
        assert terminal.ended() == 0
        assert "\x1b[?1049h" not in terminal.text
        assert "email" in terminal.text


def test_json_is_for_one_frame(fleet: Fleet):
    with live(fleet, "--json") as terminal:
        assert terminal.ended() == 2
        assert "--json needs --once" in terminal.text

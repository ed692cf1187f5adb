"""breakers and the commands that change them, against a fake control plane."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sickbay.breakers.v1 import breaker_service_pb2 as pb
from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.contract.faults import Fault
from sickbay_cli.breaker_tables import situation
from tests.support.cli_services import NOT_FOUND, Fleet

NOW = 1_700_000_000_000


@pytest.fixture
def fleet():
    with Fleet() as started:
        yield started


def breaker(state: str = "OPEN", **fields: Any) -> Breaker:
    known = {"job_type": "email", "tenant": "default", "reason_code": "API_TIMEOUT", "reason_count": 5, "total_failures": 1234}
    breaker = Breaker(state=Breaker.State.Value(f"STATE_{state}"), **(known | fields))
    if state in {"OPEN", "HALF_OPEN", "FORCED_OPEN"}:
        breaker.open_time.FromMilliseconds(NOW)
    return breaker


def at(ms: int) -> Any:
    return {"seconds": ms // 1000}


@pytest.mark.parametrize(
    ("breaker", "words"),
    [
        (breaker("CLOSED"), ""),
        (breaker("CLOSED", recovering=True), "recovering: lets jobs in gradually"),
        (breaker("CLOSED", failures_in_row=3, failures_in_row_code="X"), "3 x X in a row"),
        (breaker("OPEN", probe_time=at(NOW + 40_000)), "5 x API_TIMEOUT, probe in 40 s"),
        (breaker("OPEN", cooldown_elapsed=True), "5 x API_TIMEOUT, the next job is the probe"),
        (breaker("CLOSED", recent_runs=1_250, recent_failure_rate=0.4), "40 % of 1,250 recent runs failed or were slow"),
        (breaker("HALF_OPEN", probe_job_id="j"), "probe j runs"),
        (breaker("HALF_OPEN", probe_job_id="j", probe_time=at(NOW + 2_000)), "probe j runs, the next in 2 s if it hangs"),
        (breaker("HALF_OPEN", probe_job_id="j", probe_time=at(NOW - 2_000)), "probe j runs, it hangs"),
        (breaker("FORCED_OPEN", forced_by="ann", forced_why="move", forced_until_time=at(NOW + 90_000)), "by ann, ends in 1 m 30 s: move"),
        (breaker("DISABLED"), ""),
        (breaker("METRICS_ONLY", would_have_tripped=2, forced_by="ann"), "would have opened 2 x, by ann"),
        (breaker("CLOSED", degraded=True), "Redis unavailable: local state"),
    ],
)
def test_a_circuits_situation_in_words(breaker: Breaker, words: str):
    assert situation(breaker, NOW) == words


def test_a_breaker_without_a_worker_says_so_first():
    assert situation(breaker(waiting_for="worker"), NOW).startswith("no live worker handles it; ")


def test_all_circuits(fleet: Fleet):
    fleet.answers["ListBreakers"] = pb.ListBreakersResponse(breakers=[breaker(), breaker("CLOSED", job_type="sms", tenant="acme")])
    lines = fleet.run("breakers").stdout.splitlines()
    assert lines[0].split() == ["TYPE", "STATE", "SINCE", "FAILURES"]
    assert lines[1].split()[:2] == ["email", "OPEN"]
    assert lines[2].startswith("sms (acme)")
    view = fleet.json("breakers")
    assert view["count"] == 2
    assert view["breakers"][0]["openedAt"] == NOW


def test_no_circuits_yet(fleet: Fleet):
    fleet.answers["ListBreakers"] = pb.ListBreakersResponse()
    assert "no breakers yet" in fleet.run("breakers").stderr
    assert fleet.json("breakers") == {"count": 0, "breakers": []}


def test_one_circuit(fleet: Fleet):
    fleet.answers["GetBreaker"] = pb.GetBreakerResponse(breaker=breaker(reason_message="no answer", trips=2))
    shown = fleet.run("breakers", "email", "--tenant", "acme").stdout
    assert "5 x API_TIMEOUT: no answer" in shown
    assert "1,234" in shown
    assert (fleet.requests[0].job_type, fleet.requests[0].tenant) == ("email", "acme")
    assert fleet.json("breakers", "email")["reason"]["code"] == "API_TIMEOUT"


def test_an_unknown_circuit(fleet: Fleet):
    fleet.answers["GetBreaker"] = NOT_FOUND
    assert fleet.run("breakers", "nope").exit_code == 3


def test_watch_prints_every_change_until_the_stream_ends(fleet: Fleet):
    replies = [pb.WatchBreakersResponse(breaker=breaker(state)) for state in ("CLOSED", "OPEN")]
    fleet.answers["WatchBreakers"] = replies
    result = fleet.run("breakers", "email", "--watch")
    assert [line.split()[1:3] for line in result.stdout.splitlines()] == [["email", "CLOSED"], ["email", "OPEN"]]
    assert result.exit_code == 4
    printed = [json.loads(line)["state"] for line in fleet.run("breakers", "--watch", "--json").stdout.splitlines()]
    assert printed == ["CLOSED", "OPEN"]
    assert [request.job_type for request in fleet.requests] == ["email", ""]


def test_reset(fleet: Fleet):
    fleet.answers["ResetBreaker"] = pb.ResetBreakerResponse(breaker=breaker("CLOSED"))
    assert fleet.run("reset", "email").stdout == "Circuit breaker for 'email' has been reset\n"
    assert fleet.json("reset", "email") == {"message": "Circuit breaker for 'email' has been reset", "jobType": "email"}


def test_the_breaker_of_a_dependency_says_who_shares_it(fleet: Fleet):
    shared = breaker("OPEN", job_type="dependency:smtp", dependency="smtp", job_types=["email", "sms"])
    fleet.answers["ListBreakers"] = pb.ListBreakersResponse(breakers=[shared])
    assert fleet.run("breakers").stdout.splitlines()[1].startswith("dependency:smtp (email, sms)  OPEN")
    shared.job_type = "email"
    fleet.answers["GetBreaker"] = pb.GetBreakerResponse(breaker=shared)
    rows = [line.split(maxsplit=1) for line in fleet.run("breakers", "email").stdout.splitlines()]
    assert ["dependency", "smtp"] in rows
    assert "shared by   email, sms" in fleet.run("breakers", "email").stdout
    fleet.answers["ResetBreaker"] = pb.ResetBreakerResponse(breaker=shared)
    message = "Circuit breaker for 'email' has been reset: that of the dependency 'smtp', shared by email, sms"
    assert fleet.run("reset", "email").stdout == f"{message}\n"
    fleet.answers["ProbeBreaker"] = pb.ProbeBreakerResponse(breaker=shared)
    assert fleet.run("probe", "email").stdout == "The next job of dependency:smtp (email, sms) is the probe\n"


def test_reset_of_an_unknown_circuit(fleet: Fleet):
    fleet.answers["ResetBreaker"] = Fault(NOT_FOUND.code, "Circuit breaker for jobType 'nope' not found", "BREAKER_NOT_FOUND")
    result = fleet.run("reset", "nope")
    assert (result.exit_code, result.stderr) == (3, "Error: Circuit breaker for jobType 'nope' not found\n")


def test_force_open(fleet: Fleet):
    fleet.answers["ForceOpenBreaker"] = pb.ForceOpenBreakerResponse(breaker=breaker("FORCED_OPEN"))
    result = fleet.run("force-open", "email", "--for", "1h30m", "--why", "move", "--tenant", "acme", LOGNAME="ann")
    assert result.exit_code == 0
    assert "FORCED_OPEN" in result.stdout
    (request,) = fleet.requests
    assert request.duration.ToSeconds() == 5400
    assert (request.actor, request.why, request.tenant) == ("ann", "move", "acme")


def test_force_open_without_an_end(fleet: Fleet):
    fleet.answers["ForceOpenBreaker"] = pb.ForceOpenBreakerResponse(breaker=breaker("FORCED_OPEN"))
    assert fleet.json("force-open", "email", "--actor", "bob")["state"] == "FORCED_OPEN"
    assert not fleet.requests[0].HasField("duration")
    assert fleet.requests[0].actor == "bob"


@pytest.mark.parametrize("span", ["10", "ten minutes", "10 m x", "-5m"])
def test_a_span_that_cannot_be_one(fleet: Fleet, span: str):
    result = fleet.run("force-open", "email", "--for", span)
    assert result.exit_code == 2
    assert "30s, 10m, 1h30m or 2d" in result.stderr


@pytest.mark.parametrize(
    ("command", "method", "state"),
    [
        ("disable", "DisableBreaker", "DISABLED"),
        ("metrics-only", "SetBreakerMetricsOnly", "METRICS_ONLY"),
        ("auto", "SetBreakerAuto", "CLOSED"),
    ],
)
def test_the_other_commands(fleet: Fleet, command: str, method: str, state: str):
    fleet.answers[method] = getattr(pb, f"{method}Response")(breaker=breaker(state))
    assert state in fleet.run(command, "email").stdout
    assert fleet.json(command, "email")["state"] == state
    assert [name for name, _ in fleet.calls] == [method, method]


def test_a_probe_says_what_runs(fleet: Fleet):
    """The next job, or the one that is running already."""
    fleet.answers["ProbeBreaker"] = pb.ProbeBreakerResponse(breaker=breaker("OPEN", cooldown_elapsed=True))
    assert fleet.run("probe", "email").stdout == "The next job of email is the probe\n"
    assert fleet.json("probe", "email")["state"] == "OPEN"
    fleet.answers["ProbeBreaker"] = pb.ProbeBreakerResponse(breaker=breaker("HALF_OPEN", probe_job_id="j-1"))
    assert fleet.run("probe", "email").stdout == "Job j-1 is already running as the probe of email\n"
    assert [(request.job_type, request.tenant) for request in fleet.requests] == [("email", "")] * 3

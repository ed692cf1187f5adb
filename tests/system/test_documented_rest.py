"""REST exactly as the product's description documents it: bodies, statuses, messages."""

from __future__ import annotations

from sickbay.domain.storable import UNREACHABLE
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic

QUEUES = ("high", "main", "demoted", "low", "retry", "quarantine", "ledger")


def test_a_job_is_accepted(sickbay: Clients):
    """The documented body, with `jobId` and `Location` added."""
    body = {"jobType": "documented", "payload": {"to": "user@example.com", "subject": "Hello", "body": "Message content"}}
    answer = sickbay.api.post("/jobs", json=body)
    assert answer.status_code == 202
    told = answer.json()
    assert answer.headers["location"] == f"/jobs/{told.pop('jobId')}"
    assert told == {"status": "accepted", "message": "Job queued for processing", "jobType": "documented"}
    assert sickbay.api.get(answer.headers["location"]).status_code == 200


def test_all_three_are_healthy(sickbay: Clients):
    """The documented fields, and beside them what was looked at."""
    for door in (sickbay.api, sickbay.worker, sickbay.plane):
        answer = door.get("/health")
        told = answer.json()
        checks = told.pop("checks")
        assert (answer.status_code, told) == (200, {"status": "ok", "info": {"api": {"status": "up"}}})
        assert checks
        assert {check["status"] for check in checks.values()} == {"up"}


def test_breakers_are_listed_reset_and_unknown(sickbay: Clients, clinic: Clinic):
    """A healthy circuit is its type and CLOSED; an open one tells since when (ms) and whether its cooldown is over."""
    sickbay.wait(sickbay.submit("healthy"), "SUCCEEDED")
    sickbay.wait(sickbay.submit("documented"), "SUCCEEDED")
    clinic.break_down("documented")
    with sickbay.watching("documented") as breaker:
        parked = sickbay.submit_all("documented", *({"number": number} for number in range(5)))
        since = breaker.until("OPEN").open_time.ToMilliseconds()
    listed = sickbay.plane.get("/breakers").json()
    by_type = {breaker["jobType"]: breaker for breaker in listed["breakers"]}
    assert listed["count"] == len(listed["breakers"]) == len(by_type)
    assert by_type["healthy"] == {"jobType": "healthy", "state": "CLOSED"}
    assert by_type["documented"]["state"] in {"OPEN", "HALF_OPEN"}
    assert by_type["documented"]["openedAt"] == since
    assert isinstance(by_type["documented"]["cooldownElapsed"], bool)

    clinic.repair("documented")
    answer = sickbay.plane.post("/breakers/documented/reset")
    assert (answer.status_code, answer.json()) == (
        200,
        {"message": "Circuit breaker for 'documented' has been reset", "jobType": "documented"},
    )
    sickbay.wait_all(parked, "SUCCEEDED")
    missing = sickbay.plane.post("/breakers/never-seen/reset")
    assert missing.status_code == 404
    told = missing.json()
    assert (told["statusCode"], told["message"]) == (404, "Circuit breaker for jobType 'never-seen' not found")
    assert sickbay.plane.get("/breakers/never-seen").json()["message"] == told["message"]


def test_metrics_have_the_documented_keys(sickbay: Clients):
    sickbay.wait(sickbay.submit("documented", {"do": ["NETWORK_ERROR", "ok"]}), "SUCCEEDED")
    answer = sickbay.plane.get("/metrics")
    metrics = answer.json()
    assert answer.status_code == 200
    assert metrics["circuitBreakers"].keys() == {"total", "open", "closed"}
    assert metrics["circuitBreakers"]["total"] == metrics["circuitBreakers"]["open"] + metrics["circuitBreakers"]["closed"]
    assert metrics["failures"]["byJobType"]["documented"] >= 1
    assert metrics["queues"].keys() == {f"jobs.{name}" for name in QUEUES}
    assert metrics["jobs"]["byState"]["SUCCEEDED"] >= 1
    assert metrics["duplicates"] == 0


def test_the_documentation_is_served(sickbay: Clients):
    """Each service shows its routes, without another host's help."""
    for door in (sickbay.api, sickbay.worker, sickbay.plane):
        assert door.get("/docs").status_code == 200
        assert door.get("/openapi.json").json()["openapi"].startswith("3.")


def test_no_route_hides_a_job(sickbay: Clients):
    """A job whose id is what stands in another path at its place would answer to nobody over REST, so no job may have such an id."""
    paths = [path.split("/") for door in (sickbay.api, sickbay.plane) for path in door.get("/openapi.json").json()["paths"]]
    places = {tuple(path[: path.index("{jobId}")]) for path in paths if "{jobId}" in path}
    hidden = {path[len(place)] for path in paths for place in places if len(path) > len(place) and tuple(path[: len(place)]) == place}
    assert hidden - {"{jobId}"} <= UNREACHABLE
    assert "groups" in hidden

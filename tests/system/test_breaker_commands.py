"""What an admin can do to a circuit, over gRPC and REST."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from sickbay.breakers.v1 import breaker_service_pb2 as pb
from sickbay.breakers.v1.breaker_pb2 import Breaker
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic

FAILING = {"do": "STRANGE"}
"""Of unknown kind: it counts for the circuit, and its retries end."""


def test_a_hold_parks_jobs_until_it_is_ended_and_ends_with_a_probe(sickbay: Clients, clinic: Clinic):
    """FORCED_OPEN by REST; auto leads through OPEN and a probe, never straight to CLOSED."""
    sickbay.wait(sickbay.submit("forced"), "SUCCEEDED")
    with sickbay.watching("forced") as breaker:
        answer = sickbay.plane.post("/breakers/forced/force-open", json={"by": "ada", "why": "maintenance"})
        assert answer.status_code == 200
        assert answer.json()["forced"] == {"by": "ada", "why": "maintenance"}
        breaker.until("FORCED_OPEN")
        parked = sickbay.submit_all("forced", {}, {})
        sickbay.wait_all(parked, "PARKED")
        assert len(clinic.runs(job_type="forced")) == 1
        assert sickbay.plane.post("/breakers/forced/auto").json()["state"] == "OPEN"
        breaker.until("CLOSED")
    assert breaker.seen == ["CLOSED", "FORCED_OPEN", "OPEN", "HALF_OPEN", "CLOSED"]
    sickbay.wait_all(parked, "SUCCEEDED")
    assert set(clinic.count("forced").values()) == {1}


def test_a_hold_with_an_end_goes_on_with_a_probe_by_itself(sickbay: Clients):
    """ForceOpenBreaker with a duration; a type may be held before its first job."""
    hold = pb.ForceOpenBreakerRequest(job_type="expiring", duration=Duration(nanos=700_000_000), actor="ada", why="a short one")
    held = sickbay.breakers.ForceOpenBreaker(hold).breaker
    assert held.state == Breaker.STATE_FORCED_OPEN
    assert (held.forced_by, held.forced_why) == ("ada", "a short one")
    assert held.forced_until_time.ToMilliseconds() - held.open_time.ToMilliseconds() == 700
    job_id = sickbay.submit("expiring")
    sickbay.wait(job_id, "PARKED")
    sickbay.wait(job_id, "SUCCEEDED")
    probed = sickbay.breaker("expiring")
    assert (probed["state"], probed["recovering"]) == ("CLOSED", True), "it went through a probe"


def test_a_disabled_circuit_lets_everything_run(sickbay: Clients):
    """Ten failures in a row park nothing; reset brings the automatic circuit back."""
    disabled = sickbay.breakers.DisableBreaker(pb.DisableBreakerRequest(job_type="switch", actor="ada")).breaker
    assert disabled.state == Breaker.STATE_DISABLED
    ids = sickbay.submit_all("switch", *(FAILING for _ in range(10)))
    sickbay.wait_all(ids, "QUARANTINED")
    assert all("PARKED" not in sickbay.states(job_id) for job_id in ids)
    assert sickbay.breakers.ResetBreaker(pb.ResetBreakerRequest(job_type="switch")).breaker.state == Breaker.STATE_CLOSED


def test_a_watching_circuit_tells_what_it_would_have_done(sickbay: Clients):
    """METRICS_ONLY lets all jobs run and counts the trips it held back; auto ends it."""
    assert sickbay.plane.post("/breakers/shadow/metrics-only", json={"by": "ada"}).json()["state"] == "METRICS_ONLY"
    ids = sickbay.submit_all("shadow", *(FAILING for _ in range(6)))
    sickbay.wait_all(ids, "QUARANTINED")
    assert sickbay.breaker("shadow")["wouldHaveTripped"] >= 1
    assert all("PARKED" not in sickbay.states(job_id) for job_id in ids)
    assert sickbay.plane.post("/breakers/shadow/auto").json()["state"] == "CLOSED"


def test_circuits_are_listed_in_pages(sickbay: Clients):
    """ListBreakers goes through all of them, by type, whatever the size of a page."""
    for name in ("page-a", "page-b", "page-c"):
        sickbay.breakers.DisableBreaker(pb.DisableBreakerRequest(job_type=name))
    names: list[str] = []
    request = pb.ListBreakersRequest(page_size=2)
    while True:
        page = sickbay.breakers.ListBreakers(request)
        names += [breaker.job_type for breaker in page.breakers]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == sorted(names)
    assert [name for name in names if name.startswith("page-")] == ["page-a", "page-b", "page-c"]


def test_one_job_each_of_many_tenants_opens_the_circuit_of_their_type(sickbay: Clients, clinic: Clinic):
    """No tenant alone reaches the threshold; what comes later is parked, whoever sends it, and comes back with the others."""
    sickbay.wait(sickbay.submit("shared"), "SUCCEEDED")

    def submit(*tenants: str, **payload: str) -> list[str]:
        answer = sickbay.api.post("/jobs:batch", json={"jobs": [{"jobType": "shared", "tenant": t, "payload": payload} for t in tenants]})
        return [result["jobId"] for result in answer.json()["results"]]

    with sickbay.watching("shared") as breaker:
        failing = submit(*(f"tenant-{number}" for number in range(5)), **FAILING)
        breaker.until("OPEN")
        answer = sickbay.plane.post("/breakers/shared/force-open?tenant=late", json={})
        assert (answer.status_code, answer.json()["reason"]) == (409, "WRONG_STATE")
        assert sickbay.plane.post("/breakers/shared/force-open", json={}).status_code == 200
        late = submit("late", "later")
        sickbay.wait_all(late, "PARKED")
        assert sickbay.plane.get("/breakers/shared?tenant=late").json()["state"] == "FORCED_OPEN"
        assert [one["jobType"] for one in sickbay.plane.get("/breakers").json()["breakers"]].count("shared") == 1
        assert sickbay.plane.post("/breakers/shared/reset").status_code == 200
        sickbay.wait_all(late, "SUCCEEDED")
    assert len(clinic.runs(job_type="shared")) <= 3 + 4 * len(failing)

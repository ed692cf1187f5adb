"""Scenario 1: a dependency is down. Its circuit opens, one job probes, and everything comes back by itself."""

from __future__ import annotations

from tests.support.clients import Circuit, Clients
from tests.support.fake_dependency import Clinic

COOLDOWN_MS = 1_500


def prime(sickbay: Clients, job_type: str) -> None:
    """Make the circuit known."""
    sickbay.wait(sickbay.submit(job_type), "SUCCEEDED")


def trip(sickbay: Clients, breaker: Circuit, job_type: str) -> list[str]:
    """Let five jobs fail while the dependency is down."""
    ids = sickbay.submit_all(job_type, *({"number": number} for number in range(5)))
    opened = breaker.until("OPEN")
    assert (opened.reason_code, opened.reason_count) == ("API_TIMEOUT", 5)
    return ids


def test_outage_from_the_first_failure_to_the_last_parked_job(sickbay: Clients, clinic: Clinic):
    """Five timeouts open only this circuit; one probe at a time runs; after it succeeds, all parked jobs come back by themselves."""
    prime(sickbay, "outage")
    clinic.break_down("outage")
    with sickbay.watching("outage") as breaker:
        failed = trip(sickbay, breaker, "outage")
        before = len(clinic.runs(job_type="outage"))
        assert before == 1 + 5

        late = sickbay.submit_all("outage", {"late": 1}, {"late": 2}, {"late": 3})
        others = [sickbay.submit("sms"), sickbay.submit("webhook")]
        sickbay.wait_all(late, "PARKED")
        sickbay.wait_all(others, "SUCCEEDED")
        assert [sickbay.breaker(name)["state"] for name in ("sms", "webhook")] == ["CLOSED", "CLOSED"]

        first_probe = breaker.until("HALF_OPEN")
        opened_again = breaker.until("OPEN")
        probes = clinic.runs(job_type="outage")[before:]
        clinic.repair("outage")
        assert (opened_again.trips, opened_again.cooldown.ToMilliseconds()) == (2, COOLDOWN_MS)
        assert [run.job for run in probes] == [first_probe.probe_job_id]

        second_probe = breaker.until("HALF_OPEN")
        closed = breaker.until("CLOSED")
        assert closed.recovering

    everything = failed + late
    sickbay.wait_all(everything, "SUCCEEDED")
    closed_at = closed.update_time.ToMilliseconds()
    until_closed = [run.job for run in clinic.runs(job_type="outage") if run.at <= closed_at]
    assert until_closed[before:] == [first_probe.probe_job_id, second_probe.probe_job_id]
    for job_id in everything:
        assert "PARKED" in sickbay.states(job_id)
    for job_id in set(late) - {first_probe.probe_job_id}:
        assert clinic.count("outage")[job_id] == 1, "it was parked without a run, then ran once"
    assert sickbay.plane.get("/quarantine", params={"jobType": "outage"}).json()["count"] == 0


def test_the_oldest_parked_job_is_the_probe_when_nobody_submits_anything(sickbay: Clients, clinic: Clinic):
    """The cooldown is kept, and while the probe runs every other job is parked without a run.

    No run of the type has succeeded yet, so the breaker is patient.
    """
    clinic.break_down("silent")
    hold = clinic.make_gate("silent-probe")
    clinic.open_gate("silent-probe")
    first = sickbay.submit("silent", {"do": hold})
    sickbay.wait(first, "RETRYING")
    with sickbay.watching("silent") as breaker:
        ids = [first, *sickbay.submit_all("silent", *({"do": hold} for _ in range(4)))]
        opened = breaker.until("OPEN")
        sickbay.wait_all(ids, "PARKED")
        waiting = sickbay.plane.get("/quarantine", params={"jobType": "silent"}).json()["jobs"]
        (clinic.folder / "silent-probe.open").unlink()
        clinic.repair("silent")

        probing = breaker.until("HALF_OPEN")
        sickbay.wait(probing.probe_job_id, "RUNNING")
        assert probing.probe_job_id == waiting[0]["jobId"]
        assert probing.update_time.ToMilliseconds() - opened.open_time.ToMilliseconds() >= COOLDOWN_MS
        late = sickbay.submit("silent")
        sickbay.wait(late, "PARKED")
        aside = sickbay.plane.get("/quarantine", params={"jobType": "silent"}).json()["jobs"]
        assert {job["jobId"]: job["generation"] for job in aside} == dict.fromkeys({*ids, late} - {probing.probe_job_id}, 0), "one went out"
        clinic.open_gate("silent-probe")
        breaker.until("CLOSED")
    sickbay.wait_all([*ids, late], "SUCCEEDED")
    assert clinic.count("silent")[late] == 1

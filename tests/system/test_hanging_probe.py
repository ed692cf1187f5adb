"""A dependency that hangs at the moment of the probe and is back a moment later: the next probe does not wait for the timeout."""

from __future__ import annotations

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic

PATIENCE_MS = 1_000
"""The least: runs of this type take some 20 ms."""
TIMEOUT_MS = 30_000


def test_another_job_becomes_the_probe_when_one_hangs(sickbay: Clients, clinic: Clinic):
    """The circuit closes while the first probe still hangs, its job is not at fault, and everything succeeds in the end."""
    sickbay.wait(sickbay.submit("hanging"), "SUCCEEDED")
    clinic.break_down("hanging")
    gates = [f"hanging-{number}" for number in range(5)]
    holds = [clinic.make_gate(gate) for gate in gates]
    with sickbay.watching("hanging") as breaker:
        for gate in gates:
            clinic.open_gate(gate)
        jobs = sickbay.submit_all("hanging", *({"do": hold} for hold in holds))
        breaker.until("OPEN")
        sickbay.wait_all(jobs, "PARKED")
        waiting = sickbay.plane.get("/quarantine", params={"jobType": "hanging"}).json()["jobs"]
        hangs, follows = waiting[0]["jobId"], waiting[1]["jobId"]
        gate = gates[jobs.index(hangs)]
        (clinic.folder / f"{gate}.open").unlink()
        clinic.repair("hanging")

        first = breaker.until("HALF_OPEN")
        begun = first.update_time.ToMilliseconds()
        assert first.probe_job_id == hangs
        assert PATIENCE_MS <= first.probe_time.ToMilliseconds() - begun < TIMEOUT_MS
        due = breaker.until("OPEN")
        assert (due.trips, due.cooldown_elapsed, due.hanging_probes) == (1, True, 1)
        assert due.update_time.ToMilliseconds() - begun >= PATIENCE_MS
        second = breaker.until("HALF_OPEN")
        assert (second.probe_job_id, second.hanging_probes) == (follows, 1)
        closed = breaker.until("CLOSED")
        assert closed.recovering
        assert closed.update_time.ToMilliseconds() - begun < TIMEOUT_MS
    sickbay.wait_all([job for job in jobs if job != hangs], "SUCCEEDED")
    assert sickbay.job(hangs)["state"] == "RUNNING"
    clinic.open_gate(gate)
    sickbay.wait(hangs, "SUCCEEDED")
    assert sickbay.breaker("hanging")["state"] == "CLOSED"
    assert clinic.count("hanging")[hangs] == 2, "once before the circuit opened, once as the probe"


def test_the_late_success_of_a_probe_that_hung_closes_the_circuit(sickbay: Clients, clinic: Clinic):
    """It is a proof like any other; `explain` says what is waited for meanwhile."""
    sickbay.wait(sickbay.submit("hung"), "SUCCEEDED")
    clinic.break_down("hung")
    hold = clinic.make_gate("hung-probes")
    with sickbay.watching("hung") as breaker:
        clinic.open_gate("hung-probes")
        jobs = sickbay.submit_all("hung", *({"do": hold} for _ in range(5)))
        breaker.until("OPEN")
        sickbay.wait_all(jobs, "PARKED")
        (clinic.folder / "hung-probes.open").unlink()
        clinic.repair("hung")
        first = breaker.until("HALF_OPEN")
        second = breaker.until("HALF_OPEN")
        assert first.probe_job_id != second.probe_job_id
        shown = sickbay.breaker("hung")
        assert shown["hangingProbes"] >= 1
        told = " ".join(sickbay.plane.get("/breakers/hung/explain").json()["sentences"])
        assert "not ended yet, and" in told
        clinic.open_gate("hung-probes")
        breaker.until("CLOSED")
    sickbay.wait_all(jobs, "SUCCEEDED")

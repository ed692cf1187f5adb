"""Rates of runs: what comes faster waits, parked and not to blame, and runs at the rate; in both forms, and through a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.system_under_test import Product
from tests.support.waiting import until

RULES: Final = '[types.email]\nrate = "{rate}"\nburst = 5\n'
EARLY_MS: Final = 20
"""Bursts and clocks are those of the machine, but the records are written by the handlers."""
AGE_LEASES: Final = "UPDATE jobs SET lease_until = 1 WHERE lease_until IS NOT NULL"
KILLER: Final = '''
import os, signal
from sickbay.observer import Observer

class Killer(Observer):
    """Dies by kill -9 between the confirm of the third release and its entry in the ledger."""
    releases = 0
    def published(self, messages, seconds, error):
        self.releases += error is None and any("rate-paid-at" in message.headers for message in messages)
        if self.releases == 3:
            os.kill(os.getpid(), signal.SIGKILL)

killer = Killer()
'''


def set_rate(folder: Path, text: str) -> None:
    """As Kubernetes does: at once, by a rename."""
    (folder / "new.toml").write_text(text)
    (folder / "new.toml").replace(folder / "sickbay.toml")


def check_runs(clinic: Clinic, jobs: Sequence[str], *, per_s: int, burst: int = 5) -> None:
    """Each ran once, at its first attempt, and none before its token: a late run is no breach, however loaded the machine is."""
    runs = clinic.runs(job_type="email")
    assert Counter(run.job for run in runs) == dict.fromkeys(jobs, 1)
    assert {run.attempt for run in runs} == {0}
    begins = sorted(run.at for run in runs)
    early = [place for place, at in enumerate(begins) if at < begins[0] + 1_000 * (place + 1 - burst) / per_s - EARLY_MS]
    assert early == []


def states(sickbay: Clients, job: str) -> tuple[str, ...]:
    """Its history, without runs, of which short ones are not told."""
    return tuple(state for state in sickbay.states(job) if state != "RUNNING")


def check_history(sickbay: Clients, jobs: Sequence[str]) -> None:
    """None bounced: parked at most once, never retried, never in quarantine for a person."""
    seen = {states(sickbay, job) for job in jobs}
    assert {state for each in seen for state in each} == {"QUEUED", "PARKED", "SUCCEEDED"}
    assert max(each.count("PARKED") for each in seen) == 1


def waiting(sickbay: Clients) -> float:
    text = sickbay.plane.get("/metrics", headers={"accept": "text/plain"}).text
    return sum(one.value for family in plain(text) for one in family.samples if one.name == "sickbay_rate_waiting_jobs")


def explained(sickbay: Clients, job: str) -> Any:
    return sickbay.api.get(f"/jobs/{job}/explain").json()


@pytest.mark.embedded
def test_a_flood_over_the_rate(tmp_path: Path):
    """What waits is explained and counted, its breaker is not; a changed rate holds at once, and without one all come back."""
    clinic = Clinic(tmp_path)
    set_rate(tmp_path, RULES.format(rate="20/s"))
    env = {"JOB_HANDLERS": "clinic_handlers", "SICKBAY_CONFIG": "sickbay.toml", "LOG_FORMAT": "json"}
    product = Product(tmp_path, env)
    try:
        with Clients(product.ready()) as sickbay:
            jobs = sickbay.submit_batch([("email", {}), ("sms", {})] * 40)
            emails, others = jobs[::2], jobs[1::2]
            sickbay.wait_all(others, "SUCCEEDED")
            sickbay.wait_all(emails, "SUCCEEDED")
            check_runs(clinic, emails, per_s=20)
            check_history(sickbay, emails)
            assert {states(sickbay, job) for job in others} == {("QUEUED", "SUCCEEDED")}

            set_rate(tmp_path, RULES.format(rate="1/h"))
            until(lambda: product.err.text.count("the settings file has changed") == 1)
            slow = sickbay.submit_batch([("email", {})] * 20)
            until(lambda: waiting(sickbay) >= 15)
            last = slow[-1]
            sickbay.wait(last, "PARKED")
            assert sickbay.case(last)["reason"] == "RATE_LIMITED"
            told = explained(sickbay, last)
            assert (told["reason"], told["nextStep"]) == ("RATE_LIMITED", "RELEASE")
            assert "It waits for the rate of 1/h of its type: about " in " ".join(told["sentences"])
            about = sickbay.plane.get("/breakers/email/explain").json()
            assert (about["reason"], about.get("parkedJobs", 0)) == ("HEALTHY", 0)

            set_rate(tmp_path, "[types.email]\n")
            sickbay.wait_all(slow, "SUCCEEDED")
            assert Counter(run.job for run in clinic.runs(job_type="email")) == dict.fromkeys([*emails, *slow], 1)
    finally:
        product.stop()


@pytest.mark.servers
@pytest.mark.timeout(180)
def test_four_workers_and_a_control_plane_that_is_killed_in_a_release(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """100 jobs at 10/s together, each once; what the killed one had sent is finished by the next."""
    (own_clinic.folder / "killer.py").write_text(KILLER)
    set_rate(own_clinic.folder, RULES.format(rate="10/s"))
    fleet.env["SICKBAY_CONFIG"] = "sickbay.toml"
    fleet.launch("jobapi")
    fleet.launch("worker", 4)
    (doomed,) = fleet.launch("controlplane", OBSERVERS="killer:killer")
    fleet.ready()
    with Clients(fleet) as sickbay:
        jobs = sickbay.submit_batch([("email", {})] * 100)
        doomed.wait()
        fleet.retire(doomed)
        corner.sql(AGE_LEASES)  # rather than to wait for 30 s
    fleet.launch("controlplane")
    with Clients(fleet.ready()) as sickbay:
        sickbay.wait_all(jobs, "SUCCEEDED")
        check_runs(own_clinic, jobs, per_s=10, burst=10)  # the killed one's tokens were taken, and its jobs charged again
        check_history(sickbay, jobs)
        until(lambda: (depths := corner.depths()) == dict.fromkeys(depths, 0))

"""Job types with one dependency share a breaker: what one of them learns, the other need not, and both come back together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_dependency import Clinic
from tests.support.forms import BOTH, System, running
from tests.support.waiting import until

FILE = """
[defaults]
retry = { delay = "100ms" }
[types.email]
dependency = "smtp"
breaker = { threshold = 5, cooldown = "1h" }
[types.sms]
dependency = "smtp"
"""
ENV = {"LOG_FORMAT": "json", "JOB_HANDLERS": "clinic_handlers", "SICKBAY_CONFIG": "sickbay.toml"}


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "sickbay.toml").write_text(FILE)
    with running(request.param, "clinic_handlers", tmp_path, ENV) as system:
        yield system


def test_two_types_that_fail_together_open_one_breaker_and_come_back_after_one_probe(system: System):
    """Neither has enough failures of its own. A probe of one type decides for both, and no job of the other runs into the wall."""
    sickbay, clinic = system.clients, Clinic(system.folder)
    for job_type in ("email", "sms"):
        sickbay.wait(sickbay.submit(job_type), "SUCCEEDED")
        clinic.break_down(job_type)
    with sickbay.watching("sms") as breaker:
        jobs = sickbay.submit_batch([(job_type, {}) for _ in range(4) for job_type in ("email", "sms")])
        assert breaker.until("OPEN").dependency == "smtp"
        sickbay.wait_all(jobs, "PARKED")
        before = len(clinic.runs())
        late = sickbay.submit_batch([(job_type, {}) for _ in range(20) for job_type in ("email", "sms")])
        sickbay.wait_all(late, "PARKED")
        assert len(clinic.runs()) == before, "the types learn from each other"
        (shown,) = sickbay.plane.get("/breakers").json()["breakers"]
        assert (shown["jobType"], shown["dependency"], shown["jobTypes"]) == ("dependency:smtp", "smtp", ["email", "sms"])
        for name in ("email", "sms", "dependency:smtp"):
            found = sickbay.breaker(name)
            assert (found["jobType"], found["dependency"], found["state"], found["openedAt"]) == (name, "smtp", "OPEN", shown["openedAt"])
        answer = sickbay.plane.post("/breakers/email/probe").json()
        assert (answer["jobType"], answer["dependency"]) == ("email", "smtp")
        probe = breaker.until("HALF_OPEN").probe_job_id
        breaker.until("OPEN")
        assert [run.job for run in clinic.runs()[before:]] == [probe], "one probe for both"
        sickbay.wait(probe, "PARKED")
        for job_type in ("email", "sms"):
            clinic.repair(job_type)
        assert sickbay.plane.post("/breakers/dependency:smtp/probe").status_code == 200
        breaker.until("CLOSED")
    sickbay.wait_all([*jobs, *late], "SUCCEEDED")
    assert len(clinic.runs()) == before + 1 + len(jobs) + len(late), "every job ran once more, and the failed probe"
    assert sickbay.breaker("email")["state"] == "CLOSED"
    reset = sickbay.plane.post("/breakers/sms/reset").json()
    assert reset["message"] == "Circuit breaker for 'sms' has been reset: that of the dependency 'smtp', shared by email, sms"


def test_a_type_that_leaves_its_dependency_takes_its_parked_jobs_along(system: System):
    """A change of the file while they are parked: its own breaker knows of no failure, and releases them."""
    sickbay, clinic = system.clients, Clinic(system.folder)
    sickbay.wait(sickbay.submit("email"), "SUCCEEDED")
    clinic.break_down("email")
    with sickbay.watching("sms") as breaker:
        jobs = sickbay.submit_all("email", *({} for _ in range(6)))
        breaker.until("OPEN")
    waiting = sickbay.submit("sms")
    sickbay.wait_all([*jobs, waiting], "PARKED")
    new = system.folder / "new.toml"
    new.write_text(FILE.replace('[types.sms]\ndependency = "smtp"\n', ""))
    new.replace(system.folder / "sickbay.toml")
    sickbay.wait(waiting, "SUCCEEDED")
    until(lambda: sickbay.breaker("sms")["state"] == "CLOSED")
    assert sickbay.breaker("email")["state"] == "OPEN"
    clinic.repair("email")
    assert sickbay.plane.post("/breakers/email/probe").status_code == 200
    sickbay.wait_all(jobs, "SUCCEEDED")

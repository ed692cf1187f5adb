"""A job whose dependency is down needs no person, however long that lasts and even if nobody else notices, in both forms."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.fake_dependency import Clinic
from tests.support.forms import BOTH, System, running
from tests.support.waiting import until

ENV = {
    "JOB_HANDLERS": "clinic_handlers",
    "MAX_RETRIES": "1",
    "RETRY_DELAY_MS": "50",
    "COOLDOWN_PERIOD": "1",
    "SICKBAY_CONFIG": "sickbay.toml",
    "LOG_FORMAT": "json",
}
QUICK = '[defaults]\nretry = { max_delay = "200ms" }\n'
BOUNDED = "[types.sms]\nretry.codes = { CONNECTION_REFUSED = 2 }\n"


@pytest.fixture(params=BOTH)
def form(request: pytest.FixtureRequest) -> str:
    """Each form in turn."""
    return str(request.param)


@contextmanager
def started(form: str, folder: Path) -> Iterator[tuple[System, Clinic]]:
    (folder / "sickbay.toml").write_text(QUICK + BOUNDED)
    with running(form, "clinic_handlers", folder, ENV) as system:
        yield system, Clinic(folder)


def test_a_lone_job_waits_for_its_dependency_and_then_succeeds(form: str, tmp_path: Path):
    """One job opens no circuit: it is retried beyond MAX_RETRIES, and whoever waits for it hears of its success."""
    with started(form, tmp_path) as (system, clinic):
        sickbay = system.clients
        clinic.break_down("email", "CONNECTION_REFUSED")
        job_id = sickbay.submit("email")
        waiting, late = watches(system, job_id), watches(system, job_id, "--for", "1s")
        assert late.communicate(timeout=60)[1].endswith("has not ended\n")
        assert late.returncode == 124
        until(lambda: clinic.count("email")[job_id] >= 14)
        until(lambda: sickbay.job(job_id).get("nextAttemptAt"))
        clinic.repair("email")
        sickbay.wait(job_id, "SUCCEEDED")
        assert "SUCCEEDED" in waiting.communicate(timeout=60)[0]
        assert waiting.returncode == 0
        job = sickbay.job(job_id)
        assert not {"PARKED", "QUARANTINED"} & set(sickbay.states(job_id))
        assert [error["attempt"] for error in job["errors"]] == [0, 1, 2, *range(job["attempt"] - 7, job["attempt"])]
        beyond = 'sickbay_jobs_retried_beyond_limit_total{job_type="email"} '
        (line,) = [line for line in sickbay.worker.get("/metrics", headers={"Accept": "text/plain"}).text.splitlines() if beyond in line]
        assert float(line.removeprefix(beyond)) >= 10


def test_two_jobs_open_their_circuit_and_one_is_its_probe(form: str, tmp_path: Path):
    """The fifth failure in a row parks them, whatever MAX_RETRIES says; they come back by themselves."""
    with started(form, tmp_path) as (system, clinic):
        sickbay = system.clients
        clinic.break_down("email", "CONNECTION_REFUSED")
        job_ids = sickbay.submit_all("email", {}, {})
        sickbay.wait_all(job_ids, "PARKED")
        assert clinic.count("email").total() >= 5
        clinic.repair("email")
        sickbay.wait_all(job_ids, "SUCCEEDED")
        assert not any("QUARANTINED" in sickbay.states(job_id) for job_id in job_ids)


def test_retries_that_somebody_has_limited_end_with_a_person(form: str, tmp_path: Path):
    """By error code, in the settings file."""
    with started(form, tmp_path) as (system, clinic):
        sickbay = system.clients
        clinic.break_down("sms", "CONNECTION_REFUSED")
        job_id = sickbay.submit("sms")
        sickbay.wait(job_id, "QUARANTINED")
        assert (sickbay.case(job_id)["reason"], clinic.count("sms")[job_id]) == ("RETRIES_EXHAUSTED", 3)


def watches(system: System, *words: str) -> subprocess.Popen[str]:
    """`sickbay watch`: it ends with the job."""
    env = os.environ | {"SICKBAY_JOBAPI": f"127.0.0.1:{system.clients.grpc_ports['Job API']}"}
    command = [sys.executable, "-m", "sickbay_cli", "watch", *words]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

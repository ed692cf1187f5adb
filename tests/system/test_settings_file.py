"""The settings file decides, and a changed one is in force without a restart, in both forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import Clients
from tests.support.forms import BOTH, System, running
from tests.support.waiting import until

BEFORE = '[types.bad]\nretry = { max = 0 }\nbreaker = { cooldown = "77s" }\n'
AFTER = '[types.bad]\nretry = { max = 1, delay = "100ms" }\nbreaker = { cooldown = "33s" }\n'
ENV = {"LOG_FORMAT": "json", "MAX_RETRIES": "3", "JOB_HANDLERS": "clinic_handlers", "SICKBAY_CONFIG": "sickbay.toml"}


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "sickbay.toml").write_text(BEFORE)
    with running(request.param, "clinic_handlers", tmp_path, ENV) as system:
        yield system


def runs_of_bad_data(sickbay: Clients) -> int:
    job_id = sickbay.submit("bad", {"do": "VALIDATION_ERROR"})
    sickbay.wait(job_id, "QUARANTINED")
    return len(sickbay.job(job_id)["errors"])


def replace_file(system: System, text: str) -> None:
    """As Kubernetes does: at once, by a rename."""
    new = system.folder / "new.toml"
    new.write_text(text)
    new.replace(system.folder / "sickbay.toml")


def test_a_changed_file_is_in_force_without_a_restart(system: System):
    """The number of runs and the cooldown are those of the file as it is; one with a mistake changes nothing, and the log says why."""
    sickbay = system.clients
    assert runs_of_bad_data(sickbay) == 1
    replace_file(system, AFTER)
    assert system.worker.logged("the settings file has changed and is in force")
    assert runs_of_bad_data(sickbay) == 2
    replace_file(system, BEFORE.replace("cooldown", "coldown"))
    assert system.worker.logged("stay in force")
    assert runs_of_bad_data(sickbay) == 2
    sickbay.submit_all("bad", *({"do": "SERVICE_UNAVAILABLE"} for _ in range(5)))
    until(lambda: sickbay.breaker("bad")["state"] == "OPEN")
    assert sickbay.breaker("bad")["cooldownMs"] == 33_000

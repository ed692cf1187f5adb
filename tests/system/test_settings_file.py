"""The settings file decides, and a changed one is in force without a restart, in both forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.support.clients import Clients
from tests.support.forms import BOTH, System, running
from tests.support.system_under_test import Product
from tests.support.waiting import until

BEFORE = '[types.bad]\nretry = { max = 0 }\nbreaker = { cooldown = "77s" }\n[types.bda]\n'
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


def test_the_start_and_the_metrics_say_what_is_in_force(system: System):
    """A type without a handler is named, and a change with a mistake is a metric of every service that reads the file."""
    assert system.worker.logged("the settings file is in force: ")
    assert system.worker.logged("this worker has no handler for: bda (did you mean bad?)")
    services = (system.clients.worker, system.clients.plane)
    assert [settings_metric(service, "valid") for service in services] == [1, 1]
    replace_file(system, "[types.Bad]\n")
    until(lambda: [settings_metric(service, "valid") for service in services] == [0, 0])
    replace_file(system, BEFORE)
    until(lambda: [settings_metric(service, "valid") for service in services] == [1, 1])
    assert [settings_metric(service, "reloads_total") for service in services] == [2, 2]


def settings_metric(service: httpx.Client, name: str) -> float:
    text = service.get("/metrics", headers={"accept": "text/plain"}).text
    samples = [sample for family in plain(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == f"sickbay_settings_file_{name}")


@pytest.mark.embedded
def test_the_option_stands_for_the_variable(tmp_path: Path):
    """And comes before it."""
    (tmp_path / "sickbay.toml").write_text("[types.email]\n")
    product = Product(tmp_path, {"SICKBAY_CONFIG": "absent.toml", "LOG_FORMAT": "json"}, ["--ephemeral", "--config", "sickbay.toml"])
    try:
        assert product.ready().logged("the settings file is in force: ")
    finally:
        product.stop()

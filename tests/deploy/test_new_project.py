"""The compose file and the Dockerfile that `sickbay new` writes agree with the product and with docker-compose.yml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sickbay.runtime.settings import Settings, describe_settings
from sickbay_cli.program import cli
from tests.deploy.test_compose_file import OURS, ROOT, understood

CLIENTS = {"SICKBAY_JOBAPI", "SICKBAY_WORKER", "SICKBAY_CONTROL_PLANE"}
SERVERS = {"rabbitmq", "redis", "postgres"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project."""
    found = tmp_path_factory.mktemp("new") / "my_project"
    assert CliRunner().invoke(cli, ["new", str(found)]).exit_code == 0
    return found


@pytest.fixture(scope="module")
def services(folder: Path) -> dict[str, Any]:
    """Its services as compose understands them."""
    return understood(folder / "compose.yaml")


def test_it_has_all_services_and_servers(services: dict[str, Any]):
    assert set(services) == {*OURS, *SERVERS}
    assert {name: services[name]["command"] for name in OURS} == {name: [command] for name, command in OURS.items()}


@pytest.mark.parametrize("name", OURS)
def test_its_settings_are_settings_of_the_product(services: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch):
    environment = services[name]["environment"]
    assert set(environment) - CLIENTS <= set(describe_settings())
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert str(Settings.read().redis_url) != ""


def test_passwords_are_those_of_the_servers(services: dict[str, Any]):
    environment = services["worker"]["environment"]
    assert f"//sickbay:{services['rabbitmq']['environment']['RABBITMQ_DEFAULT_PASS']}@rabbitmq" in environment["RABBITMQ_URL"]
    assert f"//sickbay:{services['postgres']['environment']['POSTGRES_PASSWORD']}@postgres/sickbay" in environment["DATABASE_URL"]
    assert f"//:{services['redis']['command'][-1]}@redis" in environment["REDIS_URL"]


@pytest.mark.parametrize("name", OURS)
def test_services_are_confined_and_checked_as_in_our_own_file(services: dict[str, Any], name: str):
    ours = understood(ROOT / "docker-compose.yml")[name]
    for key in ("read_only", "cap_drop", "security_opt", "stop_grace_period", "depends_on"):
        assert services[name][key] == ours[key], key
    assert services[name]["healthcheck"]["test"] == ours["healthcheck"]["test"]


def test_only_this_machine_reaches_a_port(services: dict[str, Any]):
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_the_worker_has_the_handlers_and_the_dockerfile_is_clean(services: dict[str, Any], folder: Path):
    assert Path(services["worker"]["build"]["context"]) == folder
    text = (folder / "Dockerfile").read_text()
    assert text.endswith("COPY handlers.py .\nENV JOB_HANDLERS=handlers\n")
    hadolint = Path(sys.executable).parent / "hadolint"
    assert subprocess.run([hadolint, folder / "Dockerfile"], capture_output=True, check=False).stdout == b""

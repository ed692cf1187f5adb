"""docker-compose.yml agrees with the rest of the project. That it runs is tried by `make test-compose`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sickbay.settings import Settings, described
from tests.promtool import promtool

ROOT = Path(__file__).parents[2]
COMPOSE = Path(sys.executable).parent / "docker-compose"
OURS = {"job-api": "jobapi", "worker": "worker", "control-plane": "controlplane"}
USERS = {"job-api": "jobapi", "worker": "worker", "control-plane": "keeper"}
DRAIN_S = 20


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services as compose understands them, without a variable set."""
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    command = [
        str(COMPOSE),
        "-f",
        str(ROOT / "docker-compose.yml"),
        "--env-file",
        "/dev/null",
        "--profile",
        "*",
        "config",
        "--format",
        "json",
    ]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def test_every_service_of_ours_is_confined_and_waits_for_its_servers(services: dict[str, Any]):
    for name, verb in OURS.items():
        service = services[name]
        assert service["command"] == [verb]
        assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
        conditions = {server: wanted["condition"] for server, wanted in service["depends_on"].items()}
        assert conditions == dict.fromkeys(("rabbitmq", "redis", "postgres"), "service_healthy")
        assert service["healthcheck"]["test"][-1] == verb


def test_a_stop_is_as_patient_as_the_drain(services: dict[str, Any]):
    patience = int(Settings.model_fields["handler_timeout"].default) + DRAIN_S
    assert {services[name]["stop_grace_period"] for name in OURS} == {f"{patience}s"}


def test_variables_of_ours_exist(services: dict[str, Any]):
    """A misspelt variable would be ignored by the services."""
    known = set(described()) | {"SICKBAY_JOBAPI", "SICKBAY_WORKER", "SICKBAY_CONTROL_PLANE"}
    for name in OURS:
        assert set(services[name]["environment"]) <= known


def test_each_service_has_its_user_of_the_definitions(services: dict[str, Any]):
    definitions = json.loads((ROOT / "deploy" / "rabbitmq" / "definitions.json").read_text())
    passwords = {user["name"]: user["password"] for user in definitions["users"]}
    for name, user in USERS.items():
        found = re.fullmatch(r"amqp://(\w+):(\w+)@rabbitmq:5672/", services[name]["environment"]["RABBITMQ_URL"])
        assert found
        assert (found[1], found[2]) == (user, passwords[user])


def test_nothing_is_published_beyond_this_machine_and_the_documented_ports_are(services: dict[str, Any]):
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    fixed = {int(port["published"]) for port in published if port.get("published")}
    assert fixed >= {3000, 3002, 50051, 50053, 5672, 15672, 6379, 5432}
    assert all(not port.get("published") for port in services["worker"]["ports"]), "or `--scale worker=4` fails"


def test_what_is_mounted_exists(services: dict[str, Any]):
    """An engine makes an empty folder of a path that does not exist."""
    sources = {Path(mount["source"]) for service in services.values() for mount in service.get("volumes", []) if mount["type"] == "bind"}
    assert sources
    assert [source for source in sources if not source.exists()] == []


@pytest.mark.promtool
def test_prometheus_understands_its_configuration():
    promtool("check", "config", str(ROOT / "deploy" / "prometheus" / "prometheus.yml"))

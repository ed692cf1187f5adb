"""docker-compose.yml agrees with the rest of the project. That it runs is tried by `make test-compose`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sickbay.runtime.settings import Settings, describe_settings
from tests.support.promtool import promtool

ROOT = Path(__file__).parents[2]
COMPOSE = Path(sys.executable).parent / "docker-compose"
OURS = {"job-api": "jobapi", "worker": "worker", "control-plane": "controlplane"}
USERS = {"job-api": "jobapi", "worker": "worker", "control-plane": "keeper"}
DRAIN_S = 20


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services as compose understands them, without a variable set."""
    return understood(ROOT / "docker-compose.yml")


def understood(*files: Path) -> dict[str, Any]:
    """The services of files, one on top of the other."""
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    command = [
        str(COMPOSE),
        *(word for file in files for word in ("-f", str(file))),
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


def test_the_example_of_a_pool_makes_its_queue_first_and_is_confined_as_the_worker(services: dict[str, Any]):
    found = understood(ROOT / "docker-compose.yml", ROOT / "deploy" / "compose" / "pool.yml")
    queue, worker = found["pool-queue"], found["worker-reports"]
    assert (worker["command"], worker["environment"]["POOL"]) == (["worker"], "reports")
    assert queue["command"] == ["topology", "apply", "--pool", worker["environment"]["POOL"]]
    assert worker["depends_on"]["pool-queue"]["condition"] == "service_completed_successfully"
    assert worker["environment"].items() >= (services["worker"]["environment"] | {"POOL": "reports"}).items()
    for service in (queue, worker):
        assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])


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
    known = set(describe_settings()) | {"SICKBAY_JOBAPI", "SICKBAY_WORKER", "SICKBAY_CONTROL_PLANE"}
    for name in OURS:
        assert set(services[name]["environment"]) <= known


def test_the_worker_runs_the_demo_unless_told_otherwise(services: dict[str, Any]):
    """`docker-compose up` shows the demo, as documented, because the file asks for it."""
    assert services["worker"]["environment"]["JOB_HANDLERS"] == "worker.demo"


def test_each_service_has_users_of_its_own(services: dict[str, Any]):
    """Those of RabbitMQ's definitions, with the passwords that are read last, and those of roles.sql, with the passwords it is given."""
    definitions = json.loads((ROOT / "deploy" / "rabbitmq" / "definitions.json").read_text())
    local = json.loads((ROOT / "deploy" / "compose" / "users.json").read_text())
    mounted = {Path(mount["source"]).name: mount["target"] for mount in services["rabbitmq"]["volumes"] if mount["type"] == "bind"}
    assert mounted["definitions.json"] < mounted["users.json"], "RabbitMQ reads them by name, and the last password holds"
    passwords = {user["name"]: user["password"] for user in local["users"]}
    assert {user["name"] for user in definitions["users"]} == set(passwords) - {"guest"}
    for name, user in USERS.items():
        rabbitmq, database = (urlsplit(services[name]["environment"][variable]) for variable in ("RABBITMQ_URL", "DATABASE_URL"))
        assert (rabbitmq.username, rabbitmq.password, rabbitmq.hostname) == (user, passwords[user], "rabbitmq")
        given = services["postgres"]["environment"][f"{user.upper()}_PASSWORD"]
        assert (database.username, database.password, database.hostname) == (user, given, "postgres")
        assert f":'{user}'" in (ROOT / "deploy" / "postgresql" / "roles.sql").read_text()


def test_redis_wants_a_password(services: dict[str, Any]):
    command = services["redis"]["command"]
    password = command[command.index("--requirepass") + 1]
    assert services["redis"]["environment"]["REDISCLI_AUTH"] == password, "or the documented redis-cli does not work"
    assert {urlsplit(services[name]["environment"]["REDIS_URL"]).password for name in OURS} == {password}


def test_ours_start_with_the_passwords_of_the_file(services: dict[str, Any]):
    """None is one that the services refuse."""
    for name in OURS:
        Settings.read(**{key.lower(): value for key, value in services[name]["environment"].items() if key.endswith("_URL") and value})


def test_nobody_can_take_all_processes_of_the_machine(services: dict[str, Any]):
    assert [name for name, service in services.items() if not 0 < int(service.get("pids_limit", 0)) <= 1_000] == []


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


def test_the_lines_for_a_settings_file_work_when_they_are_enabled(tmp_path: Path):
    """The folder that they mount is the one that SICKBAY_CONFIG names."""
    text = (ROOT / "docker-compose.yml").read_text()
    enabled = text.replace("# volumes: [", "volumes: [").replace("# SICKBAY_CONFIG:", "SICKBAY_CONFIG:")
    (tmp_path / "docker-compose.yml").write_text(enabled)
    for name in OURS:
        service = understood(tmp_path / "docker-compose.yml")[name]
        (mount,) = service["volumes"]
        assert Path(service["environment"]["SICKBAY_CONFIG"]).parent == Path(mount["target"])
        assert mount["read_only"]


@pytest.mark.promtool
def test_prometheus_understands_its_configuration():
    promtool("check", "config", str(ROOT / "deploy" / "prometheus" / "prometheus.yml"))


def test_the_example_of_access_asks_everybody_for_a_key_and_mounts_the_folder_of_the_keys(services: dict[str, Any]):
    found = understood(ROOT / "docker-compose.yml", ROOT / "deploy" / "compose" / "access.yml")
    for name in OURS:
        environment = found[name]["environment"]
        assert environment.items() >= (services[name]["environment"] | {"AUTH": "required"}).items()
        assert "AUTH" not in services[name]["environment"]
        [mount] = [one for one in found[name]["volumes"] if one["target"] == "/etc/sickbay/access"]
        assert mount["read_only"]
        assert environment["API_KEYS_FILE"].startswith(mount["target"] + "/")
        Settings.read(auth="required", api_keys_file=environment["API_KEYS_FILE"])

"""Runs a command with a RabbitMQ, a Redis and a PostgreSQL: `with_servers.py COMMAND...`.

Servers that already listen on their standard ports are used. What is missing is started for the time of the command: with
`docker compose` if a Docker engine answers (unless SICKBAY_TEST_SERVERS=packages), else from Debian's packages (installed if we may),
as private instances on free ports in a temporary folder. Otherwise one sentence says what to install, as it does when tests are run
and the programs are missing, of which some tests start and kill instances of their own. The command finds the servers in
SICKBAY_TEST_RABBITMQ_URL, SICKBAY_TEST_RABBITMQCTL, SICKBAY_TEST_REDIS_URL and SICKBAY_TEST_POSTGRES_URL; those set already are left alone.
If SICKBAY_TEST_BINARIES names a folder with the programs of other versions, private instances of these are started whatever listens.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from servers import BINARIES, SERVERS, listens

COMPOSE: Final = Path(__file__).parent.parent / "docker-compose.yml"
STANDARD: Final = {
    "rabbitmq": (5672, {"SICKBAY_TEST_RABBITMQ_URL": "amqp://guest:guest@localhost:5672"}),
    "redis": (6379, {"SICKBAY_TEST_REDIS_URL": "redis://localhost:6379"}),
    "postgres": (5432, {"SICKBAY_TEST_POSTGRES_URL": "postgresql://postgres@127.0.0.1:5432/postgres"}),
}
DOCKER: Final = {
    "rabbitmq": {
        "SICKBAY_TEST_RABBITMQ_URL": "amqp://guest:guest@localhost:5672",
        "SICKBAY_TEST_RABBITMQCTL": "docker compose exec -T rabbitmq rabbitmqctl",
    },
    "redis": {"SICKBAY_TEST_REDIS_URL": "redis://localhost:6379"},
    "postgres": {"SICKBAY_TEST_POSTGRES_URL": "postgresql://sickbay:sickbay@localhost:5432/sickbay"},
}


def main() -> int:
    """Provide, run, and stop what was started; the command's exit code."""
    with ExitStack() as stack:
        if {"pytest", "scripts/run_tests.py"} & set(sys.argv):
            _install(list(SERVERS), "some of these tests start and kill servers of their own")
        env: dict[str, str] = {}
        missing = []
        for name, (port, found) in STANDARD.items():
            if any(variable in os.environ for variable in found):
                continue
            if not BINARIES and listens(port):
                env |= found
            else:
                missing.append(name)
        if missing:
            env |= _started(stack, missing)
        _say(", ".join(f"{name}={value}" for name, value in sorted(env.items())) or "servers as the environment names them")
        return subprocess.run(sys.argv[1:], env=env | dict(os.environ), check=False).returncode


def _started(stack: ExitStack, missing: list[str]) -> Mapping[str, str]:
    if not BINARIES and os.environ.get("SICKBAY_TEST_SERVERS") != "packages" and _docker_answers():
        _say(f"starting {', '.join(missing)} with docker compose")
        stack.callback(subprocess.run, ["docker", "compose", "-f", str(COMPOSE), "rm", "-sf", *missing], check=False)
        subprocess.run(["docker", "compose", "-f", str(COMPOSE), "up", "-d", "--wait", *missing], check=True)
        return {variable: value for name in missing for variable, value in DOCKER[name].items()}
    _install(missing, "these need a server")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sickbay-servers-", ignore_cleanup_errors=True)))
    folder.chmod(0o755)
    env: dict[str, str] = {}
    for name in missing:
        _say(f"starting a private {SERVERS[name].package}")
        env |= stack.enter_context(SERVERS[name](folder / name)).variables
    return env


def _docker_answers() -> bool:
    if shutil.which("docker") is None or not COMPOSE.exists():
        return False
    return subprocess.run(["docker", "compose", "ls"], capture_output=True, check=False).returncode == 0


def _install(names: list[str], why: str) -> None:
    """Debian's packages of those that are not installed; SystemExit with one sentence if they cannot be had."""
    wanted = [SERVERS[name].package for name in names if SERVERS[name].binary() is None]
    if not wanted:
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        _say(f"installing {', '.join(wanted)}")
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted]):
            subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if still := " ".join(SERVERS[name].package for name in names if SERVERS[name].binary() is None):
        sys.exit(f"{why[0].upper()}{why[1:]}: run `sudo apt-get install {still}`; `make test-embedded` needs none")


def _say(text: str) -> None:
    print(f"servers: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""Runs a command with a RabbitMQ, a Redis and a PostgreSQL: `with_servers.py COMMAND...`.

Servers that already listen on their standard ports are used. What is missing is started for the time of the command: with
`docker compose` if a Docker engine answers, else from Debian's packages (installed if we may), as private instances on free
ports in a temporary folder. Otherwise one sentence says what to install. The command finds the servers in SICKBAY_TEST_RABBITMQ_URL,
SICKBAY_TEST_RABBITMQCTL, SICKBAY_TEST_REDIS_URL and SICKBAY_TEST_POSTGRES_URL; those that are set already are left alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

COMPOSE: Final = Path(__file__).parent.parent / "docker-compose.yml"
PATIENCE_S: Final = 60
PACKAGES: Final = {"rabbitmq": "rabbitmq-server", "redis": "redis-server", "postgres": "postgresql"}
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
        env: dict[str, str] = {}
        missing = []
        for name, (port, found) in STANDARD.items():
            if any(variable in os.environ for variable in found):
                continue
            if _listens(port):
                env |= found
            else:
                missing.append(name)
        if missing:
            env |= _started(stack, missing)
        _say(", ".join(f"{name}={value}" for name, value in sorted(env.items())) or "servers as the environment names them")
        return subprocess.run(sys.argv[1:], env=env | dict(os.environ), check=False).returncode


def _started(stack: ExitStack, missing: list[str]) -> Mapping[str, str]:
    if _docker_answers():
        _say(f"starting {', '.join(missing)} with docker compose")
        stack.callback(subprocess.run, ["docker", "compose", "-f", str(COMPOSE), "rm", "-sf", *missing], check=False)
        subprocess.run(["docker", "compose", "-f", str(COMPOSE), "up", "-d", "--wait", *missing], check=True)
        return {variable: value for name in missing for variable, value in DOCKER[name].items()}
    _install(missing)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sickbay-servers-", ignore_cleanup_errors=True)))
    folder.chmod(0o755)
    env: dict[str, str] = {}
    for name in missing:
        _say(f"starting a private {PACKAGES[name]}")
        env |= stack.enter_context(STARTERS[name](folder / name))
    return env


def _docker_answers() -> bool:
    if shutil.which("docker") is None or not COMPOSE.exists():
        return False
    return subprocess.run(["docker", "compose", "ls"], capture_output=True, check=False).returncode == 0


def _install(missing: list[str]) -> None:
    """Debian's packages of what is missing; SystemExit with one sentence if they cannot be had."""
    wanted = [PACKAGES[name] for name in missing if _binary(name) is None]
    if not wanted:
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        _say(f"installing {', '.join(wanted)}")
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted]):
            subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    still = [PACKAGES[name] for name in missing if _binary(name) is None]
    if still:
        names = " ".join(still)
        sys.exit(f"These tests need {names}: start them or Docker, or run `sudo apt-get install {names}`; `make test-embedded` needs none")


def _binary(name: str) -> str | None:
    if name == "redis":
        return shutil.which("redis-server")
    places = {"rabbitmq": "/usr/lib/rabbitmq/bin/rabbitmq-server", "postgres": "/usr/lib/postgresql/*/bin/initdb"}
    return next((str(path) for path in sorted(Path("/").glob(places[name][1:]), reverse=True)), None)


@contextmanager
def _rabbitmq(folder: Path) -> Iterator[Mapping[str, str]]:
    folder.mkdir()
    port, distribution = _free_port(), _free_port()
    node = f"sickbay-test-{os.getpid()}@localhost"
    env = os.environ | {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
    }
    tool = Path(_binary("rabbitmq") or "").parent / "rabbitmqctl"
    with _process([_binary("rabbitmq") or ""], env, folder / "out.log"):
        _wait(port, folder / "out.log")
        subprocess.run([str(tool), "await_startup"], env=env, capture_output=True, timeout=PATIENCE_S, check=True)
        yield {
            "SICKBAY_TEST_RABBITMQ_URL": f"amqp://guest:guest@localhost:{port}",
            "SICKBAY_TEST_RABBITMQCTL": f"env HOME={folder} RABBITMQ_NODENAME={node} {tool}",
        }


@contextmanager
def _redis(folder: Path) -> Iterator[Mapping[str, str]]:
    folder.mkdir()
    port = _free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with _process(command, os.environ, folder / "out.log"):
        _wait(port, folder / "out.log")
        yield {"SICKBAY_TEST_REDIS_URL": f"redis://localhost:{port}"}


@contextmanager
def _postgres(folder: Path) -> Iterator[Mapping[str, str]]:
    """PostgreSQL refuses to run as root, so root hands it to the package's own user."""
    folder.mkdir()
    port, binaries = _free_port(), Path(_binary("postgres") or "").parent
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")
    data = str(folder / "data")
    subprocess.run(
        [*as_user, str(binaries / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N"], cwd="/", capture_output=True, check=True
    )
    server = [str(binaries / "postgres"), "-D", data, "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
    with _process([*as_user, *server], os.environ, folder / "out.log"):
        _wait(port, folder / "out.log")
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        _until(lambda: _ready([*as_user, str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]), folder / "out.log")
        yield {"SICKBAY_TEST_POSTGRES_URL": url}


STARTERS: Final = {"rabbitmq": _rabbitmq, "redis": _redis, "postgres": _postgres}


@contextmanager
def _process(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=dict(env), cwd="/", stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ready(command: list[str]) -> bool:
    return subprocess.run(command, cwd="/", capture_output=True, check=False).returncode == 0


def _wait(port: int, log: Path) -> None:
    _until(lambda: _listens(port), log)


def _until(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"a test server did not start within {PATIENCE_S} s; it said:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(text: str) -> None:
    print(f"servers: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

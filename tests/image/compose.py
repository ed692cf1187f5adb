"""docker-compose.yml brought up for real, beside whatever else runs on this machine: other ports, another project, quick settings.

With Docker nothing else differs. With Podman its Docker socket is served for the time of the stack, images of a registry that cannot be
reached are replaced by stand-ins, and where no systemd runs the health checks are asked for from here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from scripts import engine, standins
from scripts.servers import free_port
from tests.image.container import TAG, build

ROOT: Final = Path(__file__).parent.parent.parent
COMPOSE: Final = Path(sys.executable).parent / "docker-compose"
PROJECT: Final = "sickbay-test"
SERVICES: Final = {"Job API": ("job-api", 3000, 50051), "Worker": ("worker", 3001, 50052), "Control plane": ("control-plane", 3002, 50053)}
PORTS: Final = (
    *("JOB_API_PORT", "JOB_API_GRPC_PORT", "CONTROL_PLANE_PORT", "CONTROL_PLANE_GRPC_PORT"),
    *("RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT", "REDIS_PORT", "POSTGRES_PORT", "PROMETHEUS_PORT"),
)
PATIENCE_S: Final = 240


class Stack:
    """The project, up from `__enter__` to `__exit__`; `folder` is mounted as the workers' /app."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        """Nothing runs yet. `settings` are variables that docker-compose.yml takes from the shell."""
        self.folder = folder
        self.host_ports = {name: free_port() for name in PORTS}
        self.env = dict(engine.environment()) | {name: str(port) for name, port in self.host_ports.items()} | dict(settings)
        self.env |= {"SICKBAY_IMAGE": TAG, "REDIS_CONTAINER": f"{PROJECT}-redis", "COMPOSE_PROFILES": ""}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Wait until every service is healthy."""
        build()
        self._stack.enter_context(self._served())
        override = self.folder / "compose.override.json"
        override.write_text(json.dumps(self._override()))
        self._files = ["-f", str(ROOT / "docker-compose.yml"), "-f", str(override)]
        self._stack.callback(self.compose, "--profile", "monitoring", "down", "--volumes", "--timeout", "50")
        try:
            self.up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and delete everything of it."""
        self._stack.close()

    def up(self, *words: str) -> None:
        """`docker-compose up -d --wait`."""
        self.compose("up", "-d", "--wait", "--wait-timeout", str(PATIENCE_S), "--no-build", *words)

    def compose(self, *words: str) -> str:
        """One docker-compose command on this project; what it printed."""
        command = [str(COMPOSE), "--project-name", PROJECT, *self._files, *words]
        with _heartbeats(self.env):
            done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False, timeout=PATIENCE_S + 60)
        assert done.returncode == 0, (
            f"docker-compose {' '.join(words)} ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
        return done.stdout

    def containers(self) -> list[dict[str, Any]]:
        """`docker-compose ps -a`, each with Name, Service, State, Health, ExitCode."""
        text = self.compose("ps", "-a", "--format", "json")
        return [json.loads(line) for line in text.splitlines() if line.strip()]

    @property
    def faults(self) -> list[str]:
        """What our services logged as an error; there is never a reason to."""
        lines = self.compose("logs", "--no-log-prefix", "--no-color", *(service for service, *_ in SERVICES.values())).splitlines()
        assert any('"level": "info"' in line for line in lines), "these are the logs as JSON"
        # A failed job's own traceback is a field of its line; one that stands by itself is nobody's.
        return [line for line in lines if '"level": "error"' in line or '"level": "critical"' in line or line.startswith("Traceback")]

    @property
    def ports(self) -> Mapping[str, tuple[int, int]]:
        """Where the services are published, as `Clients` wants them."""
        return {name: (self._port(service, rest), self._port(service, grpc)) for name, (service, rest, grpc) in SERVICES.items()}

    def _port(self, service: str, port: int) -> int:
        return int(self.compose("port", service, str(port)).strip().rpartition(":")[2])

    def _override(self) -> Mapping[str, Any]:
        """The handlers' folder; and what this machine cannot have as the file says it."""
        services: dict[str, Any] = {"worker": {"volumes": [f"{self.folder}:/app"]}}
        if "JOB_HANDLERS" in self.env:  # the tests' handlers fail all at once, and five failures shall be enough
            services |= {
                name: {"environment": {"BREAKER_TRIP_CONFIRM_MS": "0"}} | services.get(name, {}) for name in ("worker", "control-plane")
            }
        for name in standins.SERVERS if _without_registry() else ():
            services[name] = {"image": standins.server(engine.run, engine.build, name), "pull_policy": "never"}
        return {"services": services}

    @contextmanager
    def _served(self) -> Iterator[None]:
        """Podman's Docker socket."""
        if engine.name() == "docker":
            yield
            return
        socket = self.folder / "podman.sock"
        log = self.folder / "podman.log"
        command = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
        with log.open("w") as out:
            server = subprocess.Popen(command, env=self.env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not socket.exists():
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
            self.env |= {"DOCKER_HOST": f"unix://{socket}"}
            yield
        finally:
            server.terminate()
            server.wait(30)


def _without_registry() -> bool:
    return engine.name() == "podman" and engine.base() != engine.PYTHON_IMAGE


@contextmanager
def _heartbeats(env: Mapping[str, str]) -> Iterator[None]:
    """Podman leaves the rhythm of health checks to systemd; without one, keep it for as long as somebody waits for them."""
    if engine.name() == "docker" or Path("/run/systemd/system").exists():
        yield
        return
    done = threading.Event()

    def beat() -> None:
        listing = ["podman", "ps", "-q", "--filter", f"label=com.docker.compose.project={PROJECT}"]
        while not done.wait(0.5):
            for container in subprocess.run(listing, env=dict(env), capture_output=True, text=True, check=False).stdout.split():
                subprocess.run(["podman", "healthcheck", "run", container], env=dict(env), capture_output=True, check=False)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def shareable(folder: Path) -> Path:
    """A folder that the image's user may read and write, whoever runs the tests."""
    folder.chmod(0o777)
    folder.parent.chmod(0o755)
    return folder

"""Servers of one's own from Debian's packages: a RabbitMQ, a Redis or a PostgreSQL on a free port, with its data in a folder.

    with RabbitMQ(folder) as server:     # started, and answering
        server.url
        server.kill()                    # kill -9 of the whole server
        server.start()                   # again, with the same data on the same port

They can be frozen (`freeze`, `thaw`), and stop when the context ends. SICKBAY_TEST_BINARIES may name a folder with the programs of other
versions than the machine's, which change to the user they want by themselves.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Final, Self

import psutil

PATIENCE_S: Final = 60
BINARIES: Final = os.environ.get("SICKBAY_TEST_BINARIES")


class Server(ABC):
    """One server; `folder` is made if it is missing, and everything of the server is in it."""

    package: ClassVar[str]
    """Debian's package."""
    _farewell: ClassVar[signal.Signals] = signal.SIGTERM
    _user: str | None = None

    def __init__(self, folder: Path) -> None:
        """Choose a port; nothing is started yet."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def binary(cls) -> str | None:
        """Where the package's program is, None if it is not installed."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it."""

    @property
    @abstractmethod
    def variables(self) -> Mapping[str, str]:
        """What tells the tests of it."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def _environment(self) -> Mapping[str, str]:
        return os.environ

    def start(self) -> None:
        """Start it (again), and wait until it answers."""
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command(), env=dict(self._environment()), cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out, user=self._user
            )
        self._until(lambda: listens(self.port) and self._answers())

    def kill(self) -> None:
        """Kill -9 of the server with all its processes."""
        family = self._family()
        for process in family:
            process.kill()
        psutil.wait_procs(family, PATIENCE_S)
        self._gone()

    def stop(self) -> None:
        """Ask it to end, and see to it that it does. Twice is harmless."""
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(self._farewell)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self._gone()

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing answers."""
        for process in self._family():
            process.suspend()

    def thaw(self) -> None:
        """Let it go on."""
        for process in self._family():
            process.resume()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return self.folder / "out.log"

    def _family(self) -> list[psutil.Process]:
        """The server, then its children."""
        if self._process is None or self._process.poll() is not None:
            return []
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def _gone(self) -> None:
        if self._process is not None:
            self._process.wait(PATIENCE_S)
            self._process = None

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if self._process is not None and self._process.poll() is not None:
                self.start_again()
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.package} did not start within {PATIENCE_S} s; it said:\n{self._said()}")
            time.sleep(0.05)

    def start_again(self) -> None:
        """What to do when it ended instead of starting."""
        raise SystemExit(f"{self.package} did not start; it said:\n{self._said()}")

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


class RabbitMQ(Server):
    """A node of its own name; `tool` calls its `rabbitmqctl`."""

    package = "rabbitmq-server"

    def __init__(self, folder: Path) -> None:
        """Choose a port and a name; nothing is started yet."""
        super().__init__(folder)
        self._distribution = free_port()
        self._node = f"sickbay-test-{os.getpid()}-{self.port}@localhost"
        (folder / "rabbitmq.conf").write_text("loopback_users = none\n")

    @classmethod
    def binary(cls) -> str | None:
        """The package puts it on no PATH that root alone would not have."""
        found = Path(BINARIES or "/usr/lib/rabbitmq/bin", "rabbitmq-server")
        return str(found) if found.exists() else None

    @property
    def url(self) -> str:
        """The default virtual host, as guest."""
        return f"amqp://guest:guest@localhost:{self.port}"

    @property
    def tool(self) -> list[str]:
        """`rabbitmqctl` for this node; what to do follows."""
        program = Path(self.binary() or "").parent / "rabbitmqctl"
        return ["env", f"HOME={self.folder}", f"RABBITMQ_NODENAME={self._node}", str(program)]

    @property
    def variables(self) -> Mapping[str, str]:
        """URL and tool."""
        return {"SICKBAY_TEST_RABBITMQ_URL": self.url, "SICKBAY_TEST_RABBITMQCTL": shlex.join(self.tool)}

    def control(self, *words: str) -> str:
        """Run `rabbitmqctl`; what it printed."""
        done = subprocess.run([*self.tool, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {shlex.join(words)} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Listening is not yet being up."""
        super().start()
        self.control("await_startup")

    def _command(self) -> list[str]:
        return [self.binary() or ""]

    def _answers(self) -> bool:
        return True

    def _environment(self) -> Mapping[str, str]:
        return os.environ | {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
        }


class Redis(Server):
    """Keeps nothing on disk, so a kill forgets everything, unless `keeps`."""

    package = "redis-server"

    def __init__(self, folder: Path, *, keeps: bool = False) -> None:
        """With `keeps` an append-only file survives a kill."""
        super().__init__(folder)
        self._keeps = keeps

    @classmethod
    def binary(cls) -> str | None:
        """On the PATH."""
        return shutil.which("redis-server", path=BINARIES)

    @property
    def url(self) -> str:
        """Database 0."""
        return f"redis://localhost:{self.port}"

    @property
    def variables(self) -> Mapping[str, str]:
        """The URL."""
        return {"SICKBAY_TEST_REDIS_URL": self.url}

    def _command(self) -> list[str]:
        keeping = ["--appendonly", "yes" if self._keeps else "no", "--save", ""]
        return [self.binary() or "", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), *keeping]

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")


class PostgreSQL(Server):
    """Everybody is let in as `postgres`; it refuses to run as root, so root hands it to the package's own user."""

    package = "postgresql"
    _farewell = signal.SIGINT  # SIGTERM would wait for every client

    def __init__(self, folder: Path) -> None:
        """Choose a port and a user; nothing is started yet."""
        super().__init__(folder)
        self._user = "postgres" if os.geteuid() == 0 and not BINARIES else None

    @classmethod
    def binary(cls) -> str | None:
        """The newest one's `postgres`."""
        found = [Path(BINARIES, "postgres")] if BINARIES else sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
        return str(found[0]) if found else None

    @property
    def url(self) -> str:
        """The database `postgres`, as the administrator."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def variables(self) -> Mapping[str, str]:
        """The URL."""
        return {"SICKBAY_TEST_POSTGRES_URL": self.url}

    def start(self) -> None:
        """Make the cluster first, if there is none."""
        if not (self.folder / "data").exists():
            if self._user:
                shutil.chown(self.folder, self._user)
            elif BINARIES:
                self.folder.chmod(0o777)  # for a user whom this machine need not know
            making = [self._tool("initdb"), "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust", "-N"]
            subprocess.run(making, cwd="/", capture_output=True, check=True, user=self._user)
        super().start()

    def start_again(self) -> None:
        """After a kill the shared memory is in use until the last of the old processes has noticed."""
        if "is still in use" not in self._said():
            super().start_again()
        self.start()

    def _tool(self, name: str) -> str:
        return str(Path(self.binary() or "").parent / name)

    def _command(self) -> list[str]:
        # -F: no fsync. A kill loses nothing that way, only a power cut would.
        data = ["-D", str(self.folder / "data"), "-k", str(self.folder), "-h", "127.0.0.1", "-F"]
        return [self._tool("postgres"), "-p", str(self.port), *data]

    def _answers(self) -> bool:
        asking = [self._tool("pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asking, cwd="/", capture_output=True, check=False).returncode == 0


SERVERS: Final[Mapping[str, type[Server]]] = {"rabbitmq": RabbitMQ, "redis": Redis, "postgres": PostgreSQL}


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5):
            return True
    except OSError:
        return False


def free_port() -> int:
    """One that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""A RabbitMQ of one's own, and its `rabbitmqctl`."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .base import BINARIES, PATIENCE_S, Server
from .ports import free_port


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

"""A Redis of one's own."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from .base import BINARIES, Server


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

"""A PostgreSQL of one's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .base import BINARIES, Server


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
            self.give_folder()
            making = [self.tool("initdb"), "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust", "-N"]
            subprocess.run(making, cwd="/", capture_output=True, check=True, user=self._user)
        super().start()

    def give_folder(self) -> None:
        """PostgreSQL's own user may write there."""
        if self._user:
            shutil.chown(self.folder, self._user)
        elif BINARIES:
            self.folder.chmod(0o777)  # for a user whom this machine need not know

    def start_again(self) -> None:
        """After a kill the shared memory is in use until the last of the old processes has noticed."""
        if "is still in use" not in self._said():
            super().start_again()
        self.start()

    def tool(self, name: str) -> str:
        """A program of the same version."""
        return str(Path(self.binary() or "").parent / name)

    def _command(self) -> list[str]:
        # -F: no fsync. A kill loses nothing that way, only a power cut would.
        data = ["-D", str(self.folder / "data"), "-k", str(self.folder), "-h", "127.0.0.1", "-F"]
        return [self.tool("postgres"), "-p", str(self.port), *data]

    def _answers(self) -> bool:
        asking = [self.tool("pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asking, cwd="/", capture_output=True, check=False).returncode == 0

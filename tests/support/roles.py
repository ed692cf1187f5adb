"""A PostgreSQL of one's own on which `deploy/postgresql/roles.sql` can be run: its users are those of the whole server."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from scripts.servers import PostgreSQL

ROLES = Path(__file__).parents[2] / "deploy" / "postgresql" / "roles.sql"
USERS = {"jobapi": "jobapi", "worker": "worker", "controlplane": "keeper"}


class Guarded:
    """The server, as its administrator has it."""

    def __init__(self, server: PostgreSQL) -> None:
        self._server = server
        self.url = server.url

    def psql(self, *words: str, typed: str = "") -> str:
        """What the tool prints; it ends well. `typed` is its standard input."""
        done = subprocess.run(
            [self._server.tool("psql"), self.url, "-X", "-q", "-tA", "-v", "ON_ERROR_STOP=1", *words],
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def log(self) -> str:
        """What the server said."""
        return "".join(log.read_text() for log in self._server.folder.glob("*.log"))

    def make_roles(self) -> None:
        """Run the file as its first lines say, with passwords. By way of the input: a newer psql may not see the file."""
        words = (word for user in USERS.values() for word in ("-v", f"{user}={user}'s secret"))
        self.psql(*words, typed=ROLES.read_text("utf-8"))

    def login(self, service: str) -> str:
        """The URL for a service."""
        return urlsplit(self.url)._replace(netloc=f"{USERS[service]}@127.0.0.1:{urlsplit(self.url).port}").geturl()


@contextmanager
def guarded() -> Iterator[Guarded]:
    """Up for the length of the block, without any role of ours; in a folder that its package's user can reach."""
    with TemporaryDirectory(prefix="sickbay-postgresql-") as folder:
        Path(folder).chmod(0o755)
        with PostgreSQL(Path(folder) / "server") as server:
            yield Guarded(server)

"""A primary and a standby of PostgreSQL, real processes: streaming, synchronous, and changing places on command.

What the primary has said to be durable is on the standby, too, so a failover loses nothing. Whoever replicates otherwise can lose what was
not sent yet.
"""

import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

from scripts.servers import PostgreSQL

SOURCE = "host=127.0.0.1 port={port} user=postgres application_name={name}"


class Node(PostgreSQL):
    """One of the two; `options` are those of its next start."""

    def __init__(self, folder):
        super().__init__(folder)
        self.options = []

    @property
    def data(self):
        return self.folder / "data"

    def _command(self):
        return [*super()._command(), *(part for option in self.options for part in ("-c", option))]

    def ask(self, name, *arguments):
        """Run a program of PostgreSQL, as the user whose cluster it is."""
        done = subprocess.run([self.tool(name), *arguments], cwd="/", capture_output=True, text=True, check=False, user=self._user)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def sql(self, statement):
        """Rows as text."""
        return self.ask("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", self.url, "-c", statement)

    def reload(self, setting, value):
        """Change a setting of the whole server, also for its sessions."""
        self.sql(f"ALTER SYSTEM SET {setting} = {value}")
        self.sql("SELECT pg_reload_conf()")

    def clone(self, of):
        """Become a standby of another, from nothing; it is started."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        self.give_folder()
        source = SOURCE.format(port=of.port, name=self.folder.name)
        self.ask("pg_basebackup", "-D", str(self.data), "-d", source, "-R", "-X", "stream", "-c", "fast")
        self.options = []
        self.start()

    def follow(self, other):
        """Become a standby of another with the data that is here, which the other must have, too; it is started."""
        (self.data / "standby.signal").touch()
        if self._user:
            shutil.chown(self.data / "standby.signal", self._user)
        source = SOURCE.format(port=other.port, name=self.folder.name)
        self.options = [f"primary_conninfo={source}", "recovery_target_timeline=latest"]
        self.start()


class PostgresPair:
    """`one` is the primary at first, `two` its standby; `url` names both, in this order."""

    def __init__(self, folder: Path):
        self.one = Node(folder / "one")
        self.two = Node(folder / "two")

    @property
    def url(self):
        return self.url_of(self.one.port, self.two.port)

    @staticmethod
    def url_of(*ports):
        """One for servers at these ports."""
        return f"postgresql://postgres@{','.join(f'127.0.0.1:{port}' for port in ports)}/postgres?application_name={quote('under test')}"

    def __enter__(self):
        self.one.options = ["synchronous_standby_names=*"]
        self.one.start()
        self.two.clone(self.one)
        return self

    def __exit__(self, *_):
        for node in (self.two, self.one):
            node.kill()

    def switch(self):
        """A planned change of places: the primary ends in peace, and comes back as the standby of the other."""
        self.one.stop()
        self.promote()
        self.one.follow(self.two)

    def promote(self):
        """Make the standby the primary; it waits for nobody's copy, for there is none."""
        self.two.sql("SELECT pg_promote(true, 60)")

    def holders(self, node):
        """How many sessions have an advisory lock there."""
        return int(node.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"))

    def sessions(self, node):
        """How many of the sessions there are ours."""
        return int(node.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'under test'"))

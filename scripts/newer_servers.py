"""Runs a command with the servers of Debian 13 (RabbitMQ 4.0, Redis 8, PostgreSQL 17): `newer_servers.py COMMAND...`.

A Debian 13 uses its own packages, as `with_servers.py` does anywhere. An older Debian unpacks Debian 13 once into the folder of
SICKBAY_TEST_DEBIAN_13 (by default in the user's cache, about 1 GB) and runs private instances out of it for the time of the command.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import debian_13
from servers import free_port

HERE: Final = Path(__file__).parent
NAMED: Final = ("SICKBAY_TEST_RABBITMQ_URL", "SICKBAY_TEST_RABBITMQCTL", "SICKBAY_TEST_REDIS_URL", "SICKBAY_TEST_POSTGRES_URL")


def main() -> int:
    """Run the command between the start and the stop of the servers; its exit code."""
    command = [sys.executable, str(HERE / "with_servers.py"), sys.executable, str(HERE / "server_versions.py"), *sys.argv[1:]]
    if _is_new_enough():
        return subprocess.run(command, check=False).returncode
    root = _folder()
    debian_13.prepare(root)
    with tempfile.TemporaryDirectory(prefix="sickbay-debian-13-") as folder:
        debian_13.write_programs(root, Path(folder))
        env = {name: value for name, value in os.environ.items() if name not in NAMED} | {
            "SICKBAY_TEST_BINARIES": folder,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "ERL_EPMD_PORT": str(free_port()),  # the machine's own RabbitMQ keeps its own
        }
        try:
            return subprocess.run(command, env=env, check=False).returncode
        finally:
            subprocess.run([f"{folder}/epmd", "-kill"], env=env, capture_output=True, check=False)


def _is_new_enough() -> bool:
    system = platform.freedesktop_os_release()
    return system.get("ID") == "debian" and int(system.get("VERSION_ID", "0").partition(".")[0]) >= 13


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SICKBAY_TEST_DEBIAN_13") or cache / "sickbay" / "debian-13").absolute()


if __name__ == "__main__":
    sys.exit(main())

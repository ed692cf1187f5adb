"""Stand-ins for images of a registry that cannot be reached, made from Debian 13's packages: for tests, as root, and for nothing else.

Each has the name of the image it stands for under `localhost/sickbay-standin/`, and just what our files use of that image.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from scripts.debian_13 import mirror, way_to_the_mirror

SUITE: Final = "trixie"
PREFIX: Final = "localhost/sickbay-standin"
DEBIAN: Final = f"{PREFIX}/debian:{SUITE}"
INSTALL: Final = f"FROM {DEBIAN}\nRUN apt-get update -qq && apt-get install -y -qq --no-install-recommends"
PYTHON: Final = f"""
{INSTALL} python3 python3-venv python3-pip && \\
    ln -s /usr/bin/python3 /usr/local/bin/python && ln -s /usr/bin/python3 /usr/local/bin/python3
"""
PREPARE_POSTGRES: Final = r"""
cd /var/lib/postgresql/data && test -s PG_VERSION || {
  printf %s "$POSTGRES_PASSWORD" >/var/lib/postgresql/password
  initdb -D . -U "$POSTGRES_USER" -A scram-sha-256 --pwfile=/var/lib/postgresql/password
  echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D . postgres
  echo "host all all all scram-sha-256" >>pg_hba.conf
}
exec postgres -D . -c listen_addresses='*'
"""
SERVERS: Final = {
    "rabbitmq": f"""
{INSTALL} rabbitmq-server && rabbitmq-plugins enable --offline rabbitmq_management
USER rabbitmq
ENV HOME=/var/lib/rabbitmq LC_ALL=C.UTF-8
CMD ["/usr/lib/rabbitmq/bin/rabbitmq-server"]
""",
    "redis": f"""
{INSTALL} redis-server redis-tools && install -d -o redis -g redis /data
USER redis
WORKDIR /data
ENTRYPOINT ["sh", "-c", "exec \\"$@\\" --protected-mode no", "sh"]
CMD ["redis-server"]
""",
    "postgres": f"""
{INSTALL} postgresql-17 && install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data && rm -rf /var/lib/postgresql/17
USER postgres
ENV PATH=/usr/lib/postgresql/17/bin:$PATH
CMD {json.dumps(["sh", "-c", PREPARE_POSTGRES])}
""",
    "prometheus": f"""
{INSTALL} prometheus && rm -rf /etc/prometheus && install -d -o prometheus -g prometheus /prometheus
USER prometheus
CMD ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
""",
}
"""What docker-compose.yml uses of each server's image: the program, its data folder, and for PostgreSQL the first database."""

Run = Callable[..., Any]
Build = Callable[[str, Path], None]


def install(*packages: str) -> None:
    """Debian's packages, quietly; who needs them looks whether they came."""
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]):
        subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def python(run: Run, build: Build) -> str:
    """Python 3.13."""
    return make(run, build, f"{PREFIX}/python:3.13-slim-trixie", PYTHON)


def server(run: Run, build: Build, name: str) -> str:
    """One of SERVERS."""
    return make(run, build, f"{PREFIX}/{name}:{SUITE}", SERVERS[name])


def make(run: Run, build: Build, tag: str, dockerfile: str) -> str:
    """Build a stand-in unless it is there already; its tag."""
    if run("image", "inspect", tag, check=False).returncode == 0:
        return tag
    _debian(run)
    print(f"engine: no registry can be reached; making the stand-in {tag}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(dockerfile)
        build(tag, Path(folder))
    return tag


def _debian(run: Run) -> None:
    """A small Debian 13 as an image."""
    if run("image", "inspect", DEBIAN, check=False).returncode == 0:
        return
    if os.geteuid():
        sys.exit("No image registry can be reached, and only root can make a stand-in for the base image")
    if shutil.which("debootstrap") is None:
        install("debootstrap")
    if shutil.which("debootstrap") is None:
        sys.exit("No image registry can be reached, and a stand-in for the base image needs debootstrap")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        subprocess.run(["debootstrap", "--variant=minbase", SUITE, str(root), mirror()], check=True, stdout=subprocess.DEVNULL)
        (root / "etc/apt/apt.conf.d/00machine").write_text(way_to_the_mirror())
        archive = Path(folder) / "root.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        run("import", str(archive), DEBIAN)

"""Unpacks Debian 13 with its servers into a folder, and makes its programs callable from outside, for an older Debian.

A program in there sees the machine's own temporary folder, /dev and /proc, so paths to temporary files mean the same inside and outside.
These mounts belong to the program alone and vanish with it. Nothing starts by itself: a policy in the folder forbids it.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

SUITE: Final = "trixie"
PACKAGES: Final = ("rabbitmq-server", "redis-server", "postgresql-17")
POSTGRES: Final = "/usr/lib/postgresql/17/bin"
AS_POSTGRES: Final = "/usr/bin/setpriv --reuid=postgres --regid=postgres --init-groups"
"""PostgreSQL refuses to run as root."""
PROGRAMS: Final = {
    "rabbitmq-server": "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "rabbitmqctl": "/usr/lib/rabbitmq/bin/rabbitmqctl",
    "epmd": "/usr/bin/epmd",
    "redis-server": "/usr/bin/redis-server",
    "initdb": f"{AS_POSTGRES} {POSTGRES}/initdb",
    "postgres": f"{AS_POSTGRES} {POSTGRES}/postgres",
    "pg_isready": f"{POSTGRES}/pg_isready",
    "pg_basebackup": f"{AS_POSTGRES} {POSTGRES}/pg_basebackup",
    "psql": f"{POSTGRES}/psql",
}
INSTALL: Final = f"""
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
printf '127.0.0.1 localhost\\n::1 localhost\\n' >/etc/hosts
mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
apt-get update -qq && apt-get install -y -qq --no-install-recommends {" ".join(PACKAGES)} && apt-get clean
"""


def prepare(root: Path) -> None:
    """Have Debian 13 in the folder, from what is there already or from the package mirror that this machine's apt uses."""
    if why := _obstacle(root):
        sys.exit(f"RabbitMQ 4 and Redis 8 are in Debian 13, which this machine must unpack into a folder and enter: {why}")
    if root.exists():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{root.name}.part-", dir=root.parent))
    try:
        _unpack(part)
        part.rename(root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_programs(root: Path, folder: Path) -> None:
    """One small script in `folder` for each of PROGRAMS."""
    for name, command in PROGRAMS.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexport LC_ALL=C.UTF-8\nexec {_enter(root)} {command} "$@"\n')
        script.chmod(0o755)


def _obstacle(root: Path) -> str:
    if os.geteuid():
        return "only root can do that"
    tools = ["unshare"] if root.exists() else ["unshare", "apt-get", "debootstrap"]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return f"{' and '.join(missing)} must be installed for that" if missing else ""


def _unpack(root: Path) -> None:
    root.chmod(0o755)
    print(f"servers: unpacking Debian 13 into {root.parent}, once; this takes a minute or two", file=sys.stderr, flush=True)
    _run("debootstrap", ["debootstrap", "--variant=minbase", SUITE, str(root), mirror()])
    (root / "etc/apt/apt.conf.d/00machine").write_text(way_to_the_mirror())
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    _run("apt-get in there", [*shlex.split(_enter(root)), "/bin/sh", "-c", INSTALL], environment)


def _run(name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = " / ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        sys.exit(f"Debian 13 cannot be unpacked here: {name} failed with: {said}")


def _enter(root: Path) -> str:
    """What a shell writes before a command to run it in there. It becomes that command, so signals and exit codes are its own."""
    mounts = [f"mount --rbind {place} {shlex.quote(str(root) + place)}" for place in ("/dev", "/proc")]
    outside = tempfile.gettempdir()
    inside = shlex.quote(f"{root}{outside}")
    mounts += [f"mkdir -p {inside}", f"mount --rbind {shlex.quote(outside)} {inside}"]
    steps = " && ".join([*mounts, f'exec chroot {shlex.quote(str(root))} "$@"'])
    return f"unshare --mount sh -c {shlex.quote(steps)} sh"


def mirror() -> str:
    """Where this machine's apt takes Debian from."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME")
    listing = ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    for line in subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines():
        address, *of = line.split()
        if of == [codename, "main"]:
            return address
    sys.exit(f"Debian 13 cannot be unpacked here: no source of apt on this machine has the component main of {codename}")


def way_to_the_mirror() -> str:
    """This machine's settings for reaching the mirror, such as a proxy."""
    settings = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return "".join(line + "\n" for line in settings.splitlines() if line.startswith("Acquire::http") and not line.endswith(' "";'))

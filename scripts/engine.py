"""The container engine of this machine for building and testing the image: Docker, else Podman with Buildah.

`python -m scripts.engine build TAG` builds the image. Its base comes from the registry; where none can be reached, a stand-in of the same
name is made from Debian's packages (as root), which is good for tests and for nothing else: `standins.py`.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from scripts import standins

ROOT: Final = Path(__file__).parent.parent
PYTHON_IMAGE: Final = "docker.io/library/python:3.13-slim-trixie"
PODMAN: Final = ("podman", "buildah", "runc", "netavark", "aardvark-dns", "iptables")
AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
LOCAL: Final = ("find-links", "extra-index-url", "constraint", "cert")
"""What of a machine's pip configuration means files that a build does not see."""


def name() -> str:
    """`docker` or `podman`; SystemExit with one sentence if neither is here and neither can be installed."""
    if shutil.which("docker") and _succeeds("docker", "info"):
        return "docker"
    if shutil.which("podman") and shutil.which("buildah"):
        return "podman"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"engine: installing {', '.join(PODMAN)}", file=sys.stderr, flush=True)
        standins.install(*PODMAN)
    if shutil.which("podman") and shutil.which("buildah"):
        return "podman"
    sys.exit("The image is built and tried with Docker, or with Podman and Buildah (`sudo apt-get install podman buildah`); none is here")


def environment() -> Mapping[str, str]:
    """What the engine's client must find in its environment.

    A root that may not raise its own limits and a machine with both versions of cgroups need settings that Podman does not find.
    """
    if name() == "docker":
        return os.environ | {"BUILDX_BUILDER": "default"}  # the one whose images `docker run` sees
    if "CONTAINERS_CONF" in os.environ:
        return os.environ
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes = min(32_768, *resource.getrlimit(resource.RLIMIT_NPROC)) if resource.getrlimit(resource.RLIMIT_NPROC)[1] > 0 else 32_768
    lines = [
        "[containers]",
        f'default_ulimits = ["nofile={soft}:{hard}", "nproc={processes}:{processes}"]',
        "[engine]",
        'events_logger = "file"',
    ]
    lines += ['runtime = "runc"'] if shutil.which("runc") else []
    lines += ["[network]", 'network_backend = "netavark"'] if Path("/usr/lib/podman/netavark").exists() else []
    path = Path(tempfile.gettempdir()) / f"sickbay-containers-{os.getuid()}.conf"
    path.write_text("\n".join(lines) + "\n")
    # Podman lets systemd do the health checks; where no systemd runs, whoever needs them must ask (`podman healthcheck run`).
    return os.environ | {"CONTAINERS_CONF": str(path)} | ({} if Path("/run/systemd/system").exists() else {"DISABLE_HC_SYSTEMD": "true"})


def run(*words: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """One command of the engine; its failure is an AssertionError with what it said."""
    done = subprocess.run([name(), *words], env=environment(), capture_output=True, text=True, check=False, timeout=timeout)
    if check and done.returncode:
        raise AssertionError(f"{name()} {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def build(tag: str, context: Path = ROOT, arguments: Sequence[str] = ()) -> None:
    """Build the Dockerfile of `context`."""
    tool = ["docker", "build"] if name() == "docker" else ["buildah", "bud", "--format", "docker", "--layers", *_confined()]
    with tempfile.TemporaryDirectory() as folder:
        command = [*tool, *_secrets(Path(folder)), *arguments, "-t", tag, str(context)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}")


def base() -> str:
    """The base image: the real one, else a stand-in."""
    if run("pull", "--quiet", PYTHON_IMAGE, check=False).returncode == 0:
        return PYTHON_IMAGE
    return standins.python(run, build)


def _confined() -> Sequence[str]:
    """Without the rights for a container of its own a build step gets a chroot."""
    return ("--isolation", "chroot", "--network", "host") if os.geteuid() == 0 else ()


def _secrets(folder: Path) -> Sequence[str]:
    """This machine's way to the package index, for the time of the build."""
    listing = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    pairs = [line.split("=", 1) for line in listing.splitlines() if "=" in line]
    settings = {key.split(".", 1)[1]: value.strip("'") for key, value in pairs if key.startswith(("global.", ":env:."))}
    lines = ["[global]", *(f"{key} = {value}" for key, value in settings.items() if key not in LOCAL)]
    options = []
    if AUTHORITIES.exists():
        lines.append("cert = /run/secrets/ca.pem")
        options = ["--secret", f"id=ca.pem,src={AUTHORITIES}"]
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")
    return [*options, "--secret", f"id=pip.conf,src={folder / 'pip.conf'}"]


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "build":
        sys.exit("usage: python -m scripts.engine build TAG")
    build(sys.argv[2], arguments=("--build-arg", f"PYTHON_IMAGE={base()}"))
    print(sys.argv[2])

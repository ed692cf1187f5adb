"""Output that cannot be written, or that nobody reads, neither stops a service nor holds it up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.servers import free_port
from sickbay.runtime.settings import describe_settings
from tests.support import SUPPORT
from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.forked import forked
from tests.support.isolated_servers import Corner
from tests.support.plain_http import NO_TLS
from tests.support.system_under_test import PORTS
from tests.support.waiting import until

pytestmark = pytest.mark.executed

SOON_S = 15


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(SUPPORT / "leaving_handlers.py", tmp_path)
    return tmp_path


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def unread_pipe() -> int:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"x" * 65_536):
            pass
    os.set_blocking(writing, True)
    UNREAD.append(reading)
    return writing


UNREAD: list[int] = []
BROKEN: dict[str, Callable[[], int] | None] = {
    "full disk": full_disk,
    "closed pipe": closed_pipe,
    "pipe that nobody reads": unread_pipe,
    "nothing at all": None,
}


class Mute:
    """The product, or a part of it, whose output is broken, so that its ports are told beforehand."""

    def __init__(self, process: subprocess.Popen[bytes], ports: dict[str, tuple[int, int]]) -> None:
        self.process = process
        self.ports = ports


@contextmanager
def launched(words: list[str], folder: Path, broken: Callable[[], int] | None, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m WORDS` whose standard output and error both are broken, or closed."""
    own = {name: value for name, value in os.environ.items() if name.upper() not in describe_settings()}
    command = [sys.executable, "-m", *words]
    if broken is None:
        command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
    output = broken() if broken else os.open(os.devnull, os.O_WRONLY)
    process = subprocess.Popen(command, cwd=folder, env=own | env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    os.close(output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        while UNREAD:
            os.close(UNREAD.pop())


def is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=10, verify=NO_TLS).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("broken", BROKEN)
def test_the_whole_system_lives_without_output(folder: Path, broken: str):
    """It starts, runs jobs that print more than a pipe holds, answers, says how much it dropped, and ends when told, with exit code 0."""
    numbers = [free_port() for _ in range(6)]
    words = ["sickbay_cli", "up", "--data", "data", *(word for pair in zip(PORTS, map(str, numbers), strict=True) for word in pair)]
    names = ("Job API", "Worker", "Control plane")
    ports = {name: (numbers[2 * at], numbers[2 * at + 1]) for at, name in enumerate(names)}
    env = {"JOB_HANDLERS": "leaving_handlers", "LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"}
    with launched(words, folder, BROKEN[broken], env) as process:
        until(lambda: all(is_healthy(rest) for rest, _ in ports.values()))
        with Clients(Mute(process, ports)) as sickbay:
            sickbay.wait_all([sickbay.submit(kind) for kind in ("ok", "prints", "prints", "ok")], "SUCCEEDED")
            told = sickbay.worker.get("/metrics").text
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON_S) == 0
    dropped = sum(float(line.split()[-1]) for line in told.splitlines() if line.startswith("sickbay_output_dropped_total{"))
    assert dropped > 0 or broken == "nothing at all"  # /dev/null takes everything, if the thread that writes gets its turns


@pytest.mark.servers
@pytest.mark.parametrize("module", ["jobapi", "worker", "controlplane"])
@pytest.mark.parametrize("broken", ["full disk", "pipe that nobody reads"])
def test_each_service_lives_without_output(folder: Path, corner: Corner, module: str, broken: str):
    """The same for a process of its own."""
    rest, grpc = free_port(), free_port()
    env = {"JOB_HANDLERS": "leaving_handlers", "LOG_FORMAT": "json", **corner.env}
    with (
        Fleet(folder, env) as fleet,
        launched([module], folder, BROKEN[broken], env | {"PORT": str(rest), "GRPC_PORT": str(grpc)}) as process,
    ):
        with forked():
            fleet.launch("controlplane")
        until(lambda: is_healthy(rest))
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON_S) == 0


def test_a_start_that_fails_ends_although_nobody_reads_why(folder: Path):
    """With its exit code."""
    with launched(["sickbay_cli", "up"], folder, unread_pipe, {"COOLDOWN_PERIOD": "abc"}) as process:
        assert process.wait(SOON_S) == 1


def test_what_was_dropped_is_told_when_somebody_reads_again(folder: Path):
    """One line with the number, in the format of the others."""
    numbers = [free_port() for _ in range(6)]
    words = ["sickbay_cli", "up", "--data", "data", *(word for pair in zip(PORTS, map(str, numbers), strict=True) for word in pair)]
    env = {"JOB_HANDLERS": "leaving_handlers", "LOG_FORMAT": "json"}
    ports = {"Job API": (numbers[0], numbers[1]), "Worker": (numbers[2], numbers[3]), "Control plane": (numbers[4], numbers[5])}
    with launched(words, folder, unread_pipe, env) as process:
        reading = os.dup(UNREAD[0])
        until(lambda: all(is_healthy(rest) for rest, _ in ports.values()))
        with Clients(Mute(process, ports)) as sickbay:
            for _ in range(10):
                sickbay.wait(sickbay.submit("prints"), "SUCCEEDED")
        with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
            line = next(line for line in pipe if "lines of output were dropped" in line)
        assert entry(line)["level"] == "warning"


def entry(line: str) -> Any:
    return json.loads(line[line.index("{") :])

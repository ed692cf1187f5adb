"""What attackers do to others: one POST /jobs each 50 ms beside each attack, on a `sickbay up` of its own. `python -m benchmarks.hostile`.

Each row tells how long the healthy client's calls take while nothing happens and under attack (each call a new connection), and the most
memory that the service took. Choose rows by words of their names: `python -m benchmarks.hostile slow silent`.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

from benchmarks import grpc_attacks, http_attacks
from benchmarks.http_attacks import Ports, lasting

PACE_S: Final = 0.05
TIMEOUT_S: Final = 15.0
_NAMES: Final = ("jobapi-port", "worker-port", "control-plane-port", "jobapi-grpc-port", "worker-grpc-port", "control-plane-grpc-port")
_ROW: Final = re.compile(r"^ {2}(Job API|Worker|Control plane) +http://localhost:(\d+) +gRPC localhost:(\d+) ")
ATTACKS: Final = {**http_attacks.ATTACKS, **grpc_attacks.ATTACKS}
_BODY: Final = b'{"jobType": "email", "payload": {"simulate": "ok"}}'


@dataclass
class Healthy:
    """A client like any other, in a thread of its own: milliseconds of its calls, and what went wrong."""

    port: int
    times: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Call until the context ends."""
        self._stopping.clear()
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(PACE_S):
            began = time.perf_counter()
            try:
                request = Request(f"http://127.0.0.1:{self.port}/jobs", _BODY, {"Content-Type": "application/json"})
                with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                    answer.read()
            except OSError as error:
                self.failures.append(str(error))
            self.times.append((time.perf_counter() - began) * 1000)

    def told(self) -> str:
        """p50 and p99 so far, which are then forgotten."""
        times, failures = sorted(self.times), len(self.failures)
        self.times, self.failures = [], []
        if not times:
            return f"{'no call ended':>24}"
        return f"{statistics.median(times):7.1f} {times[min(len(times) - 1, len(times) * 99 // 100)]:8.1f} {failures:4} bad"


@contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Ports]]:
    """`sickbay up`, the demo, with free ports and the usual limit of files."""
    command = [sys.executable, "-m", "sickbay_cli", "up", "--data", str(folder / "data"), *(f"--{name}=0" for name in _NAMES)]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=os.environ | {"LOG_LEVEL": "WARNING"}, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            yield process, dict(_ports(process))
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _ports(process: subprocess.Popen[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    for line in process.stdout or ():
        if row := _ROW.match(line):
            yield row[1], (int(row[2]), int(row[3]))
        if line.startswith("Stop with Ctrl-C"):
            return


def peak(pid: int) -> int:
    """The most memory that a process has held, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    return int(found[1]) // 1000 if found else 0


def row(name: str, seconds: float, attackers: ProcessPoolExecutor) -> None:
    """One attack, printed."""
    attack, scale = ATTACKS[name]
    with tempfile.TemporaryDirectory() as folder, started(Path(folder)) as (process, ports):
        healthy = Healthy(ports["Job API"][0])
        with healthy.calling():
            time.sleep(1)
        healthy.told()  # the first calls warm things up
        with healthy.calling():
            time.sleep(seconds)
        idle, before = healthy.told(), peak(process.pid)
        with healthy.calling():
            try:
                seen = attackers.submit(lasting, attack, ports, seconds, scale).result()
            except OSError as error:
                seen = {str(error): 1}
        lines = len((Path(folder) / "log").read_text("utf-8").splitlines())
        print(f"{name:<42} {idle} | {healthy.told()} | {before:5} {peak(process.pid):6} MB | {lines:5} lines | {seen}", flush=True)


def main() -> None:
    """All rows, or those with one of the words in their name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="rows whose name has one of these words")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each attack lasts at most, and the time before it")
    options = parser.parse_args()
    print(
        "attack: idle p50 and p99 in ms, failed calls | the same under attack | peak memory before and after | lines logged | what it saw"
    )
    with ProcessPoolExecutor(1, initializer=raise_file_limit) as attackers:
        for name in ATTACKS:
            if not options.words or any(word in name for word in options.words):
                row(name, options.seconds, attackers)


def raise_file_limit() -> None:
    """The attacker needs files, too; the service is started with what is usual."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()

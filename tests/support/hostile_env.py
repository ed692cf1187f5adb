"""A running product, the client that must not notice the attack, and what the attack cost."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from tests.support.plain_http import NO_TLS
from tests.support.system_under_test import Product

PACE_S: Final = 0.05
UNNOTICED_S: Final = 5.0
"""What is attacked runs on a machine that is busy with other tests; `benchmarks/hostile.py` measures more finely, on a quiet one."""


class Waits:
    """How long a healthy client's calls took: at first while nothing happens, then under attack."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._idle_s = 0.0

    def __len__(self) -> int:
        return len(self._times)

    def add(self, seconds: float) -> None:
        """One call."""
        self._times.append(seconds)

    def begin(self) -> None:
        """All so far were idle, and the attack begins."""
        self._idle_s = max(self._times)
        self._times.clear()

    def check(self) -> None:
        """The p99 is at most three times as long as while nothing happened."""
        times = sorted(self._times)
        p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
        assert p99 <= max(3 * self._idle_s, UNNOTICED_S), f"idle {self._idle_s:.3f} s, under attack {p99:.3f} s"


class Patient:
    """`sickbay up` and a client that submits a job each 50 ms, on a new connection each time."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self._logs_json = env["LOG_FORMAT"] == "json"
        self.product = Product(folder, env).ready()
        self.ports = self.product.ports
        self.failures: list[str] = []
        self._waits = Waits()
        self._stopping, self._on_duty = threading.Event(), threading.Event()
        self._on_duty.set()
        self._calling = threading.Thread(target=self._call)
        self._calling.start()
        self.examine()

    def rest(self) -> None:
        """No more calls until the next examination: between tests nobody is attacked, and this process may be busy with others for long."""
        self._on_duty.clear()

    def examine(self) -> None:
        """From now on tell only of what is new, and call again if it had a rest."""
        self._on_duty.set()
        self._wait_for_calls(5)
        self._waits.begin()
        Path(f"/proc/{self.product.process.pid}/clear_refs").write_text("5", "ascii")  # the peak begins anew
        self._before = self._peak_mb
        self._counted = {service: self._counts(service) for service in self.ports}

    def check(self) -> None:
        """It still serves, and has served its client all the time."""
        self._wait_for_calls(5)
        assert self.failures == []
        self._waits.check()

    @property
    def _peak_mb(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.product.process.pid}/status").read_text("ascii"))
        assert found
        return int(found[1]) // 1000

    @property
    def grown_mb(self) -> int:
        """By how much the attack has raised that."""
        return self._peak_mb - self._before

    def refused(self, service: str = "Job API") -> dict[str, int]:
        """What the HTTP port of a service has refused, by reason."""
        return dict(Counter(self._counts(service)) - Counter(self._counted[service]))

    def _counts(self, service: str) -> dict[str, int]:
        answer = httpx.get(self.url(service, "/metrics"), headers={"accept": "text/plain"}, trust_env=False, verify=NO_TLS)
        rows = re.findall(r'^sickbay_http_refused_total\{reason="(\w+)"\} (\S+)', answer.text, re.MULTILINE)
        return {reason: int(float(count)) for reason, count in rows if float(count)}

    def url(self, service: str, path: str) -> str:
        """Of one of the services."""
        return f"http://127.0.0.1:{self.ports[service][0]}{path}"

    def discharge(self) -> None:
        """It stops as it should."""
        try:
            self._on_duty.set()
            self.check()
        finally:
            self._stopping.set()
            self._calling.join()
            self._stop()

    def _stop(self) -> None:
        if self._logs_json:
            self.product.stop()
            return
        self.product.terminate()
        assert self.product.wait() == 0

    def _wait_for_calls(self, count: int) -> None:
        until = len(self._waits) + count
        while len(self._waits) < until:
            assert not self.failures, self.failures
            time.sleep(PACE_S)

    def _call(self) -> None:
        while not self._stopping.wait(PACE_S):
            self._on_duty.wait()
            began = time.monotonic()
            try:
                answer = httpx.post(
                    self.url("Job API", "/jobs"), json={"jobType": "ok", "payload": {}}, timeout=60, trust_env=False, verify=NO_TLS
                )
                if answer.status_code != httpx.codes.ACCEPTED:
                    self.failures.append(answer.text)
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
            self._waits.add(time.monotonic() - began)

"""A real Prometheus that reads running services, with the rules of deploy/prometheus in which some alerts are less patient."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from tests.support.plain_http import NO_TLS
from tests.support.process import PATIENCE_S, Lines
from tests.support.promtool import MISSING

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
SCRAPE = "500ms"
JOBS = {"Job API": "job-api", "Worker": "worker", "Control plane": "control-plane"}


def rules(*impatient: str) -> dict[str, Any]:
    """The rules; the alerts that are named wait for a second only."""
    document: dict[str, Any] = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            if rule["alert"] in impatient:
                rule["for"] = "1s"
    return document


class Prometheus:
    """It runs inside of `with`, on a port of its own, its data in `folder`; `ports` are those to read, by Prometheus's name for them."""

    def __init__(self, folder: Path, ports: Mapping[str, Iterable[int]], *impatient: str) -> None:
        scrapes = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in of]}]} for job, of in ports.items()]
        pace = {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE}
        config = {"global": pace, "rule_files": [RULES.name], "scrape_configs": scrapes}
        (folder / RULES.name).write_text(yaml.safe_dump(rules(*impatient)))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._folder = folder

    def __enter__(self) -> Self:
        if shutil.which("prometheus") is None:
            pytest.fail(MISSING, pytrace=False)
        words = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]
        self._process = subprocess.Popen(words, cwd=self._folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert self._process.stderr
        self._log = Lines(self._process.stderr)
        try:
            self._client = httpx.Client(
                base_url=f"http://127.0.0.1:{self._port()}/api/v1", timeout=PATIENCE_S, trust_env=False, verify=NO_TLS
            )
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._end()

    def _port(self) -> int:
        assert self._log.wait_for(lambda line: "Server is ready" in line), self._log.text
        found = re.search(r"Listening on\" address=127\.0\.0\.1:(\d+)", self._log.text)
        assert found, self._log.text
        return int(found[1])

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._log.close()

    def ask(self, path: str, **parameters: str | list[str]) -> Any:
        """What its API answers."""
        answer = self._client.get(path, params=parameters)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def now(self, expression: str) -> list[Mapping[str, Any]]:
        """The series of an expression."""
        found: list[Mapping[str, Any]] = self.ask("/query", query=expression)["result"]
        return found

    def firing(self, name: str) -> list[dict[str, str]]:
        """The labels of each alert of this name that fires, and its value."""
        alerts = [alert for alert in self.ask("/alerts")["alerts"] if alert["labels"]["alertname"] == name and alert["state"] == "firing"]
        return [alert["labels"] | {"value": alert["value"]} for alert in alerts]

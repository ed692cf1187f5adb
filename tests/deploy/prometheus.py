"""A real Prometheus that reads a running product, with the rules of deploy/prometheus in which one alert is less patient."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from tests.promtool import MISSING
from tests.system.clients import HasPorts
from tests.system.process import PATIENCE_S, Lines

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
SCRAPE = "500ms"
JOBS = {"Job API": "job-api", "Worker": "worker", "Control plane": "control-plane"}


def rules(impatient: str) -> dict[str, Any]:
    """The rules, with one alert that waits for a second only."""
    document: dict[str, Any] = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            if rule["alert"] == impatient:
                rule["for"] = "1s"
    return document


class Prometheus:
    """It runs inside of `with`, on a port of its own, its data in `folder`."""

    def __init__(self, folder: Path, product: HasPorts, impatient: str) -> None:
        scrapes = [
            {"job_name": JOBS[name], "static_configs": [{"targets": [f"127.0.0.1:{ports[0]}"]}]} for name, ports in product.ports.items()
        ]
        (folder / "alerts.yml").write_text(yaml.safe_dump(rules(impatient)))
        config = {
            "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
            "rule_files": ["alerts.yml"],
            "scrape_configs": scrapes,
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._folder = folder

    def __enter__(self) -> Self:
        if shutil.which("prometheus") is None:
            pytest.fail(MISSING, pytrace=False)
        words = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]
        self._process = subprocess.Popen(words, cwd=self._folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert self._process.stderr
        self._log = Lines(self._process.stderr)
        self._log.wait_for(lambda line: "Server is ready" in line)
        told = self._log.wait_for(lambda line: '"Listening on" address=' in line)
        port = re.search(r"address=127\.0\.0\.1:(\d+)", str(told))
        assert port
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port[1]}/api/v1", timeout=PATIENCE_S, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
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

    def firing(self) -> dict[str, dict[str, str]]:
        """The alerts that fire, with their labels."""
        alerts = self.ask("/alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert["labels"] for alert in alerts if alert["state"] == "firing"}

"""A real Prometheus reads a real product: its rules work, an alert fires, and every panel of the dashboard has something to show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import pytest

from deploy.grafana.dashboard import FILE, NARROWED
from tests.support.clients import Clients
from tests.support.prometheus import JOBS, Prometheus, rules
from tests.support.system_under_test import Product
from tests.support.waiting import until

pytestmark = pytest.mark.promtool

IMPATIENT: Final = "SickbayCircuitOpen"
ENV: Final = {"COOLDOWN_PERIOD": "1", "RETRY_DELAY_MS": "100", "LOG_FORMAT": "json", "SICKBAY_CONFIG": "sickbay.toml"}
STORY: Final = [
    *[("sms", {"simulate": "ok"})] * 5,
    *[("email", {"simulate": "API_TIMEOUT"})] * 10,
    ("webhook", {"simulate": "VALIDATION_ERROR"}),
    ("nobody-knows-me", {}),
    ("webhook", {"simulate": "sleep:10"}),
]
BROKEN: Final = {"jobType": "webhook", "payload": {"simulate": "VALIDATION_ERROR"}, "intervalSeconds": 1, "pauseOnFailure": True}
"""A schedule whose first job fails."""
SEEN: Final = (
    'sickbay_breaker_transitions_total{state="CLOSED"} > 0',
    'sickbay_breaker_probes_total{result="failure"} > 0',
    'sickbay_ledger_jobs{state="QUARANTINED"} > 1',
    'sickbay_sweep_copies_total{verdict="kept"} > 0',
    "sickbay_oldest_unfinished_job_seconds >= 0",
    "sickbay_scheduled_jobs_sent_total > 0",
    "sickbay_schedule_failing > 0",
    "sickbay_schedule_pauses_total > 0",
    'rate(sickbay_jobs_total{outcome="succeeded"}[5m]) > 0',
)
"""What Prometheus must have read before it is asked for everything."""
_SELECTOR: Final = re.compile(r"\b(?:up|(?:sickbay|grpc_server|process)_\w+)\b(?:\{[^}]*\})?")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has seen jobs end well and badly, a circuit open and be reset, and the alert about it."""
    folder = tmp_path_factory.mktemp("product")
    (folder / "sickbay.toml").write_text('[tenants.limited]\nsubmit = "1/h"\n[limits]\nqueued = 1000000\n')
    product = Product(folder, ENV).ready()
    try:
        ports = {JOBS[name]: [rest] for name, (rest, _) in product.ports.items()}
        with Clients(product) as sickbay, Prometheus(tmp_path_factory.mktemp("prometheus"), ports, IMPATIENT) as started:
            until(lambda: started.now(f"count(up == 1) == {len(ports)}"))
            sickbay.submit_batch(STORY)
            sickbay.api.post("/jobs", json={"jobType": "sms", "payload": {"simulate": "ok"}, "delaySeconds": 0.5}).raise_for_status()
            sickbay.plane.post("/schedules", json={"scheduleId": "broken", "spec": BROKEN}).raise_for_status()
            assert sickbay.api.get("/jobs/unknown").status_code == 404
            limited = {"jobType": "sms", "payload": {}, "tenant": "limited"}
            assert [sickbay.api.post("/jobs", json=limited).status_code for _ in range(2)] == [202, 429]
            (fired,) = until(lambda: started.firing(IMPATIENT))
            assert fired == {"alertname": IMPATIENT, "job_type": "email", "tenant": "default", "severity": "warning", "value": "1e+00"}
            assert sickbay.plane.post("/breakers/email/reset").status_code == 200
            for fact in SEEN:
                until(lambda fact=fact: started.now(fact))
            yield started
    finally:
        product.stop()


def test_all_rules_work(prometheus: Prometheus):
    """Prometheus has evaluated each of them without an error, and the impatient one has fired."""
    told = [rule for group in prometheus.ask("/rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in told} == {"ok"}, [rule for rule in told if rule["health"] != "ok"]
    assert {rule["name"] for rule in told} == {rule["alert"] for group in rules()["groups"] for rule in group["rules"]}


ONLY_IN_TROUBLE = {"sickbay_releases_held_back", "sickbay_breaker_shut_here"}
"""Told only where a worker is cut off from Redis; tests/unit/telemetry/test_metrics.py knows their names and labels."""


def asked_for(expression: str) -> set[str]:
    """The series that an expression names, each in a form that can be asked for itself."""
    return set(_SELECTOR.findall(expression))


def test_what_the_rules_ask_for_is_told(prometheus: Prometheus):
    """A misspelt metric, label or value would keep an alert quiet for ever."""
    wanted = {series for group in rules()["groups"] for rule in group["rules"] for series in asked_for(rule["expr"])}
    failures = (
        'grpc_server_handled_total{grpc_service=~"sickbay[.].+",grpc_code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS|DEADLINE_EXCEEDED"}'
    )
    assert failures in wanted
    assert len(wanted) > 30
    wanted -= {failures, *ONLY_IN_TROUBLE}
    assert [series for series in wanted if not prometheus.now(f"last_over_time({series}[5m])")] == []


def shown(expression: str) -> str:
    """An expression of the dashboard as Grafana sends it if everything is chosen, of the last minutes, for what shows changes alone."""
    for name in NARROWED:
        expression = expression.replace(f"${name}", ".*")
    expression = expression.replace("$__rate_interval", "10s")
    assert "$" not in expression
    return f"last_over_time(({expression})[5m:500ms])"


def test_every_panel_has_something_to_show(prometheus: Prometheus):
    """A misspelt query would be an empty panel."""
    panels = [panel for panel in json.loads(FILE.read_text())["panels"] if panel["type"] != "row"]
    queries = {f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel["targets"]}
    assert len(queries) > 40
    for expression in queries.values():
        with suppress(AssertionError):  # what was read last may not be in the last step yet
            until(lambda expression=expression: prometheus.now(shown(expression)), within_s=5)
    assert [name for name, expression in queries.items() if not prometheus.now(shown(expression))] == []
    assert not prometheus.now(shown("rate(sickbay_jobs_totals[$__rate_interval])"))


@pytest.mark.parametrize("name", ["job_type", "tenant"])
def test_a_choice_has_something_to_choose(prometheus: Prometheus, name: str):
    """What `label_values` asks Prometheus for; `namespace` is a label of Kubernetes alone."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", NARROWED[name][1].replace("$namespace", ".*"))
    assert found
    assert found[2] == name
    assert (
        set(prometheus.ask(f"/label/{name}/values", **{"match[]": found[1]})) >= {"job_type": {"email", "sms"}, "tenant": {"default"}}[name]
    )

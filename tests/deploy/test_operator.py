"""What the monitoring component gives the Prometheus operator and Grafana's sidecar agrees with the rest."""

from __future__ import annotations

import pytest
import yaml

from deploy.grafana import dashboard
from scripts import manifests, operator_rules
from tests.deploy.rules import PORTS, Resource, labels, of, parsed, pod, workloads


@pytest.fixture(scope="module")
def resources() -> list[Resource]:
    return parsed(manifests.with_component("local", "monitoring"))


def selects(selector: Resource, own: dict[str, str]) -> bool:
    """Whether a selector with labels and lists (`In`) means a pod with these labels."""
    listed = all(one["operator"] == "In" and own.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))
    return listed and selector.get("matchLabels", {}).items() <= own.items()


def test_the_rules_are_those_of_prometheus(resources: list[Resource]):
    """`make monitoring` would change nothing, and kustomize gives the operator the same groups that Prometheus reads."""
    assert operator_rules.FILE.read_text("utf-8") == operator_rules.build()
    rule = of(resources, "PrometheusRule")["sickbay"]
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["spec"] == yaml.safe_load(operator_rules.RULES.read_text("utf-8"))


def test_the_pods_of_the_three_services_are_read_and_no_others(resources: list[Resource]):
    """Under the port that has their numbers, and with the names that Prometheus of docker-compose.yml gives them."""
    monitor = of(resources, "PodMonitor")["sickbay"]["spec"]
    meant = {name: pod(one) for name, one in workloads(resources).items() if selects(monitor["selector"], labels(one))}
    assert set(meant) == set(PORTS)
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    for name, spec in meant.items():
        named = {port["name"]: port["containerPort"] for port in spec["containers"][0]["ports"]}
        assert named[endpoint["port"]] == PORTS[name][0]
        assert labels(workloads(resources)[name])[monitor["jobLabel"]] == name


def test_grafanas_sidecar_gets_the_dashboard(resources: list[Resource]):
    """It looks for the label; a config map and its annotations must not be too large for `kubectl apply`."""
    found = of(resources, "ConfigMap")["sickbay-dashboard"]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["data"] == {"sickbay.json": dashboard.FILE.read_text("utf-8")}
    assert len(found["data"]["sickbay.json"]) < 200_000

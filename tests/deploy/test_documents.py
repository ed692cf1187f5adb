"""What docs/kubernetes.md and the pipelines say to type names files, labels, services and ports that are there."""

import re
from collections.abc import Iterator

import pytest

from scripts import manifests
from tests.deploy.rules import ROOT, labels, of, parsed, pod, workloads

DOCUMENTED = [
    "configmap.yaml",
    "redis.yaml",
    "rabbitmq.yaml",
    "job-api.yaml",
    "worker.yaml",
    "control-plane.yaml",
]


def wrong(text: str) -> Iterator[str]:
    """What a text tells kubectl that does not exist."""
    everything = parsed("\n---\n".join(manifests.files().values()))
    for path in re.findall(r"-[fk] ((?:k8s|deploy)/\S*)", text):
        if not (ROOT / path.rstrip("`;")).exists():
            yield path
    known = {label for one in workloads(everything).values() for label in labels(one).items()}
    for key, value in re.findall(r"-l ([a-z./-]+)=([a-z-]+)", text):
        if (key, value) not in known:
            yield f"{key}={value}"
    for name, port in re.findall(r"port-forward svc/([a-z-]+) \d+:(\d+)", text):
        service = of(everything, "Service").get(name)
        if service is None or int(port) not in {one["port"] for one in service["spec"]["ports"]}:
            yield f"{name}:{port}"
    for name in re.findall(r"deployment/([a-z-]+)", text):
        if name not in of(everything, "Deployment"):
            yield name


@pytest.mark.parametrize("path", ["docs/kubernetes.md", ".github/workflows/cd.yml"])
def test_what_is_typed_exists(path):
    text = (ROOT / path).read_text()
    assert "kubectl" in text
    assert list(wrong(text)) == []


@pytest.mark.parametrize(
    "typed",
    [
        "kubectl apply -f k8s/nothing.yaml",
        "kubectl apply -k deploy/kubernetes/nothing",
        "kubectl wait pod -l app=nothing",
        "kubectl port-forward svc/redis 3000:3000",
        "kubectl rollout status deployment/rabbitmq",
    ],
)
def test_what_does_not_exist_is_noticed(typed):
    assert list(wrong(typed))


def test_the_walk_through_applies_the_documented_files_in_an_order_that_works():
    """Also in the documented order alone, without PostgreSQL, no pod waits for a secret or a config map that nobody applied."""
    applied = re.findall(r"^kubectl apply -f k8s/([a-z-]+\.yaml)$", (ROOT / "docs/kubernetes.md").read_text(), re.MULTILINE)
    assert [name for name in applied if name in DOCUMENTED] == DOCUMENTED
    assert set(applied) == set(manifests.files())
    there = []
    for name in DOCUMENTED:
        there += parsed(manifests.files()[name])
        for workload in workloads(there).values():
            assert {one["configMapRef"]["name"] for one in pod(workload)["containers"][0].get("envFrom", [])} <= set(of(there, "ConfigMap"))
            for variable in pod(workload)["containers"][0].get("env", []):
                ref = variable.get("valueFrom", {}).get("secretKeyRef")
                assert ref is None or ref["name"] in of(there, "Secret") or ref.get("optional"), (name, variable)

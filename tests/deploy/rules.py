"""What must hold for everything that is deployed: each rule takes the resources and yields its complaints."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from sickbay.domain.errors import MissingSetting
from sickbay.runtime.settings import Settings, describe_settings
from sickbay.server.grpc.server import GRACE, LIVENESS, READINESS
from worker.app import SETTLE_S
from worker.choice import DEMO

ROOT = Path(__file__).parents[2]
PORTS = {"job-api": (3000, 50051), "worker": (3001, 50052), "control-plane": (3002, 50053)}
MODULES = {"job-api": "jobapi", "worker": "worker", "control-plane": "controlplane"}
USERS = {"job-api": "jobapi", "worker": "worker", "control-plane": "keeper"}
SET = {
    ("JOB_HANDLERS", DEMO),
    ("AUTH", "required"),
    ("API_KEYS_FILE", "/etc/sickbay/access/keys.json"),
    ("TLS_CERT_FILE", "/etc/sickbay/tls/tls.crt"),
    ("TLS_KEY_FILE", "/etc/sickbay/tls/tls.key"),
    ("HEALTH_PORT", "50060"),
}
"""What may differ from the defaults."""
CLIENT = {"SICKBAY_TLS_CA_FILE"}
"""For the command in a pod."""
CLOSING_S = 10
"""What a worker may take after its drain."""

Resource = dict[str, Any]


def parsed(text: str) -> list[Resource]:
    return [one for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one]


def of(resources: Iterable[Resource], *kinds: str) -> dict[str, Resource]:
    return {one["metadata"]["name"]: one for one in resources if one["kind"] in kinds}


def workloads(resources: Iterable[Resource]) -> dict[str, Resource]:
    return of(resources, "Deployment", "StatefulSet")


def pod(workload: Resource) -> Resource:
    return workload["spec"]["template"]["spec"]


def labels(workload: Resource) -> dict[str, str]:
    return workload["spec"]["template"]["metadata"]["labels"]


def settings(resources: list[Resource]) -> Iterator[str]:
    """Every variable is one of ours, with the documented default; the handlers are the demo's, or still to be named."""
    for name, value in of(resources, "ConfigMap")["sickbay-config"]["data"].items():
        if name in CLIENT:
            continue
        if name not in describe_settings():
            yield f"{name} is no setting"
        elif value != describe_settings()[name][0] and (name, value) not in SET:
            yield f"{name} is {value}, its default is {describe_settings()[name][0]}"


def health_port(resources: list[Resource]) -> int:
    """Where health alone answers; 0: nowhere."""
    return int(of(resources, "ConfigMap")["sickbay-config"]["data"].get("HEALTH_PORT", 0))


def tls(resources: list[Resource]) -> Iterator[str]:
    """The kubelet cannot ask by TLS, so that there must be another port; every file of the settings is mounted, as a whole folder."""
    data = of(resources, "ConfigMap")["sickbay-config"]["data"]
    if "TLS_CERT_FILE" in data and not health_port(resources):
        yield "TLS without a port for probes"
    folders = {value.rpartition("/")[0] for name, value in data.items() if name in {"API_KEYS_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE"}}
    for name, workload in workloads(resources).items():
        container = pod(workload)["containers"][0]
        if {"configMapRef": {"name": "sickbay-config"}} not in container.get("envFrom", []):
            continue
        mounted = {one["mountPath"] for one in container["volumeMounts"] if "subPath" not in one and one.get("readOnly")}
        for folder in sorted(folders - mounted):
            yield f"{name}: nothing is mounted at {folder}"


def probes(resources: list[Resource]) -> Iterator[str]:
    """Readiness asks whether to send traffic; what restarts a pod asks only whether it answers. Neither follows a server that goes away."""
    for name in PORTS:
        container = pod(workloads(resources)[name])["containers"][0]
        wanted = {"startupProbe": LIVENESS, "livenessProbe": LIVENESS, "readinessProbe": READINESS}
        for probe, health in wanted.items():
            port = health_port(resources) or PORTS[name][1]
            if container.get(probe, {}).get("grpc") != {"port": port, "service": health}:
                yield f"{name}: {probe} does not ask {health!r} on {port}"


def ports(resources: list[Resource]) -> Iterator[str]:
    """Pods open the documented ports, the services lead there, and the commands are the documented ones."""
    for name, (http, grpc) in PORTS.items():
        container = pod(workloads(resources)[name])["containers"][0]
        opened = {port["name"]: port["containerPort"] for port in container["ports"]}
        probed = health_port(resources)
        if opened != {"http": http, "grpc": grpc} | ({"health": probed} if probed else {}):
            yield f"{name} opens {opened}"
        if container["command"] != ["python", "-m", MODULES[name]]:
            yield f"{name} runs {container['command']}"
    for name, service in of(resources, "Service").items():
        behind = [one for one in workloads(resources).values() if service["spec"]["selector"].items() <= labels(one).items()]
        named = {port["name"]: port["containerPort"] for one in behind for port in pod(one)["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            if named.get(port["targetPort"]) != port["port"]:
                yield f"service {name}: nobody opens {port}"


def graces(resources: list[Resource]) -> Iterator[str]:
    """A pod is not killed before it has drained."""
    longest = float(of(resources, "ConfigMap")["sickbay-config"]["data"]["HANDLER_TIMEOUT"])
    for name in PORTS:
        needed = longest + SETTLE_S + CLOSING_S if name == "worker" else 5 + GRACE
        given = pod(workloads(resources)[name]).get("terminationGracePeriodSeconds", 30)
        if given < needed:
            yield f"{name} is killed after {given} s and needs {needed}"


def rollouts(resources: list[Resource]) -> Iterator[str]:
    """A new pod is well before an old one goes, and no node takes all of them."""
    for name in PORTS:
        spec = workloads(resources)[name]["spec"]
        if spec["strategy"]["rollingUpdate"]["maxUnavailable"] != 0 or spec.get("minReadySeconds", 0) < 5:
            yield f"{name} loses pods in a rollout"
        spreads = pod(workloads(resources)[name]).get("topologySpreadConstraints", [])
        if not any(one["topologyKey"] == "kubernetes.io/hostname" for one in spreads):
            yield f"{name} may have all pods on one node"
        budgets = [
            one for one in of(resources, "PodDisruptionBudget").values() if one["spec"]["selector"]["matchLabels"].get("app") == name
        ]
        if not budgets:
            yield f"{name} has no disruption budget"
    for name, scaler in of(resources, "HorizontalPodAutoscaler", "ScaledObject").items():
        if scaler["spec"]["scaleTargetRef"]["name"] not in workloads(resources) or "replicas" in workloads(resources)[name]["spec"]:
            yield f"{name}: its scaler and its deployment do not fit"


def security(resources: list[Resource]) -> Iterator[str]:
    """Nobody is root, writes outside of a volume, or holds what he does not need."""
    for name, workload in workloads(resources).items():
        spec = pod(workload)
        own = spec["containers"][0].get("securityContext", {})
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True}
        if not wanted.items() <= own.items() or own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} may do too much: {own}"
        if own.get("seccompProfile") != {"type": "RuntimeDefault"} or spec.get("automountServiceAccountToken") is not False:
            yield f"{name} has no seccomp profile, or a token"
        if name in PORTS and (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) != (10001, 10001):
            yield f"{name} is not 10001"
        if "requests" not in spec["containers"][0]["resources"] or "limits" not in spec["containers"][0]["resources"]:
            yield f"{name} has no requests or limits"
        if spec.get("serviceAccountName") not in of(resources, "ServiceAccount"):
            yield f"{name} has no service account of its own"


def references(resources: list[Resource]) -> Iterator[str]:
    """Every secret, key, config map and claim that is named is there."""
    keys = {name: set(one.get("data", {})) | set(one.get("stringData", {})) for name, one in of(resources, "Secret").items()}
    for name, workload in workloads(resources).items():
        for variable in pod(workload)["containers"][0].get("env", []):
            ref = variable.get("valueFrom", {}).get("secretKeyRef")
            if ref and ref["key"] not in keys.get(ref["name"], ()):
                yield f"{name}: {variable['name']} comes from nowhere"
        for volume in pod(workload)["volumes"]:
            secret, config, claim = (volume.get(kind, {}) for kind in ("secret", "configMap", "persistentVolumeClaim"))
            if secret and not secret.get("optional") and secret["secretName"] not in keys:
                yield f"{name}: no secret {secret['secretName']}"
            if config and config["name"] not in of(resources, "ConfigMap"):
                yield f"{name}: no config map {config['name']}"
            if claim and claim["claimName"] not in of(resources, "PersistentVolumeClaim"):
                yield f"{name}: no claim {claim['claimName']}"


def definitions(resources: list[Resource]) -> Iterator[str]:
    """RabbitMQ gets the definitions of deploy/rabbitmq, and each service the user that is meant for it."""
    secrets = of(resources, "Secret")
    if "rabbitmq-definitions" not in secrets:
        return
    told = json.loads(secrets["rabbitmq-definitions"]["stringData"]["definitions.json"])
    for kind, wanted in json.loads((ROOT / "deploy/rabbitmq/definitions.json").read_text()).items():
        got = [one for one in told[kind] if "guest" not in {one.get("name"), one.get("user")}]
        if got != wanted:
            yield f"{kind} are not those of deploy/rabbitmq/definitions.json"
    passwords = {one["name"]: one["password"] for one in told["users"]}
    for name, user in USERS.items():
        url = urlsplit(secrets["rabbitmq-urls"]["stringData"][name])
        if (url.username, url.password) != (user, passwords[user]):
            yield f"{name} comes to RabbitMQ as {url.username}"


def urls(resources: list[Resource]) -> Iterator[str]:
    """Every URL is one that the settings take as soon as its password has been changed, and not before."""
    for variable, secret in (("rabbitmq_url", "rabbitmq-urls"), ("redis_url", "redis-urls"), ("database_url", "database-urls")):
        for name, url in of(resources, "Secret")[secret].get("stringData", {}).items():
            if name in PORTS:
                Settings.read(**{variable: url.replace("CHANGE_ME", "changed")})
                with contextlib.suppress(MissingSetting):
                    Settings.read(**{variable: url})
                    yield f"{secret} {name}: a service starts with the password of the example"
                host = urlsplit(url).hostname
                if host not in of(resources, "Service", "RabbitmqCluster"):
                    yield f"{secret} {name}: no service {host}"


RULES = [settings, tls, probes, ports, graces, rollouts, security, references, definitions, urls]

"""Every rule holds for every way to deploy, and every rule notices what breaks it."""

import copy
from functools import cache

import pytest

from scripts import manifests
from sickbay.ports import LANES
from sickbay.runtime.settings_file import parse_file
from tests.deploy import rules
from tests.deploy.network import matches, may
from tests.deploy.rules import labels, of, parsed, pod, workloads

NAMES = ["files", "base", *manifests.NAMES, *(f"{name}+{component}" for name in manifests.NAMES for component in manifests.COMPONENTS)]
SERVERS = {"rabbitmq": 5672, "redis": 6379, "postgres": 5432}


@cache
def _texts():
    return {"files": "\n---\n".join(manifests.files().values())} | manifests.rendered()


def resources(name):
    return parsed(_texts()[name])


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_it_holds(name, rule):
    if rule is rules.urls and name.startswith("external"):
        pytest.skip("managed servers have URLs of their own, see below")
    assert list(rule(resources(name))) == []


def _container(all_of_it, name):
    return pod(workloads(all_of_it)[name])["containers"][0]


BREAKS = {
    "TLS without a port for probes": (
        rules.tls,
        lambda r: of(r, "ConfigMap")["sickbay-config"]["data"].update(TLS_CERT_FILE="/tls/tls.crt"),
    ),
    "keys that nobody mounts": (rules.tls, lambda r: of(r, "ConfigMap")["sickbay-config"]["data"].update(API_KEYS_FILE="/keys/keys.json")),
    "a probe beside the port for probes": (
        rules.probes,
        lambda r: of(r, "ConfigMap")["sickbay-config"]["data"].update(HEALTH_PORT="50060"),
    ),
    "another default": (rules.settings, lambda r: of(r, "ConfigMap")["sickbay-config"]["data"].update(MAX_RETRIES="4")),
    "an unknown variable": (rules.settings, lambda r: of(r, "ConfigMap")["sickbay-config"]["data"].update(MAX_RETRY="3")),
    "liveness asks readiness": (rules.probes, lambda r: _container(r, "worker")["livenessProbe"]["grpc"].update(service="")),
    "startup asks readiness": (rules.probes, lambda r: _container(r, "job-api")["startupProbe"]["grpc"].update(service="")),
    "readiness asks a stranger": (rules.probes, lambda r: _container(r, "job-api")["readinessProbe"]["grpc"].update(service="x")),
    "a probe on another port": (rules.probes, lambda r: _container(r, "job-api")["readinessProbe"]["grpc"].update(port=50052)),
    "another port": (rules.ports, lambda r: _container(r, "job-api")["ports"][0].update(containerPort=3001)),
    "a service to nowhere": (rules.ports, lambda r: of(r, "Service")["redis"]["spec"]["selector"].update(app="rabbitmq")),
    "another command": (rules.ports, lambda r: _container(r, "worker").update(command=["worker"])),
    "a short grace": (rules.graces, lambda r: pod(workloads(r)["worker"]).update(terminationGracePeriodSeconds=49)),
    "a longer handler": (rules.graces, lambda r: of(r, "ConfigMap")["sickbay-config"]["data"].update(HANDLER_TIMEOUT="31")),
    "a rollout with a gap": (
        rules.rollouts,
        lambda r: workloads(r)["worker"]["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1),
    ),
    "replicas beside a scaler": (rules.rollouts, lambda r: workloads(r)["worker"]["spec"].update(replicas=3)),
    "no budget": (rules.rollouts, lambda r: r.remove(of(r, "PodDisruptionBudget")["worker"])),
    "root": (rules.security, lambda r: _container(r, "redis")["securityContext"].update(runAsNonRoot=False)),
    "a writable root": (rules.security, lambda r: _container(r, "rabbitmq")["securityContext"].update(readOnlyRootFilesystem=False)),
    "a capability": (rules.security, lambda r: _container(r, "worker")["securityContext"]["capabilities"].update(add=["NET_RAW"])),
    "a token": (rules.security, lambda r: pod(workloads(r)["worker"]).pop("automountServiceAccountToken")),
    "no limits": (rules.security, lambda r: _container(r, "worker")["resources"].pop("limits")),
    "a missing key": (rules.references, lambda r: of(r, "Secret")["redis-urls"]["stringData"].pop("worker")),
    "a missing secret": (rules.references, lambda r: r.remove(of(r, "Secret")["rabbitmq-definitions"])),
    "a wrong password": (
        rules.definitions,
        lambda r: of(r, "Secret")["rabbitmq-urls"]["stringData"].update(worker="amqp://worker:x@rabbitmq:5672/"),
    ),
    "a wrong user": (
        rules.definitions,
        lambda r: of(r, "Secret")["rabbitmq-urls"]["stringData"].update(worker="amqp://keeper:CHANGE_ME_keeper@rabbitmq:5672/"),
    ),
    "a password that is known": (
        rules.urls,
        lambda r: of(r, "Secret")["database-urls"]["stringData"].update(worker="postgresql://sickbay:sickbay@postgres:5432/sickbay"),
    ),
    "a missing server": (rules.urls, lambda r: of(r, "Secret")["redis-urls"]["stringData"].update(worker="redis://elsewhere:6379/0")),
}


@pytest.mark.parametrize("what", BREAKS)
def test_the_rule_notices(what):
    rule, damage = BREAKS[what]
    broken = copy.deepcopy(resources("files"))
    damage(broken)
    assert list(rule(broken))


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("external")])
def test_who_may_talk_to_whom(name):
    everything = resources(name)
    for service in rules.PORTS:
        for server, port in SERVERS.items():
            if server in workloads(everything):
                assert may(everything, service, server, port), (service, server)
                assert not may(everything, server, service, rules.PORTS[service][0])
                assert not may(everything, "outsider", server, port)
    assert may(everything, "outsider", "job-api", 3000)
    assert may(everything, "outsider", "job-api", 50051)
    assert not may(everything, "outsider", "control-plane", 3002)
    assert not may(everything, "outsider", "worker", 50052)
    assert may(everything, "job-api", "dns", 53)
    assert not may(everything, "job-api", "smtp", 25)
    assert may(everything, "worker", "smtp", 25)


def test_only_our_services_may_send_traces():
    everything = resources("files")
    traces = of(everything, "NetworkPolicy")["traces"]
    assert traces["spec"]["egress"][0]["ports"] == [{"port": 4317}]
    assert {name for name, one in workloads(everything).items() if matches(traces["spec"]["podSelector"], labels(one))} == set(rules.PORTS)


@pytest.mark.parametrize("policy", ["job-api-servers", "redis", "sickbay-dns"])
def test_a_missing_policy_is_noticed(policy):
    everything = resources("files")
    everything.remove(of(everything, "NetworkPolicy")[policy])
    with pytest.raises(AssertionError):
        _whole(everything)


def _whole(everything):
    assert may(everything, "job-api", "redis", 6379)
    assert not may(everything, "redis", "redis", 6379)
    assert may(everything, "job-api", "dns", 53)


@pytest.mark.parametrize("name", ["production", "external"])
def test_a_service_does_not_start_without_its_database(name):
    for service in rules.PORTS:
        variables = {one["name"]: one for one in _container(resources(name), service)["env"]}
        assert variables["DATABASE_URL"]["valueFrom"]["secretKeyRef"]["optional"] is False
    assert workloads(resources(name))["control-plane"]["spec"]["replicas"] == 2


@pytest.mark.parametrize(("name", "modules"), [("files", "worker.demo"), ("local", "worker.demo"), ("production", ""), ("external", "")])
def test_the_demo_runs_where_one_tries_things_out_and_nowhere_else(name, modules):
    """The documented walk-through shows the demo; for production one has to name one's own handlers."""
    assert of(resources(name), "ConfigMap")["sickbay-config"]["data"]["JOB_HANDLERS"] == modules


def test_production_has_three_nodes_with_the_same_definitions():
    everything = resources("production")
    cluster = of(everything, "RabbitmqCluster")["rabbitmq"]["spec"]
    assert cluster["replicas"] == 3
    volumes = cluster["override"]["statefulSet"]["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["secret"]["secretName"] in of(everything, "Secret")
    assert "rabbitmq" not in workloads(everything)
    assert all(one["spec"]["tls"] for one in of(everything, "Ingress").values())


def test_managed_servers_are_asked_over_tls():
    import base64

    from sickbay.runtime.settings import Settings

    everything = resources("external")
    assert set(workloads(everything)) == set(rules.PORTS)
    for secret, variable, scheme in (
        ("rabbitmq", "rabbitmq_url", "amqps:"),
        ("redis", "redis_url", "rediss:"),
        ("database", "database_url", "post"),
    ):
        data = of(everything, "Secret")[f"{secret}-urls"]["data"]
        assert set(data) == set(rules.PORTS)
        for encoded in data.values():
            url = base64.b64decode(encoded).decode().replace("CHANGE_ME", "changed")
            Settings.read(**{variable: url})
            assert url.startswith(scheme)
            assert scheme != "post" or "sslmode=verify-full" in url


@pytest.mark.parametrize("name", manifests.NAMES)
def test_keda_replaces_the_worker_scaler(name):
    everything = resources(f"{name}+keda")
    assert set(of(everything, "HorizontalPodAutoscaler")) == {"job-api"}
    scaled = of(everything, "ScaledObject")["worker"]["spec"]
    assert {trigger["metadata"]["queueName"] for trigger in scaled["triggers"]} == {queue.value for queue in LANES.values()}
    authentication = of(everything, "TriggerAuthentication")[scaled["triggers"][0]["authenticationRef"]["name"]]
    wanted = authentication["spec"]["secretTargetRef"][0]
    assert wanted["key"] in of(everything, "Secret")[wanted["name"]]["stringData"]


@pytest.mark.parametrize("name", manifests.NAMES)
def test_the_settings_file_reaches_those_that_read_it(name):
    """A valid one, at the path that SICKBAY_CONFIG names, and as a folder: a `subPath` would never be updated."""
    everything = resources(f"{name}+settings-file")
    (file, text), *others = of(everything, "ConfigMap")["sickbay-settings-file"]["data"].items()
    assert others == []
    assert parse_file(text.encode(), file).types
    for service in rules.PORTS:
        container = _container(everything, service)
        paths = [one["value"] for one in container["env"] if one["name"] == "SICKBAY_CONFIG"]
        mounts = {one["name"]: one for one in container["volumeMounts"]}
        assert paths == [f"{mounts['settings-file']['mountPath']}/{file}"]
        assert "subPath" not in mounts["settings-file"]
        assert {"name": "settings-file", "configMap": {"name": "sickbay-settings-file"}} in [
            {"name": one["name"], "configMap": {"name": one.get("configMap", {}).get("name")}}
            for one in pod(workloads(everything)[service])["volumes"]
        ]


@pytest.mark.parametrize("name", ["production", "external"])
def test_production_answers_nobody_without_a_key(name):
    data = of(resources(name), "ConfigMap")["sickbay-config"]["data"]
    assert (data["AUTH"], data["API_KEYS_FILE"]) == ("required", "/etc/sickbay/access/keys.json")
    assert "AUTH_EXEMPT" not in data


def test_the_access_component_goes_with_an_overlay_of_ones_own():
    everything = parsed(manifests.with_component("local", "access"))
    assert [complaint for rule in rules.RULES for complaint in rule(everything)] == []
    assert of(everything, "ConfigMap")["sickbay-config"]["data"]["AUTH"] == "required"


@pytest.mark.parametrize("name", manifests.NAMES)
def test_with_tls_the_kubelet_has_a_port_of_its_own_that_nobody_else_reaches(name):
    everything = resources(f"{name}+tls")
    for service in rules.PORTS:
        assert _container(everything, service)["readinessProbe"]["grpc"]["port"] == 50060
        for other in ("outsider", *rules.PORTS):
            assert not may(everything, other, service, 50060)
    certificate = of(everything, "Certificate")["sickbay-tls"]["spec"]
    assert {*rules.PORTS, "localhost"} <= set(certificate["dnsNames"])
    assert pod(workloads(everything)["job-api"])["volumes"][-1]["secret"]["secretName"] == certificate["secretName"]
    for ingress in of(everything, "Ingress").values():
        assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/backend-protocol"].endswith("S")


def test_prometheus_sends_a_key_where_one_is_needed():
    assert "authorization" not in of(resources("local+monitoring"), "PodMonitor")["sickbay"]["spec"]["podMetricsEndpoints"][0]
    [endpoint] = of(resources("production+monitoring-with-key"), "PodMonitor")["sickbay"]["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": {"name": "sickbay-metrics-key", "key": "token"}}

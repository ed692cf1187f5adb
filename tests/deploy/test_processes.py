"""The manifests' own commands, health names and grace, on running processes."""

import shutil
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from scripts import manifests
from scripts.servers import free_port
from tests.deploy.rules import PORTS, of, parsed, pod, workloads
from tests.support.process import Process

STATUSES = health_pb2.HealthCheckResponse.ServingStatus


@pytest.mark.parametrize("name", PORTS)
def test_a_pod_that_waits_for_its_servers_is_alive_and_not_ready(name, tmp_path):
    everything = parsed("\n---\n".join(manifests.files().values()))
    container = pod(workloads(everything)[name])["containers"][0]
    port = free_port()
    nobody = free_port()
    env = of(everything, "ConfigMap")["sickbay-config"]["data"] | {
        "BIND_HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "GRPC_PORT": str(port),
        "RABBITMQ_URL": f"amqp://worker:x@127.0.0.1:{nobody}/",
        "REDIS_URL": f"redis://:x@127.0.0.1:{nobody}/0",
        "DATABASE_URL": f"postgresql://sickbay:x@127.0.0.1:{nobody}/sickbay",
    }
    process = Process(container["command"][2:], tmp_path, env)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)

            def ask(probe):
                request = health_pb2.HealthCheckRequest(service=container[probe]["grpc"]["service"])
                return health.Check(request, timeout=30, wait_for_ready=True).status

            assert ask("startupProbe") == ask("livenessProbe") == STATUSES.SERVING
            assert ask("readinessProbe") == STATUSES.NOT_SERVING
        process.terminate()
        assert process.wait() == 0
    finally:
        process.process.kill()


def test_kubectl_reads_the_folder_and_passes_kustomize_by(tmp_path):
    """`kubectl apply -f k8s/` reads each file; the documented sed reaches every image."""
    folder = shutil.copytree(manifests.FILES, tmp_path / "k8s")
    subprocess.run("sed -i 's|YOUR_DOCKERHUB_USERNAME|somebody|g' k8s/*.yaml", shell=True, cwd=tmp_path, check=True)  # noqa: S602 - as documented
    kubectl = shutil.which("kubectl", path=str(manifests.Path(sys.executable).parent))
    words = [kubectl, "annotate", "--local", "--dry-run=client", "-f", folder, "a=b", "-o", "name"]
    names = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert len(names) == len(parsed("\n---\n".join(manifests.files().values())))
    assert {"deployment.apps/worker", "deployment.apps/redis", "statefulset.apps/rabbitmq"} <= set(names)
    images = {pod(one)["containers"][0]["image"] for path in folder.glob("*.yaml") for one in workloads(parsed(path.read_text())).values()}
    assert {"somebody/job-api:latest", "somebody/worker:latest", "somebody/control-plane:latest"} <= images
    assert "YOUR_DOCKERHUB" not in "".join(path.read_text() for path in folder.glob("*.yaml"))

"""What the image is, and that it runs every service with nothing writable and no rights. `make test-image` runs this."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from scripts import engine
from scripts.servers import free_port
from tests.image.container import TAG, Container, inspect
from tests.support.clients import Clients

pytestmark = pytest.mark.timeout(300)
UID = "10001"
LARGEST_MB = 160
SLEEP_S = 3
HANDLERS = """
from sickbay import Job, handler

@handler("own")
async def own(job: Job) -> None:
    print("my own handler ran", job.payload["number"])
"""


class Fleet:
    """The three services in containers, as `Clients` wants them."""

    def __init__(self, ports):
        self.ports = ports


def ports() -> dict[str, str]:
    return {"PORT": str(free_port()), "GRPC_PORT": str(free_port())}


def numbers(own) -> tuple[int, int]:
    return int(own["PORT"]), int(own["GRPC_PORT"])


def output(*words: str, options=()) -> str:
    return engine.run("run", "--rm", *options, TAG, *words).stdout


def test_it_says_what_it_is():
    told = inspect()["Config"]
    assert told["User"] == f"{UID}:{UID}"
    assert told["StopSignal"] in {"SIGTERM", "15"}
    assert set(told["ExposedPorts"]) == {f"{port}/tcp" for port in (3000, 3001, 3002, 50051, 50052, 50053)}
    assert told["Labels"]["org.opencontainers.image.title"] == "Sickbay"
    assert told["Labels"]["org.opencontainers.image.version"]
    assert {"PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONSAFEPATH=1"} <= set(told["Env"])


def test_it_has_no_tools_and_nothing_that_its_user_may_change():
    """No compiler, no installer, no build backend, no shell history of the build; one folder for data."""
    assert output("sh", "-c", "id -u; id -g").split() == [UID, UID]
    assert output("sh", "-c", "command -v gcc cc make git curl || true") == ""
    script = "from importlib.util import find_spec; print([n for n in ('hatchling', 'pip', 'editables', 'pytest') if find_spec(n)])"
    assert output("python", "-c", script).strip() == "[]"
    found = output("sh", "-c", "find / -xdev -writable -type d -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null | sort").split()
    assert set(found) <= {"/var/lib/sickbay", "/tmp", "/var/tmp", "/run/lock"}  # noqa: S108 - the last three lie in every base


def test_everything_in_it_is_compiled():
    """A read-only container would compile it anew at every start."""
    script = (
        "import compileall, pathlib, importlib.util as u; root = pathlib.Path('/opt/sickbay/lib');"
        "print(len([p for p in root.rglob('*.py') if not pathlib.Path(u.cache_from_source(p)).exists()]), len(list(root.rglob('*.py'))))"
    )
    missing, files = map(int, output("python", "-c", script).split())
    assert missing == 0
    assert files > 1_000


def test_it_is_small():
    """What we add to the base, in MB on the disk; the base is somebody else's."""
    size = int(output("sh", "-c", "du -sm /opt/sickbay | cut -f1"))
    assert size <= LARGEST_MB


@pytest.mark.parametrize("words", [(), ("--help",), ("sickbay", "--help"), ("python", "-m", "sickbay_cli", "--help")])
def test_the_entry_point_takes_verbs_and_programs(words):
    assert "Start all three services in one process" in output(*words)


def test_a_health_check_says_no_until_the_servers_have_answered(start):
    """RabbitMQ is not there, so the service listens and is not well; where nothing listens nothing is well."""
    own = ports()
    waiting = start("jobapi", env={**own, "RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{free_port()}"})
    while "connection refused" in waiting.health()[1]:
        pass  # every question takes a tenth of a second
    code, words = waiting.health()
    assert (code, words.partition(",")[0]) == (1, f"port {own['PORT']}: 503")
    assert "broker is down" in words
    assert waiting.stop() == 0
    nobody = start("sh", "-c", "exec tail -f /dev/null", env=ports())
    assert nobody.health()[0] == 1
    nobody.signal("KILL")


def test_the_three_services_work_and_drain(start, corner):
    """Each in another of the documented forms; a job that runs when SIGTERM comes is finished, once, and all end with 0."""
    api, plane, work = ports(), ports(), ports()
    services = [
        start("jobapi", env={**corner.env, **api}),
        start("sickbay", "controlplane", env={**corner.env, **plane}),
        start("python", "-m", "worker", env={**corner.env, **work, "JOB_HANDLERS": "worker.demo"}),
    ]
    for service in services:
        service.healthy()
    with Clients(Fleet({"Job API": numbers(api), "Worker": numbers(work), "Control plane": numbers(plane)})) as sickbay:
        sickbay.wait(sickbay.submit("email", {"simulate": "ok"}), "SUCCEEDED")
        long = sickbay.submit("email", {"simulate": f"sleep:{SLEEP_S}"})
        sickbay.wait(long, "RUNNING")
        services[2].signal("TERM")
        assert services[2].wait() == 0, services[2].logs
        sickbay.wait(long, "SUCCEEDED")
        assert sickbay.states(long) == ["QUEUED", "RUNNING", "SUCCEEDED"]
    assert [service.stop() for service in services[:2]] == [0, 0]
    assert all('"level": "error"' not in service.logs for service in services)


def test_up_keeps_its_data_in_the_volume(start):
    """The whole system in one read-only container; what was accepted before is known after."""
    numbered = {service: (free_port(), free_port()) for service in ("jobapi", "worker", "control-plane")}
    options = [word for name, (rest, grpc) in numbered.items() for word in (f"--{name}-port", str(rest), f"--{name}-grpc-port", str(grpc))]
    volume = f"sickbay-test-{free_port()}"
    url = f"http://127.0.0.1:{numbered['jobapi'][0]}"
    job = token = ""
    try:
        for _ in range(2):
            up = start("up", *options, env={"PORT": str(numbered["control-plane"][0])}, options=("--volume", f"{volume}:/var/lib/sickbay"))
            up.healthy()
            token = token or engine.run("exec", up.name, "cat", "/var/lib/sickbay/token").stdout.strip()
            headers = {"authorization": f"Bearer {token}"}
            assert httpx.get(f"{url}/jobs").status_code == 401, "it listens on all addresses"
            new = {"jobType": "sms", "payload": {"simulate": "VALIDATION_ERROR"}}
            job = job or httpx.post(f"{url}/jobs", headers=headers, json=new).json()["jobId"]
            assert httpx.get(f"{url}/jobs/{job}", headers=headers).json()["jobType"] == "sms", "job and token are kept"
            assert up.stop() == 0, up.logs
            up.remove()
    finally:
        engine.run("volume", "rm", "--force", volume)


def test_a_control_plane_without_a_database_and_without_a_volume_says_what_it_needs(start, corner):
    alone = start("controlplane", env={**ports(), "RABBITMQ_URL": corner.rabbitmq, "REDIS_URL": corner.redis})
    assert alone.wait() == 1
    assert "/var/lib/sickbay" in alone.logs
    assert "Traceback" not in alone.logs


def test_own_handlers_are_one_more_layer(start, corner, tmp_path: Path):
    """`FROM sickbay` and a COPY, as docs/deployment.md says."""
    (tmp_path / "my_handlers.py").write_text(HANDLERS)
    (tmp_path / "Dockerfile").write_text(f"FROM {TAG}\nCOPY my_handlers.py .\nENV JOB_HANDLERS=my_handlers\n")
    own = f"{TAG}-own"
    engine.build(own, tmp_path)
    try:
        api, plane, work = ports(), ports(), ports()
        started: list[Container] = [
            start(verb, image=own, env={**corner.env, **where})
            for verb, where in (("jobapi", api), ("controlplane", plane), ("worker", work))
        ]
        for service in started:
            service.healthy()
        with Clients(Fleet({"Job API": numbers(api), "Worker": numbers(work), "Control plane": numbers(plane)})) as sickbay:
            sickbay.wait(sickbay.submit("own", {"number": 4711}), "SUCCEEDED")
        assert "my own handler ran 4711" in started[2].logs
        for service in started:
            service.remove()
    finally:
        engine.run("rmi", "--force", own)

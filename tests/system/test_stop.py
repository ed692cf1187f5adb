"""Stopping and starting again: running jobs finish, waiting ones wait, and what was promised is kept."""

from __future__ import annotations

from collections.abc import Callable

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.system_under_test import Product
from tests.support.waiting import until

ENV = {"JOB_HANDLERS": "clinic_handlers", "CONCURRENCY": "1"}
STOPPING = "stopping"
SERVICES = {"Job API": "sickbay.jobs.v1.JobService", "Worker": "", "Control plane": "sickbay.breakers.v1.BreakerService"}


def assert_not_serving(sickbay: Clients, running: str) -> None:
    """Health checks say so on all six ports, the doors still answer, and the job still runs."""
    for name, service in SERVICES.items():
        answer = sickbay.health[name].Check(HealthCheckRequest(service=service), timeout=10)
        assert answer.status == HealthCheckResponse.NOT_SERVING, name
    for door in (sickbay.api, sickbay.worker, sickbay.plane):
        health = door.get("/health")
        assert (health.status_code, health.json()["status"], health.json()["info"]) == (503, "error", {"api": {"status": "down"}})
        assert {check["status"] for check in health.json()["checks"].values()} == {"up"}
        assert (door.get("/health/ready").status_code, door.get("/health/live").status_code) == (503, 200)
    assert sickbay.job(running)["state"] == "RUNNING"


def not_serving(sickbay: Clients) -> None:
    """Wait until the worker, the last to say so, says NOT_SERVING."""
    for answer in sickbay.health["Worker"].Watch(HealthCheckRequest(), timeout=30):
        if answer.status == HealthCheckResponse.NOT_SERVING:
            return


def test_stopping_lets_the_running_job_finish_and_keeps_the_waiting_ones(own_clinic: Clinic, start: Callable[..., Product]):
    """SIGTERM: exit code 0, the running job ran once and succeeded, the queued ones run after the restart; a cancelled one does not."""
    product = start(own_clinic.folder, ENV).ready()
    with Clients(product) as sickbay:
        running = sickbay.submit("held", {"do": own_clinic.make_gate("first")})
        sickbay.wait(running, "RUNNING")
        *waiting, unwanted = sickbay.submit_all("ok", {"number": 1}, {"number": 2}, {"number": 3})
        cancelled = sickbay.api.post(f"/jobs/{unwanted}/cancel")
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "CANCELLED")
        with sickbay.api.stream("GET", f"/jobs/{waiting[0]}/events") as events:
            product.terminate()
            not_serving(sickbay)
            assert_not_serving(sickbay, running)
            own_clinic.open_gate("first")
            assert product.wait() == 0, "a watcher does not keep it alive"
            assert "SUCCEEDED" not in events.read().decode(), "its stream came to a clean end"
    assert own_clinic.count("ok") == {}

    product = start(own_clinic.folder, ENV).ready()
    with Clients(product) as sickbay:
        sickbay.wait_all([running, *waiting], "SUCCEEDED")
        assert own_clinic.count("held") == {running: 1}
        assert own_clinic.count("ok") == dict.fromkeys(waiting, 1)
        assert sickbay.job(unwanted)["state"] == "CANCELLED"

        stubborn = sickbay.submit("held", {"do": own_clinic.make_gate("second")})
        sickbay.wait(stubborn, "RUNNING")
        product.terminate()
        assert product.logged(STOPPING)
        product.terminate()
        assert product.wait() == 0

    own_clinic.open_gate("second")
    with Clients(start(own_clinic.folder, ENV).ready()) as sickbay:
        sickbay.wait(stubborn, "SUCCEEDED")
        job = sickbay.job(stubborn)
        assert (job["attempt"], job["errors"]) == (0, [])
        assert own_clinic.count("held")[stubborn] == 2


def test_a_handler_that_swallows_its_cancellation_does_not_keep_the_process(own_clinic: Clinic, start: Callable[..., Product]):
    """The second signal breaks everything off; what does not obey is left behind, told, and its job runs again."""
    product = start(own_clinic.folder, ENV).ready()
    with Clients(product) as sickbay:
        endless = sickbay.submit("held", {"do": "swallow"})
        sickbay.wait(endless, "RUNNING")
        product.terminate()
        assert product.logged(STOPPING)
        product.terminate()
        assert product.logged("cannot be stopped; its job will run again")
        assert product.wait() == 0
    product = start(own_clinic.folder, ENV).ready()
    until(lambda: len(own_clinic.runs(job_id=endless)) == 2)
    product.terminate()
    assert product.logged(STOPPING)
    product.terminate()

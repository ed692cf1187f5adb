"""Stopping, replacing and holding up the distributed form: nothing lost, nothing run twice, and everybody told in time."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_status import rpc_status

from scripts.servers import RabbitMQ, free_port
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet, Service
from tests.support.isolated_servers import Corner
from tests.support.plain_http import NO_TLS
from tests.support.waiting import until
from tests.system.conftest import QUICK

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
JOBS: Final = 300
EXHAUSTED: Final = "0.0001"
AGAIN: Final = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.CANCELLED}
"""How a call ends that may be repeated under its key."""


def duplicates(sickbay: Clients) -> int:
    """What the system itself tells of copies that ran or were dropped."""
    return int(sickbay.plane.get("/metrics").json()["duplicates"])


def not_serving(port: int) -> None:
    """Wait for gRPC health to say so."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for answer in HealthStub(channel).Watch(HealthCheckRequest(), timeout=30):
            if answer.status == HealthCheckResponse.NOT_SERVING:
                return


def test_a_worker_that_stops_hands_on_what_it_has_not_begun(fleet: Fleet, own_clinic: Clinic):
    """Health first, running jobs finish, waiting ones go to the other worker unmarked: every job runs once, and nothing is a suspect."""
    fleet.env["CONCURRENCY"] = "10"
    fleet.launch_all(workers=2).ready()
    with Clients(fleet) as sickbay:
        first = fleet.workers[0]
        hold = own_clinic.make_gate("drain")
        held = sickbay.submit_all("held", *({"do": hold, "number": number} for number in range(20)))
        sickbay.wait_all(held, "RUNNING")
        ids = sickbay.submit_all("ok", *({"number": number} for number in range(JOBS)))
        http, rpc = first.ports
        first.terminate()
        not_serving(rpc)
        assert httpx.get(f"http://127.0.0.1:{http}/health", trust_env=False, verify=NO_TLS).status_code == 503
        assert first.process.poll() is None, "its jobs still run"
        own_clinic.open_gate("drain")
        sickbay.wait_all([*held, *ids], "SUCCEEDED")
        assert first.wait() == 0
        fleet.retire(first)
        assert Counter(run.job for run in own_clinic.runs()) == dict.fromkeys([*held, *ids], 1)
        assert duplicates(sickbay) == 0


def test_a_rolling_restart_under_traffic(fleet: Fleet, own_clinic: Clinic):
    """Two workers, the Job API and the control plane are replaced one after the other while a client goes on; each job is done once."""
    ports = {module: {"PORT": str(free_port()), "GRPC_PORT": str(free_port())} for module in ("jobapi", "controlplane")}
    fleet.launch("worker", 2)
    for module, chosen in ports.items():
        fleet.launch(module, **chosen)
    fleet.ready()
    over = Event()
    accepted: list[str] = []
    client = Thread(target=submit_until, args=(f"127.0.0.1:{ports['jobapi']['GRPC_PORT']}", over, accepted))
    client.start()
    try:
        for service in [*fleet.workers, *fleet.services["jobapi"], *fleet.services["controlplane"]]:
            before = len(accepted)
            if service.module == "worker":
                fleet.launch("worker")[0].ready()
                stop(fleet, service)
            else:
                stop(fleet, service)
                fleet.launch(service.module, **ports[service.module])[0].ready()
            until(lambda before=before: len(accepted) > before + 20)
    finally:
        over.set()
        client.join()
    with Clients(fleet) as sickbay:
        until(lambda: all(sickbay.api.get(f"/jobs/{job_id}").status_code == 200 for job_id in accepted[-20:]))
        sickbay.wait_all(accepted, "SUCCEEDED")
        assert Counter(run.job for run in own_clinic.runs(what="done")) == dict.fromkeys(accepted, 1)
        assert duplicates(sickbay) == 0


def stop(fleet: Fleet, service: Service) -> None:
    """As Kubernetes does."""
    service.terminate()
    service.end_well()
    fleet.retire(service)


def submit_until(target: str, over: Event, accepted: list[str]) -> None:
    """A client as clients should be: a key for each job, and the same call again while nobody answers."""
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]
    with grpc.insecure_channel(target, options) as channel:
        stub = JobServiceStub(channel)
        for number in itertools.count():
            request = SubmitJobRequest(job_type="ok", payload_json=json.dumps({"number": number}), request_id=f"rolling-{number}")
            while True:
                try:
                    accepted.append(stub.SubmitJob(request, timeout=10).job.job_id)
                    break
                except grpc.RpcError as error:
                    if error.code() not in AGAIN:
                        raise
                    over.wait(0.05)
            if over.wait(0.005):
                return


def test_what_is_broken_off_runs_again_uncharged(fleet: Fleet, own_clinic: Clinic):
    """A second signal waits for nobody; the job runs elsewhere, its attempt and its circuit untouched."""
    fleet.launch_all(workers=1).ready()
    (first,) = fleet.workers
    with Clients(fleet) as sickbay:
        stubborn = sickbay.submit("held", {"do": own_clinic.make_gate("never")})
        sickbay.wait(stubborn, "RUNNING")
        first.terminate()
        assert first.logged("stopping")
        first.terminate()
        assert first.wait() == 0
        fleet.retire(first)
        own_clinic.open_gate("never")
        fleet.launch("worker")[0].ready()
        sickbay.wait(stubborn, "SUCCEEDED")
        job = sickbay.job(stubborn)
        assert (job["attempt"], job["errors"]) == (0, [])
        assert sickbay.breaker("held")["state"] == "CLOSED"


@pytest.fixture
def own_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A RabbitMQ that a test may hold up."""
    with RabbitMQ(Path(tmp_path_factory.mktemp("rabbitmq"))) as server:
        yield server


@pytest.mark.long
def test_a_memory_alarm_holds_submits_up_and_loses_nothing(own_rabbitmq: RabbitMQ, corner: Corner, own_clinic: Clinic):
    """Submits are told when to come again, running jobs are still settled or wait for it, and it all goes on by itself afterwards."""
    with Fleet(own_clinic.folder, QUICK | dict(corner.env) | {"RABBITMQ_URL": own_rabbitmq.url}) as fleet:
        fleet.launch_all(workers=1).ready()
        with Clients(fleet) as sickbay:
            hold = own_clinic.make_gate("alarm")
            running = sickbay.submit_all("held", *({"do": hold, "number": number} for number in range(5)))
            sickbay.wait_all(running, "RUNNING")
            own_rabbitmq.control("set_vm_memory_high_watermark", EXHAUSTED)
            own_clinic.open_gate("alarm")
            with pytest.raises(grpc.RpcError) as caught:
                sickbay.jobs.SubmitJob(SubmitJobRequest(job_type="ok", payload_json="{}", request_id="alarm"), timeout=30)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert retry_info(caught.value).retry_delay.ToMilliseconds() > 0
            answer = sickbay.api.post("/jobs", json={"jobType": "ok", "payload": {}})
            assert (answer.status_code, answer.json()["reason"]) == (503, "BACKEND_UNAVAILABLE")
            assert int(answer.headers["Retry-After"]) > 0
            wanted = [SubmitJobRequest(job_type="ok", payload_json="{}") for _ in range(3)]
            (*errors,) = [
                result.error for result in sickbay.jobs.BatchSubmitJobs(BatchSubmitJobsRequest(requests=wanted), timeout=30).results
            ]
            assert [error.code for error in errors] == [grpc.StatusCode.UNAVAILABLE.value[0]] * 3

            own_rabbitmq.control("set_vm_memory_high_watermark", "0.4")
            again = SubmitJobRequest(job_type="ok", payload_json="{}", request_id="alarm")
            ids: list[str] = []
            until(lambda: accepted(sickbay, again, ids))
            sickbay.wait_all([*running, *ids], "SUCCEEDED")
            until(lambda: sickbay.jobs_of("ok")["jobs"] and all(job["state"] == "SUCCEEDED" for job in sickbay.jobs_of("ok")["jobs"]))
            assert Counter(run.job for run in own_clinic.runs(what="done") if run.job in running) == dict.fromkeys(running, 1)


def accepted(sickbay: Clients, request: SubmitJobRequest, ids: list[str]) -> bool:
    """Try the same submit again; whether it was taken now (or the first time already)."""
    try:
        ids.append(sickbay.jobs.SubmitJob(request, timeout=30).job.job_id)
    except grpc.RpcError as error:
        if error.code() not in AGAIN:
            raise
        return False
    return True


def retry_info(error: grpc.RpcError) -> error_details_pb2.RetryInfo:
    """The detail that says when to come again."""
    info = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)
    assert status
    assert any(detail.Unpack(info) for detail in status.details)
    return info


def test_rabbitmq_taking_a_message_back_loses_nothing(own_rabbitmq: RabbitMQ, corner: Corner, own_clinic: Clinic):
    """Should a handler outlive RabbitMQ's own limit all the same: the session comes back, and the job is done."""
    own_rabbitmq.control("eval", "application:set_env(rabbit, consumer_timeout, 1000).")
    own_rabbitmq.control("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
    with Fleet(own_clinic.folder, QUICK | dict(corner.env) | {"RABBITMQ_URL": own_rabbitmq.url}) as fleet:
        fleet.launch_all(workers=1).ready()
        with Clients(fleet) as sickbay:
            held = sickbay.submit("held", {"do": own_clinic.make_gate("long")})
            sickbay.wait(held, "RUNNING")
            assert fleet.workers[0].logged("the connection was lost")
            own_clinic.open_gate("long")
            sickbay.wait(held, "SUCCEEDED")
            sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
            assert len(own_clinic.runs(job_id=held)) <= 2

"""Limits on submissions: REST, gRPC, batches and the command are told alike, and two Job APIs share one bucket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest
from click.testing import CliRunner
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client.parser import text_string_to_metric_families as plain

from sickbay.jobs.v1.error_reason_pb2 import ERROR_REASON_SUBMISSION_RATE_EXCEEDED
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from sickbay_cli.program import cli
from tests.support.clients import Clients, refusal
from tests.support.fake_dependency import Clinic
from tests.support.faults.proxied import proxied
from tests.support.fleet import Fleet
from tests.support.forms import BOTH, System, running
from tests.support.isolated_servers import Corner
from tests.support.plain_http import NO_TLS
from tests.support.waiting import until

ENV = {"LOG_FORMAT": "json", "JOB_HANDLERS": "clinic_handlers", "SICKBAY_CONFIG": "sickbay.toml"}
RULES = """
[tenants.slow]
submit = "2/h"
[tenants.quick]
submit = "5/s"
submit_burst = 1
[tenants.full]
queued = 3
"""


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "sickbay.toml").write_text(RULES)
    with running(request.param, "clinic_handlers", tmp_path, ENV) as system:
        yield system


def submit(api: httpx.Client, tenant: str, key: str = "", *, job_type: str = "ok") -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return api.post("/jobs", json={"jobType": job_type, "payload": {}, "tenant": tenant}, headers=headers)


def metric(api: httpx.Client, metric: str, **labels: str) -> float:
    families = plain(api.get("/metrics", headers={"accept": "text/plain"}).text)
    samples = [sample for family in families for sample in family.samples if sample.name == metric]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_over_the_rate(system: System):
    """With the wait and the fields of the draft; repeats are answered, other tenants served, each item of a batch is judged."""
    sickbay = system.clients
    first = submit(sickbay.api, "slow", "once")
    assert [first.status_code, submit(sickbay.api, "slow").status_code] == [202, 202]
    rejected = submit(sickbay.api, "slow", "twice")
    assert (rejected.status_code, rejected.json()["reason"]) == (429, "SUBMISSION_RATE_EXCEEDED")
    assert rejected.json()["message"].startswith("the limit of tenant slow is 2/h, with 2 at once; the job was not accepted, try again in ")
    assert 1_700 < int(rejected.headers["retry-after"]) <= 1_800
    assert rejected.headers["ratelimit-policy"] == '"tenant";q=2;w=3600'
    name, remaining, reset = rejected.headers["ratelimit"].split(";")
    assert (name, remaining, 3_500 < int(reset.removeprefix("t=")) <= 3_600) == ('"tenant"', "r=0", True)
    again = submit(sickbay.api, "slow", "once")
    assert (again.status_code, again.json()["jobId"], again.json()["duplicate"]) == (202, first.json()["jobId"], True)
    assert submit(sickbay.api, "other").status_code == 202

    with pytest.raises(grpc.RpcError) as caught:
        sickbay.jobs.SubmitJob(SubmitJobRequest(job_type="ok", payload_json="{}", tenant="slow"))
    assert refusal(caught.value)[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SUBMISSION_RATE_EXCEEDED")
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in rpc_status.from_call(caught.value).details:
        detail.Unpack(info) or detail.Unpack(retry)
    assert 1_700 < retry.retry_delay.seconds <= 1_800
    assert {name: info.metadata[name] for name in ("limit", "quota", "windowSeconds")} == {
        "limit": "tenant",
        "quota": "2",
        "windowSeconds": "3600",
    }

    jobs = [{"jobType": "ok", "payload": {}, "tenant": tenant} for tenant in ("slow", "other", "slow")]
    batch = sickbay.api.post("/jobs:batch", json={"jobs": jobs}).json()
    assert (batch["accepted"], batch["refused"]) == (1, 2)
    first_wait, second_wait = (batch["results"][place]["error"]["retryAfterSeconds"] for place in (0, 2))
    assert (first_wait <= 1_800, second_wait - first_wait) == (True, 1_800)
    all_rejected = sickbay.api.post("/jobs:batch", json={"jobs": jobs[:1]})
    assert (all_rejected.status_code, all_rejected.headers["ratelimit-policy"]) == (429, '"tenant";q=2;w=3600')
    results = sickbay.jobs.BatchSubmitJobs(
        BatchSubmitJobsRequest(requests=[SubmitJobRequest(job_type="ok", payload_json="{}", tenant=one) for one in ("slow", "other")])
    ).results
    assert (results[0].error.code, results[0].error.reason) == (8, ERROR_REASON_SUBMISSION_RATE_EXCEEDED)
    assert (results[0].error.retry_delay.seconds > 1_700, bool(results[1].job_id)) == (True, True)

    assert metric(sickbay.api, "sickbay_limit_rejections_total", limit="tenant", name="slow") == 6
    assert metric(sickbay.api, "sickbay_submissions_total", result="rate_limited") == 6
    assert metric(sickbay.api, "sickbay_limits_skipped_total") == 0


def test_the_command_waits_for_room(system: System):
    """Three jobs at 5 per second, one at once: they are all accepted, and not faster than that."""
    address = f"localhost:{system.clients.grpc_ports['Job API']}"
    arguments = ["submit", "ok", "--tenant", "quick", "--count", "3", "--jobapi", address]
    began = time.monotonic()
    result = CliRunner().invoke(cli, [*arguments, "--retry-for", "30s"])
    assert (result.exit_code, result.stdout) == (0, "accepted 3 jobs\n")
    assert time.monotonic() - began >= 0.39
    result = CliRunner().invoke(cli, [*arguments[:-2], "--count", "99", *arguments[-2:]])
    assert result.exit_code == 1
    assert "the limit of tenant quick is 5/s" in result.stderr


def test_waiting_jobs_are_bounded(system: System):
    """Exactly three may wait; when they have run there is room. A changed file is in force without a restart."""
    sickbay = system.clients
    until(lambda: metric(sickbay.api, "sickbay_waiting_jobs_known") == 1)
    assert sickbay.plane.post("/breakers/forced/force-open").status_code == 200
    answers = [submit(sickbay.api, "full", job_type="forced") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 429]
    assert (answers[3].json()["reason"], answers[3].headers["retry-after"]) == ("TOO_MANY_QUEUED", "2")
    assert answers[3].json()["message"].startswith("3 jobs of tenant full wait, and 3 may; the job was not accepted")
    assert "ratelimit" not in answers[3].headers
    assert submit(sickbay.api, "other").status_code == 202
    for answer in answers[:3]:
        sickbay.wait(answer.json()["jobId"], "PARKED")
    until(lambda: metric(sickbay.api, "sickbay_waiting_jobs", tenant="full") == 3)
    assert submit(sickbay.api, "full").status_code == 429
    assert sickbay.plane.post("/breakers/forced/reset").status_code == 200
    until(lambda: submit(sickbay.api, "full").status_code == 202)
    new = system.folder / "new.toml"
    new.write_text(RULES.replace("queued = 3", 'submit = "1/h"'))
    new.replace(system.folder / "sickbay.toml")
    until(lambda: submit(sickbay.api, "full").json().get("reason") == "SUBMISSION_RATE_EXCEEDED")


def http(ports: tuple[int, int]) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{ports[0]}", timeout=60, trust_env=False, verify=NO_TLS)


def flood(ports: tuple[int, int], way: str) -> int:
    """One client, until it has been rejected 20 times; how many of its jobs were accepted."""
    accepted = rejected = 0
    with http(ports) as api, grpc.insecure_channel(f"127.0.0.1:{ports[1]}") as channel:
        stub = JobServiceStub(channel)
        while rejected < 20:
            if way == "grpc":
                request = SubmitJobRequest(job_type="ok", payload_json="{}", tenant="acme")
                (result,) = stub.BatchSubmitJobs(BatchSubmitJobsRequest(requests=[request])).results
                is_accepted = bool(result.job_id)
            else:
                is_accepted = submit(api, "acme").status_code == 202
            accepted += is_accepted
            rejected += not is_accepted
    return accepted


@pytest.mark.servers
@pytest.mark.timeout(180)
def test_two_job_apis_share_one_bucket(fleet: Fleet, own_clinic: Clinic):
    """Eight clients at each, over REST and gRPC: together they get the burst and what the rate adds meanwhile, within 5 %."""
    (own_clinic.folder / "sickbay.toml").write_text('[tenants.acme]\nsubmit = "200/m"\n')
    fleet.env["SICKBAY_CONFIG"] = "sickbay.toml"
    fleet.launch("controlplane")
    fleet.launch("jobapi", 2)
    fleet.launch("worker")
    fleet.ready()
    ports = [service.ports for service in fleet.services["jobapi"]]
    with Clients(fleet) as sickbay, ThreadPoolExecutor(16) as pool:
        began = time.monotonic()
        accepted = sum(
            pool.map(flood, [ports[number % 2] for number in range(16)], ["grpc" if number < 8 else "rest" for number in range(16)])
        )
        elapsed = time.monotonic() - began
        assert 200 <= accepted <= 1 + 200 * (1 + elapsed / 60)
        assert accepted == pytest.approx(200 * (1 + elapsed / 60), rel=0.05)
        counted = []
        for one in ports:
            with http(one) as api:
                counted.append(metric(api, "sickbay_submissions_total", result="accepted"))
        assert all(counted), "both have taken part"
        assert sum(counted) == accepted
        until(lambda: metric(sickbay.plane, "sickbay_ledger_jobs", state="SUCCEEDED") == accepted)


@pytest.mark.servers
@pytest.mark.timeout(180)
def test_while_redis_is_away_jobs_are_accepted(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """Counted, and without waiting for it; when it is back, so is the limit, with what was used of it before."""
    (own_clinic.folder / "sickbay.toml").write_text('[tenants.acme]\nsubmit = "2/h"\n')
    with proxied(corner.redis) as (url, call):
        fleet.env |= {"REDIS_URL": url, "SICKBAY_CONFIG": "sickbay.toml"}
        fleet.launch_all(workers=1).ready()
        with Clients(fleet) as sickbay:
            assert [submit(sickbay.api, "acme").status_code for _ in range(3)] == [202, 202, 429]
            call("cut")
            answers = [submit(sickbay.api, "acme") for _ in range(20)]
            assert {answer.status_code for answer in answers} == {202}
            assert sum(answer.elapsed.total_seconds() for answer in answers) < 20 * 0.5
            assert metric(sickbay.api, "sickbay_limits_skipped_total") == 20
            call("accept")
            until(lambda: submit(sickbay.api, "acme").status_code == 429)

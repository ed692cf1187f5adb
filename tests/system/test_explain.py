"""Why does my job not run? Asked of both forms, over REST, gRPC and the command; and what producers are told while a circuit is open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import ExplainBreakerRequest
from sickbay.jobs.v1.explanation_pb2 import JobExplanation
from sickbay.jobs.v1.job_service_pb2 import ON_OPEN_REJECT, BatchSubmitJobsRequest, ExplainJobRequest, SubmitJobRequest
from sickbay_cli.program import cli
from tests.support.clients import Clients, refusal
from tests.support.forms import BOTH, System, running
from tests.support.waiting import until

ENV = {
    "UNKNOWN_TYPE_GRACE": "1",
    "JOB_HANDLERS": "clinic_handlers",
    "COOLDOWN_PERIOD": "2",
    "RETRY_DELAY_MS": "600000",
    "LOG_FORMAT": "json",
}
REJECT = {"onOpen": "REJECT"}


@pytest.fixture(params=BOTH, scope="module")
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(request.param, "clinic_handlers", tmp_path_factory.mktemp("explain"), ENV) as system:
        yield system


def explained(sickbay: Clients, job_id: str) -> dict[str, Any]:
    answer = sickbay.api.get(f"/jobs/{job_id}/explain")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def submit(sickbay: Clients, job_type: str, key: str = "", **more: str) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return sickbay.api.post("/jobs", json={"jobType": job_type, "payload": {}, **more}, headers=headers)


def test_a_job_whose_circuit_an_admin_holds_open(system: System):
    """It says who holds it and why, and which command ends that; a job that is to be rejected leaves nothing, not even its key."""
    sickbay = system.clients
    assert sickbay.plane.post("/breakers/forced/force-open", json={"by": "ada", "why": "maintenance"}).status_code == 200
    until(lambda: submit(sickbay, "forced", **REJECT).status_code == 503)
    answer = submit(sickbay, "forced").json()
    assert answer["breaker"] == {
        "state": "FORCED_OPEN",
        "note": "an admin holds the circuit open: the job will be parked and run when the circuit closes after the hold",
    }
    job_id = answer["jobId"]
    sickbay.wait(job_id, "PARKED")
    why = explained(sickbay, job_id)
    assert (why["state"], why["reason"], why["nextStep"]) == ("PARKED", "CIRCUIT_FORCED_OPEN", "HOLD_ENDS")
    assert why["breaker"]["forced"] == {"by": "ada", "why": "maintenance"}
    assert "The circuit of forced is held open by ada (maintenance)." in why["sentences"]
    assert why["commands"][0] == "sickbay auto forced"
    assert why["since"] == sickbay.job(job_id)["updatedAt"]
    told = sickbay.jobs.ExplainJob(ExplainJobRequest(job_id=job_id)).explanation
    assert (told.reason, told.breaker.state) == (JobExplanation.REASON_CIRCUIT_FORCED_OPEN, Breaker.STATE_FORCED_OPEN)

    rejected = submit(sickbay, "forced", "once", **REJECT)
    assert (rejected.status_code, rejected.json()["reason"], rejected.headers["retry-after"]) == (503, "CIRCUIT_OPEN", "60")
    assert "held open by ada (maintenance)" in rejected.json()["message"]
    with pytest.raises(grpc.RpcError) as caught:
        sickbay.jobs.SubmitJob(SubmitJobRequest(job_type="forced", payload_json="{}", on_open=ON_OPEN_REJECT))
    assert refusal(caught.value)[:2] == (grpc.StatusCode.UNAVAILABLE, "CIRCUIT_OPEN")
    assert wait_of(caught.value) == 60

    jobs = [{"jobType": kind, "payload": {}, **REJECT} for kind in ("forced", "healthy")]
    batch = sickbay.api.post("/jobs:batch", json={"jobs": jobs}).json()
    assert (batch["accepted"], batch["refused"]) == (1, 1)
    assert (batch["results"][0]["error"]["reason"], batch["results"][0]["error"]["retryAfterSeconds"]) == ("CIRCUIT_OPEN", 60)
    all_rejected = sickbay.api.post("/jobs:batch", json={"jobs": jobs[:1]})
    assert (all_rejected.status_code, all_rejected.headers["retry-after"]) == (503, "60")
    results = sickbay.jobs.BatchSubmitJobs(
        BatchSubmitJobsRequest(requests=[SubmitJobRequest(job_type="forced", payload_json="{}", on_open=on_open) for on_open in (0, 2)])
    ).results
    assert results[0].breaker.state == Breaker.STATE_FORCED_OPEN
    assert results[1].error.retry_delay.seconds == 60

    assert sickbay.plane.post("/breakers/forced/reset").status_code == 200
    sickbay.wait(job_id, "SUCCEEDED")
    until(lambda: submit(sickbay, "forced", "once", **REJECT).status_code == 202)
    again = submit(sickbay, "forced", "once", **REJECT).json()
    assert again["duplicate"]
    assert "breaker" not in again
    sickbay.wait(again["jobId"], "SUCCEEDED")
    assert explained(sickbay, job_id)["reason"] == "SUCCEEDED"


def test_a_circuit_that_opens_by_failures(system: System):
    """Retrying, parked, probing, back again: each is explained, for the job and for its type."""
    sickbay = system.clients
    (system.folder / "down.down").write_text("API_TIMEOUT")
    first = sickbay.submit("down")
    sickbay.wait(first, "RETRYING")
    why = explained(sickbay, first)
    assert (why["reason"], why["nextStep"]) == ("RETRY_SCHEDULED", "RETRY")
    assert why["sentences"][0].startswith("Run 1 failed")
    assert "with API_TIMEOUT: the dependency of down is down." in why["sentences"][0]
    sickbay.submit_all("down", *({} for _ in range(5)))
    until(lambda: sickbay.breaker("down")["state"] == "OPEN")
    parked = sickbay.submit("down")
    sickbay.wait(parked, "PARKED")
    until(lambda: explained(sickbay, parked)["breaker"]["state"] in {"OPEN", "HALF_OPEN"})
    why = explained(sickbay, parked)
    assert why["reason"] in {"CIRCUIT_OPEN", "PROBE_RUNNING"}
    assert any("failures in a row with API_TIMEOUT" in one or "failure with API_TIMEOUT" in one for one in why["sentences"])
    of_type = sickbay.plane.get("/breakers/down/explain").json()
    assert of_type["reason"] in {"COOLDOWN", "PROBE_DUE", "PROBE_RUNNING"}
    assert of_type["parkedJobs"] >= 1
    assert of_type["breaker"]["state"] in {"OPEN", "HALF_OPEN"}
    told = sickbay.breakers.ExplainBreaker(ExplainBreakerRequest(job_type="down")).explanation
    assert told.breaker.job_type == "down"
    shown = CliRunner().invoke(cli, ["explain", parked, "--jobapi", f"127.0.0.1:{sickbay.grpc_ports['Job API']}"])
    assert shown.exit_code == 0
    assert "The job was parked" in shown.stdout
    (system.folder / "down.down").unlink()
    sickbay.wait(parked, "SUCCEEDED")
    ended = explained(sickbay, parked)
    assert (ended["reason"], ended["nextStep"], ended.get("breaker")) == ("SUCCEEDED", "NONE", None)
    assert sickbay.plane.get("/breakers/down/explain").json()["reason"] in {"RECOVERING", "HEALTHY"}


def test_a_quarantined_job_says_what_to_do(system: System):
    """A type without a handler."""
    sickbay = system.clients
    job_id = sickbay.submit("nobody-knows-it")
    sickbay.wait(job_id, "QUARANTINED")
    why = explained(sickbay, job_id)
    assert (why["reason"], why["nextStep"]) == ("UNKNOWN_TYPE", "WORKER_COMES")
    assert f"sickbay quarantine resubmit {job_id} --job-type TYPE" in why["commands"]


def test_the_unknown_and_the_wrong(system: System):
    sickbay = system.clients
    assert sickbay.api.get("/jobs/none-such/explain").json()["reason"] == "JOB_NOT_FOUND"
    assert sickbay.plane.get("/breakers/none-such/explain").json()["reason"] == "BREAKER_NOT_FOUND"
    assert sickbay.plane.get("/breakers/None%20such/explain").status_code == 400
    wrong = submit(sickbay, "healthy", onOpen="WAIT")
    assert wrong.status_code == 400
    assert "use one of PARK, REJECT" in wrong.json()["message"]
    assert submit(sickbay, "healthy", onOpen="PARK").status_code == 202


def wait_of(error: grpc.RpcError) -> int:
    """The seconds of RetryInfo."""
    retry = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)
    assert status is not None
    assert any(detail.Unpack(retry) for detail in status.details)
    return int(retry.retry_delay.seconds)

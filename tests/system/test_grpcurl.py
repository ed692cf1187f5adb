"""grpcurl, a tool that knows nothing of Sickbay, finds and uses every service through reflection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clients import Clients

GRPCURL = Path(sys.executable).with_name("grpcurl")
HEALTH = "grpc.health.v1.Health"
OWN = {
    "Job API": ["sickbay.jobs.v1.JobService"],
    "Worker": [],
    "Control plane": [
        "sickbay.breakers.v1.BreakerService",
        "sickbay.jobs.v1.QuarantineService",
        "sickbay.jobs.v1.ScheduledJobService",
        "sickbay.schedules.v1.ScheduleService",
    ],
}


def grpcurl(port: int, *words: str, data: str = "") -> str:
    """Its output; it must succeed."""
    flags = ["-plaintext", "-max-time", "20", *(("-d", data) if data else ())]
    done = subprocess.run([GRPCURL, *flags, f"127.0.0.1:{port}", *words], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", OWN)
def test_every_port_lists_its_services_and_their_health(name: str, sickbay: Clients):
    port = sickbay.grpc_ports[name]
    listed = grpcurl(port, "list").split()
    assert set(OWN[name]) | {HEALTH} <= set(listed)
    for service in ("", *OWN[name]):
        answer = grpcurl(port, f"{HEALTH}/Check", data=json.dumps({"service": service}))
        assert json.loads(answer) == {"status": "SERVING"}


def test_a_job_can_be_described_submitted_and_watched(sickbay: Clients):
    port = sickbay.grpc_ports["Job API"]
    assert "rpc WatchJob" in grpcurl(port, "describe", "sickbay.jobs.v1.JobService")
    assert "string payload_json" in grpcurl(port, "describe", "sickbay.jobs.v1.SubmitJobRequest")
    request = {"job_type": "ok", "payload": {"to": "user@example.com", "count": 3}}
    job = json.loads(grpcurl(port, "sickbay.jobs.v1.JobService/SubmitJob", data=json.dumps(request)))["job"]
    assert (job["job_type"], job["state"]) == ("ok", "STATE_QUEUED")
    stream = grpcurl(port, "sickbay.jobs.v1.JobService/WatchJob", data=json.dumps({"job_id": job["job_id"]}))
    assert stream.rstrip().endswith("}"), "the stream ended by itself"
    assert "STATE_SUCCEEDED" in stream

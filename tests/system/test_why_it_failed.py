"""Why a run failed is in the job's record, over REST, gRPC and the command, in its history, and once per attempt in the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sickbay.jobs.v1.job_service_pb2 import GetJobRequest
from sickbay.jobs.v1.quarantine_service_pb2 import GetQuarantinedJobRequest
from tests.support.failing_handlers import SECRET
from tests.support.forms import BOTH, System, running
from tests.support.process import Process

ENV = {
    "JOB_HANDLERS": "failing_handlers",
    "MAX_RETRIES": "1",
    "RETRY_DELAY_MS": "50",
    "FAILURE_THRESHOLD": "1000",
    "LOG_FORMAT": "json",
    "REDACT": "failing_handlers:without_secrets",
}
PAYLOAD = {"token": SECRET, "to": SECRET}
WHERE = 'File "failing_handlers.py", line '
CODE = 'return job.payload["emial"], secret'
CASES = {
    "misspelt": ["KeyError: 'emial'", WHERE, "in look_up", CODE, "in misspelt"],
    "misspelt-sync": ["KeyError: 'emial'", WHERE, "in look_up", CODE, "in misspelt_in_a_thread"],
    "caused": ["KeyError: 'emial'", CODE, "direct cause", "sickbay.JobError: BAD_TEMPLATE: no such template"],
    "grouped": ["ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)", "KeyError: 'emial'", CODE],
    "invalid": ["ValidationError: 1 validation error for Email", "Input should be a valid integer", "in invalid"],
    "hanging": ["Where it was when it timed out", "in wait_for_reply", "await asyncio.Event().wait()"],
    "hanging-sync": ["Where it was when it timed out", "in hanging_in_a_thread"],
    "unwritable": ["FileNotFoundError: [Errno 2] No such file: ", "in unwritable"],
    "telling": ["ValueError: invalid literal for int() with base 10: 'cause ***'", "RuntimeError: the key is ***", "in telling"],
    "breaking": ["(withheld: the function of REDACT failed: ValueError)"],
}


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """Each form in turn."""
    with running(request.param, "failing_handlers", tmp_path, ENV) as started:
        yield started


def test_why_it_failed_is_told_everywhere_and_secrets_nowhere(system: System):
    """For every way to fail: both attempts, with file, line, function and code, from the innermost call to the handler."""
    sickbay = system.clients
    ids = {kind: sickbay.submit(kind, PAYLOAD) for kind in CASES}
    sickbay.wait_all(ids.values(), "QUARANTINED")
    for kind, parts in CASES.items():
        job_id = ids[kind]
        case = sickbay.case(job_id)
        texts = [error["traceback"] for error in case["errors"]]
        assert len(texts) == 2, kind
        for text in texts:
            assert all(part in text for part in parts), text
            assert len(text.encode()) <= 4_000
        assert sickbay.job(job_id)["errors"] == case["errors"]
        assert [step["traceback"] for step in case["history"] if step["state"] in {"RETRYING", "QUARANTINED"}] == texts
        assert [error.traceback for error in sickbay.jobs.GetJob(GetJobRequest(job_id=job_id)).job.errors] == texts
        found = sickbay.quarantine.GetQuarantinedJob(GetQuarantinedJobRequest(job_id=job_id)).job
        assert [error.traceback for error in found.job.errors] == texts
        told = [entry for entry in entries(system.worker) if entry.get("job_id") == job_id and "traceback" in entry]
        assert [(entry["attempt"], entry["traceback"]) for entry in told] == list(enumerate(texts)), "once per attempt"
        assert [entry["error"] for entry in told] == [error["message"] for error in case["errors"]]
        case.pop("payload")
        assert SECRET not in json.dumps(case)
    assert SECRET not in system.worker.err.text
    assert "the key is ***" in system.worker.err.text
    assert all("traceback" not in error for job in sickbay.jobs_of("misspelt")["jobs"] for error in job["errors"])


def test_the_command_shows_where_it_failed(system: System):
    """`sickbay get`, `quarantine show` and `watch`, for people and for programs."""
    sickbay = system.clients
    job_id = sickbay.submit("misspelt", PAYLOAD)
    sickbay.wait(job_id, "QUARANTINED")
    for words in (["get", job_id], ["quarantine", "show", job_id]):
        shown = command(system, *words)
        assert shown.count(CODE) == 2
        assert "KEY_ERROR: 'emial'" in shown
        view = json.loads(command(system, *words, "--json"))
        assert CODE in view["errors"][-1]["traceback"]
    following = Process(["sickbay_cli", "submit", "misspelt", json.dumps(PAYLOAD), "--wait"], system.folder, addresses(system))
    try:
        assert following.out.wait_for(lambda line: CODE in line)
    finally:
        following.kill()


def entries(process: Process) -> list[dict[str, Any]]:
    """The lines of its log."""
    return [json.loads(line) for line in process.err.text.splitlines() if line.startswith("{")]


def addresses(system: System) -> dict[str, str]:
    """Where the command finds the services."""
    ports = system.clients.grpc_ports
    return {"SICKBAY_JOBAPI": f"127.0.0.1:{ports['Job API']}", "SICKBAY_CONTROL_PLANE": f"127.0.0.1:{ports['Control plane']}"}


def command(system: System, *words: str) -> str:
    """What `sickbay WORDS...` prints."""
    env = os.environ | addresses(system)
    done = subprocess.run([sys.executable, "-m", "sickbay_cli", *words], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    return done.stdout

"""No payload switches a type off: neither what a handler cannot use, nor what nobody can read."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiormq
import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from tests.support import SUPPORT
from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner, own_corner
from tests.support.system_under_test import Product

ENV = {"JOB_HANDLERS": "payload_handlers", "MAX_RETRIES": "0", "LOG_FORMAT": "json"}
WELL: dict[str, Any] = {"to": "a@b", "count": 1, "when": "2026-01-01", "items": [{}, {"name": "x"}], "ratio": 1, "text": "{}"}
WRONG: tuple[dict[str, Any], ...] = (
    {},
    WELL | {"to": "nobody"},
    WELL | {"to": None},
    WELL | {"to": "a@\u00fc"},
    WELL | {"count": 0},
    WELL | {"count": 5_000},
    WELL | {"count": "many"},
    WELL | {"when": "yesterday"},
    WELL | {"items": []},
    WELL | {"items": [{}, {"name": 5}]},
    WELL | {"text": "[" * 100_000},
    WELL | {"text": "{"},
)
HUGE = '{"n":' + "9" * 5_000 + "}"
TEXTS = (
    "{}", '{"a":1,"a":2}', HUGE, '{"n":' + "9" * 4_300 + "}", '{"n":1e400}', '{"n":1e308}', '{"n":NaN}',
    '{"s":"\\ud800"}', '{"s":"\\ud83d\\ude00"}',
    '{"s":"\\u0000"}', '{"a":' * 201 + "1" + "}" * 201, '{"a":' * 200 + "1" + "}" * 200, '{"s":"' + "9" * 5_000 + '"}', "[1]", "{",
)  # fmt: skip


class System(Clients):
    """A running system with these handlers, in one of its forms."""

    corner: Corner | None = None
    folder: Path


@pytest.fixture(params=["embedded", pytest.param("fleet", marks=pytest.mark.servers)])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """`sickbay up`, or three processes on real servers."""
    shutil.copy(SUPPORT / "payload_handlers.py", tmp_path)
    if request.param == "embedded":
        product = Product(tmp_path, ENV)
        try:
            with System(product.ready()) as clients:
                clients.folder = tmp_path
                yield clients
        finally:
            product.stop()
        return
    with own_corner() as corner, Fleet(tmp_path, ENV | dict(corner.env)) as fleet, System(fleet.launch_all(workers=2).ready()) as clients:
        clients.corner, clients.folder = corner, tmp_path
        yield clients


def test_payloads_that_a_handler_cannot_use_open_nothing(system: System):
    """Five in a row used to be enough, and the 50 here are of a dozen kinds."""
    for _ in range(5):
        ids = system.submit_all("careless", WRONG[0])
        system.wait_all(ids, "QUARANTINED", "PARKED")
    ids = system.submit_all("careless", *(WRONG * 4))
    system.wait_all(ids, "QUARANTINED", "PARKED")
    assert {system.job(job_id)["state"] for job_id in ids} == {"QUARANTINED"}
    codes = {system.case(job_id)["errors"][-1]["code"] for job_id in ids}
    assert {"KEY_ERROR", "INDEX_ERROR", "ATTRIBUTE_ERROR", "ZERO_DIVISION_ERROR", "VALUE_ERROR", "ASSERTION_ERROR"} < codes
    assert system.breaker("careless")["state"] == "CLOSED"
    system.wait(system.submit("careless", WELL), "SUCCEEDED")


def test_what_a_door_accepts_can_be_read(system: System):
    """REST, gRPC, batches, Struct, edits and the command: refused, or SUCCEEDED."""
    accepted, refused = [], 0
    for text in TEXTS:
        answer = system.api.post("/jobs", content=f'{{"jobType":"careful","payload":{text}}}', headers={"Content-Type": "application/json"})
        assert answer.status_code in {202, 400}, (text[:50], answer.text)
        accepted += [answer.json()["jobId"]] if answer.status_code == 202 else []
        request = SubmitJobRequest(job_type="careful", payload_json=text)
        job_id = _submitted(system, request)
        accepted += [job_id] if job_id else []
        refused += not job_id
        for result in system.jobs.BatchSubmitJobs(BatchSubmitJobsRequest(requests=[request])).results:
            accepted += [result.job_id] if result.job_id else []
    struct = Struct()
    struct.update({"n": 1e308, "s": "\u0000", "deep": {"a": [1.5, None, True]}})
    assert not _submitted(system, SubmitJobRequest(job_type="careful", payload=struct))  # 1e308 is beyond 2^53
    struct["n"] = 1.5
    accepted.append(_submitted(system, SubmitJobRequest(job_type="careful", payload=struct)))
    assert refused == 7
    system.wait_all(accepted, "SUCCEEDED")


def test_an_edit_and_the_command_let_nothing_through_either(system: System):
    """The same sentence at each door."""
    bad = system.submit("careless", {})
    system.wait(bad, "QUARANTINED")
    etag = system.case(bad)["etag"]
    edit = f'{{"payload":{HUGE},"etag":{json.dumps(etag)}}}'
    answer = system.plane.post(f"/quarantine/{bad}/resubmit", content=edit, headers={"Content-Type": "application/json"})
    assert (answer.status_code, "send it as a string" in answer.text) == (400, True)
    server = ["--jobapi", f"localhost:{system.grpc_ports['Job API']}"]
    for text, code in ((HUGE, 2), ('{"n":1e400}', 1)):
        words = [sys.executable, "-m", "sickbay_cli", "submit", "careful", "-"]
        run = subprocess.run([*words, *server], input=text, capture_output=True, text=True, timeout=60, cwd=system.folder, check=False)
        assert (run.returncode != 0, "send it as a string" in run.stderr) == (True, True), (code, run.stderr)


def test_what_a_foreign_program_sends_is_bad_data_whatever_the_handler_makes_of_it(system: System):
    """It comes around the doors."""
    if system.corner is None:
        pytest.skip("nobody publishes to the embedded form's queues")
    ids = {f"{job_type}-{number}": job_type for job_type in ("careless", "careful", "secretive") for number in range(50)}
    bodies = [f'{{"jobType":"{job_type}","jobId":"{job_id}","payload":{HUGE}}}' for job_id, job_type in ids.items()]
    asyncio.run(_publish(system.corner.rabbitmq, bodies))
    system.wait_until_known(*ids)
    system.wait_all(list(ids), "QUARANTINED", "PARKED")
    assert {(job["state"], job["errors"][-1]["code"]) for job in map(system.job, ids)} == {("QUARANTINED", "PAYLOAD_UNREADABLE")}
    for job_type in ("careless", "careful", "secretive"):
        assert system.breaker(job_type)["state"] == "CLOSED"
        system.wait(system.submit(job_type, WELL), "SUCCEEDED")


def _submitted(system: System, request: SubmitJobRequest) -> str:
    """The job's id; empty if it was refused, which is said in the right way."""
    try:
        return str(system.jobs.SubmitJob(request).job.job_id)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        return ""


async def _publish(url: str, bodies: list[str]) -> None:
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    for body in bodies:
        await channel.basic_publish(body.encode(), exchange="jobs", routing_key="main")
    await connection.close()

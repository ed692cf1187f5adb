"""Texts that would write lines of their own into a log, or move the cursor of whoever looks at jobs: nothing of them is shown raw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import grpc
import httpx
import pytest

from sickbay.jobs.v1.job_service_pb2 import SubmitJobRequest
from tests.hostile.conftest import StartPatient
from tests.support.clients import Clients
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(180)

FORGED: Final = "FORGED 12:00:00 [error] all is lost"
TEXTS: Final = (
    f"a\n{FORGED}",
    f"a\r\n{FORGED}",
    f"a\r{FORGED}",
    "\x1b[2J\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b31mred",
    "nul\x00nul",
    "\x7fdel\x08\x08\x08\x0b\x0c",
    f"\u2028{FORGED}\u2029{FORGED}\x85{FORGED}",
    "\u202eright to left",
)


def raw(text: str) -> set[str]:
    """The characters of a text that steer a terminal, or end a line elsewhere than at its end."""
    return {repr(one) for one in text if one != "\n" and unicodedata.category(one) in {"Cc", "Cf", "Zl", "Zp"}}


def attack(sickbay: Clients, text: str) -> None:
    """Wherever clients put words. Refused or taken: only what becomes of it is looked at."""
    for fields in ({"jobType": text}, {"tenant": text}, {"idempotencyKey": text}, {text: text}):
        sickbay.api.post("/jobs", json={"jobType": "bad", "payload": {"do": "HTTP_422", "says": text}} | fields)
    job_id = sickbay.submit("bad", {"do": "HTTP_422", "says": text})
    sickbay.wait(job_id, "QUARANTINED")
    sickbay.submit_all("down", *[{"do": "API_TIMEOUT", "says": text}] * 5)
    for request in (SubmitJobRequest(job_type=text), SubmitJobRequest(job_type="ok", payload_json="{}", tenant=text)):
        with suppress(grpc.RpcError):
            sickbay.jobs.SubmitJob(request)
    sickbay.plane.post("/breakers/sms/force-open", json={"why": text, "by": text})
    sickbay.plane.post(f"/quarantine/{job_id}/resubmit", json={"by": text})
    for header in ("user-agent", "x-request-id", "traceparent", "idempotency-key", "host", "referer"):
        with suppress(httpx.HTTPError):
            sickbay.api.get("/jobs", headers=[(header.encode(), text.encode())])
    sickbay.api.get("/jobs", params={"jobType": text, "pageToken": text, text: text})
    sickbay.plane.get("/breakers/" + "".join(f"%{byte:02x}" for byte in text.encode()))


def command(ports: Mapping[str, tuple[int, int]], *words: str) -> str:
    """What `sickbay` prints on both streams."""
    own = os.environ | {
        "SICKBAY_JOBAPI": f"127.0.0.1:{ports['Job API'][1]}",
        "SICKBAY_CONTROL_PLANE": f"127.0.0.1:{ports['Control plane'][1]}",
    }
    done = subprocess.run([sys.executable, "-m", "sickbay_cli", *words], capture_output=True, text=True, env=own, check=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_neither_the_log_nor_the_command_shows_control_characters(attacked: StartPatient, log_format: str) -> None:
    patient = attacked(LOG_FORMAT=log_format, LOG_LEVEL="DEBUG", MAX_RETRIES="0")
    with Clients(patient.product) as sickbay:
        for text in TEXTS:
            attack(sickbay, text)
        jobs: list[dict[str, Any]] = sickbay.jobs_of("bad")["jobs"]
        until(lambda: sickbay.breaker("down")["state"] == "OPEN")
        shown = [command(patient.ports, *words) for words in (("jobs",), ("breakers",), ("quarantine", "list"), ("quarantine", "groups"))]
        shown += [command(patient.ports, "get", job["jobId"]) for job in jobs]
        shown += [command(patient.ports, "quarantine", "show", job["jobId"]) for job in jobs if job["state"] == "QUARANTINED"]
        shown += [command(patient.ports, "breakers", "down")]
    assert {one for text in shown for one in raw(text)} == set()
    log = patient.product.err.text
    assert FORGED in log, "what handlers say is told"
    assert raw(log) == set()
    assert not [line for line in log.splitlines() if line.startswith("FORGED")]
    if log_format == "json":
        assert all(json.loads(line) for line in log.splitlines())

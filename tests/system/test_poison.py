"""A job that kills its worker: it is found out and isolated, and its neighbours do not pay for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from tests.support.clients import Clients
from tests.support.system_under_test import Product
from tests.support.waiting import until

ENV = {"RETRY_DELAY_MS": "200"}
DEATHS = 3


def known_job(sickbay: Clients, job_type: str) -> str:
    """The id of the only job of its type, once the ledger knows it."""
    return str(until(lambda: sickbay.jobs_of(job_type)["jobs"])[0]["jobId"])


def test_a_job_that_kills_three_workers_is_quarantined(tmp_path: Path, start: Callable[..., Product]):
    """The demo's `crash` kills the process; after three deaths the fourth process quarantines the job and runs the innocent one."""
    product = start(tmp_path, ENV).ready()
    with Clients(product) as sickbay:
        with suppress(httpx.RemoteProtocolError):  # the crash may come before the answer
            sickbay.submit_batch([("sms", {"simulate": "sleep:0.3"}), ("email", {"simulate": "crash"})])
        assert product.wait() == -9
    for _ in range(DEATHS - 1):
        assert start(tmp_path, ENV).wait() == -9
    with Clients(start(tmp_path, ENV).ready()) as sickbay:
        innocent, poison = (known_job(sickbay, job_type) for job_type in ("sms", "email"))
        sickbay.wait(poison, "QUARANTINED")
        sickbay.wait(innocent, "SUCCEEDED")
        case = sickbay.case(poison)
        assert (case["reason"], case["payload"]) == ("WORKER_LOST", {"simulate": "crash"})
        assert case["errors"][-1]["code"] == "WORKER_LOST"
        assert sickbay.job(innocent)["errors"] == []
        freed = sickbay.plane.post(f"/quarantine/{poison}/resubmit", json={"payload": {"simulate": "ok"}, "etag": case["etag"]})
        assert freed.status_code == 200
        sickbay.wait(poison, "SUCCEEDED")

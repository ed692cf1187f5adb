"""Badly behaved handlers in the running product, in both forms: each hurts its own job and nobody else's."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forms import BOTH, System, running
from tests.support.hostile_handlers import RAISED
from tests.support.waiting import until

ENV = {
    "JOB_HANDLERS": "hostile_handlers",
    "CONCURRENCY": "4",
    "MAX_RETRIES": "1",
    "RETRY_DELAY_MS": "50",
    "FAILURE_THRESHOLD": "1000",
    "LOG_FORMAT": "json",
}


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """Each form in turn."""
    with running(request.param, "hostile_handlers", tmp_path, ENV) as started:
        yield started


def test_whatever_a_handler_raises_costs_its_own_job_alone(system: System):
    """Each is retried and then with a person; the worker lives, and more such jobs than it has slots take none for ever."""
    sickbay = system.clients
    jobs = [(kind, {"what": what}) for kind in ("raise", "raise-sync", "child") for what in RAISED]
    ids = sickbay.submit_batch(jobs + jobs[:4])
    for job_id in ids:
        sickbay.wait(job_id, "QUARANTINED")
        assert len(sickbay.job(job_id)["errors"]) == 2, jobs
    healthy = sickbay.submit("healthy"), sickbay.submit("healthy-sync")
    sickbay.wait_all(healthy, "SUCCEEDED")
    assert system.worker.process.poll() is None


def test_a_decorated_async_handler_runs(system: System):
    """What a plain function returns to be awaited is awaited."""
    sickbay = system.clients
    sickbay.wait(sickbay.submit("wrapped"), "SUCCEEDED")
    system.wait_for_note("the body ran")


def test_hung_sync_handlers_leave_healthy_types_alone(system: System):
    """More of them than there are slots: a healthy sync handler of another type runs and is not charged."""
    sickbay = system.clients
    hung = sickbay.submit_all("hung", *[{"number": number} for number in range(10)])
    system.wait_for_note("hung begins", 4)
    healthy = sickbay.submit_all("healthy-sync", *[{"number": number} for number in range(5)])
    for job_id in healthy:
        sickbay.wait(job_id, "SUCCEEDED")
        assert sickbay.job(job_id)["errors"] == []
    assert system.worker.logged("still runs in its thread after its timeout")
    until(lambda: 'sickbay_handlers_overdue{job_type="hung"} 4.0' in sickbay.worker.get("/metrics").text)
    system.release()
    for job_id in hung:
        sickbay.wait(job_id, "SUCCEEDED", "QUARANTINED")


def test_a_handler_that_blocks_the_loop_is_named_and_deafens_nobody(system: System):
    """Health, submissions and admin calls answer; the handler beside it gets its time back."""
    sickbay = system.clients
    other = sickbay.submit("nap")
    system.wait_for_note("nap begins")
    blocker = sickbay.submit("blocker")
    line = system.worker.logged("blocks the event loop at")
    assert line is not None
    assert "the handler of blocker" in line
    assert "in _block" in line
    assert blocker in line
    for door in (sickbay.api, sickbay.worker, sickbay.plane):
        began = time.monotonic()
        assert door.get("/health").status_code == 200
        assert time.monotonic() - began < 2
    assert sickbay.plane.post("/breakers/blocker/reset").status_code in {200, 404}
    healthy = sickbay.submit("healthy-sync")
    sickbay.wait(healthy, "SUCCEEDED")
    assert 'sickbay_handler_loop_blocked_total{job_type="blocker"} 1.0' in sickbay.worker.get("/metrics").text
    time.sleep(1)  # the nap's own timeout passes
    system.release()
    sickbay.wait_all([blocker, other], "SUCCEEDED")
    assert sickbay.job(other)["errors"] == []


def test_a_process_that_stood_still_charges_nobody(system: System):
    """SIGSTOP for longer than the handlers' timeouts, as `docker pause` does it."""
    sickbay = system.clients
    naps = [sickbay.submit("nap"), sickbay.submit("nap-sync")]
    system.wait_for_note("nap begins")
    system.wait_for_note("nap-sync begins")
    system.worker.process.send_signal(signal.SIGSTOP)
    frozen = time.monotonic()
    until(lambda: time.monotonic() - frozen > 4)
    system.worker.process.send_signal(signal.SIGCONT)
    sickbay.wait_all(naps, "SUCCEEDED")
    for job_id in naps:
        assert sickbay.job(job_id)["errors"] == []
    assert system.worker.logged("this process was suspended for")
    assert sickbay.breaker("nap")["state"] == "CLOSED"

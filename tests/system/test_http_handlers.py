"""Handlers behind HTTP: no module, only a settings file and an endpoint that takes jobs, in both forms."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.canned_services import closed_port
from tests.support.clients import Clients
from tests.support.forms import BOTH, System, running
from tests.support.system_under_test import Product
from tests.support.waiting import until
from tests.support.webhook_receiver import SECRET, Received, Receiver, verify

ENV = {
    "LOG_FORMAT": "json",
    "SICKBAY_CONFIG": "sickbay.toml",
    "BILLING_SECRET": SECRET,
    "RETRY_DELAY_MS": "200",
    "COOLDOWN_PERIOD": "1",
    "UNKNOWN_TYPE_GRACE": "1",
}
RESULT = (200, {"Content-Type": "application/json"}, b'{"number": 4711, "sum": 1.10}')
DOWN = (503, {"Content-Type": "application/problem+json"}, b'{"title": "Maintenance", "detail": "the database is down"}')


class Billing(Receiver):
    """The endpoint. It answers `answers`, or holds its requests until `gate` is set, and knows how many it had at a time."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.answers: Any = RESULT
        self.gate = threading.Event()
        self.gate.set()
        self.now, self.most = 0, 0
        self._lock = threading.Lock()

    def _answer(self, _: Received) -> Any:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.gate.wait(30)
        with self._lock:
            self.now -= 1
        return self.answers

    def handling(self, more: str = "") -> str:
        """The table of a type."""
        return f'[types.invoice]\n{more}\nhandler = {{ url = "{self.url}", secret = {{ env = "BILLING_SECRET" }} }}\n'


@pytest.fixture
def billing() -> Iterator[Billing]:
    with Billing() as endpoint:
        yield endpoint
        endpoint.gate.set()


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path, billing: Billing) -> Iterator[System]:
    (tmp_path / "sickbay.toml").write_text(billing.handling("concurrency = 1"))
    with running(request.param, "clinic_handlers", tmp_path, ENV) as system:
        yield system


def change(system: System, text: str, times: int) -> None:
    """Replace the file, and wait until it has been replaced so often."""
    new = system.folder / "new.toml"
    new.write_text(text)
    new.replace(system.folder / "sickbay.toml")
    until(lambda: system.worker.err.text.count("the settings file has changed and is in force") >= times)


def test_jobs_are_posted_and_the_endpoints_outages_heal(system: System, billing: Billing):
    """The answer is the result; one request at a time, as the file says; five failures open the breaker, and then all jobs come back."""
    sickbay = system.clients
    payloads: list[dict[str, Any]] = [{"customer": number} for number in range(4)]
    ids = sickbay.submit_all("invoice", *payloads)
    sickbay.wait_all(ids, "SUCCEEDED")
    assert [sickbay.job(job_id)["result"] for job_id in ids] == [{"number": 4711, "sum": 1.1}] * 4
    assert (billing.most, [one.event for one in billing.received]) == (1, payloads)
    for job_id, received in zip(ids, billing.received, strict=True):
        verify(received)
        assert received.headers["idempotency-key"] == received.headers["ce-id"] == f"{job_id}.0"
        assert (received.headers["ce-subject"], received.headers["ce-type"]) == (job_id, "invoice")

    billing.answers = DOWN
    failed = sickbay.submit_all("invoice", *({"number": number} for number in range(6)))
    until(lambda: sickbay.breaker("invoice")["state"] == "OPEN")
    assert sickbay.breaker("invoice")["reason"]["code"] == "SERVICE_UNAVAILABLE"
    errors = [error for job_id in failed for error in sickbay.job(job_id)["errors"]]
    assert {error["message"] for error in errors} == {f"127.0.0.1:{billing.port} answered 503: the database is down"}
    assert "T0KEN" not in f"{errors}"
    billing.answers = RESULT
    sickbay.wait_all(failed, "SUCCEEDED")
    keys = [one.headers["idempotency-key"] for one in billing.received]
    assert set(keys[4:]) >= {f"{job_id}.0" for job_id in failed if not sickbay.job(job_id)["generation"]}


def test_a_changed_file_moves_jobs_to_another_endpoint_while_runs_go_on(system: System, billing: Billing):
    """What has begun ends where it began; a type that is taken out of the file has no handler any more."""
    sickbay = system.clients
    billing.gate.clear()
    held = sickbay.submit("invoice")
    until(lambda: len(billing.received) == 1)
    with Billing() as other:
        change(system, other.handling(), 1)
        moved = sickbay.submit("invoice")
        sickbay.wait(moved, "SUCCEEDED")
        assert [one.headers["ce-subject"] for one in other.received] == [moved]
        billing.gate.set()
        sickbay.wait(held, "SUCCEEDED")
        assert (len(billing.received), sickbay.job(held)["attempt"]) == (1, 0)
        change(system, "", 2)
        unhandled = sickbay.submit("invoice")
        sickbay.wait(unhandled, "QUARANTINED")
        assert sickbay.case(unhandled)["reason"] == "UNKNOWN_TYPE"
        assert len(other.received) == 1


def test_a_worker_that_is_killed_during_a_request_posts_the_job_again(tmp_path: Path, start: Callable[..., Product], billing: Billing):
    """With the same key, so that the endpoint can tell that it has seen it. Without the file the demo does not simulate such jobs."""
    (tmp_path / "sickbay.toml").write_text(billing.handling())
    billing.gate.clear()
    first = start(tmp_path, ENV).ready()
    with Clients(first) as sickbay:
        job_id = sickbay.submit("invoice")
        until(lambda: len(billing.received) == 1)
        first.kill()
    billing.gate.set()
    second = start(tmp_path, ENV).ready()
    with Clients(second) as sickbay:
        sickbay.wait(job_id, "SUCCEEDED")
        assert sickbay.job(job_id)["result"]["number"] == 4711
    before, again = billing.received
    for name in ("idempotency-key", "webhook-id", "ce-id"):
        assert before.headers[name] == again.headers[name]
    second.stop()
    third = Product(tmp_path, {name: value for name, value in ENV.items() if name != "SICKBAY_CONFIG"})
    assert third.wait() == 2
    assert "belong to the handlers of the settings file (--config sickbay.toml)" in third.err.text


def test_an_endpoint_that_is_not_there_yet_is_waited_for(tmp_path: Path, start: Callable[..., Product]):
    """As any dependency: the job is retried until it succeeds."""
    port = closed_port()
    (tmp_path / "sickbay.toml").write_text(f'[types.invoice]\nhandler = "http://127.0.0.1:{port}/"\n')
    with Clients(start(tmp_path, ENV).ready()) as sickbay:
        job_id = sickbay.submit("invoice")
        until(lambda: bool(sickbay.job(job_id)["errors"]))
        assert sickbay.job(job_id)["errors"][0]["code"] == "CONNECTION_REFUSED"
        with Receiver(port=port):
            sickbay.wait(job_id, "SUCCEEDED")
        assert "result" not in sickbay.job(job_id)


def test_a_secret_that_is_missing_stops_the_start(tmp_path: Path, billing: Billing):
    """One line that names key and variable."""
    (tmp_path / "sickbay.toml").write_text(billing.handling())
    product = Product(tmp_path, {name: value for name, value in ENV.items() if name != "BILLING_SECRET"})
    assert product.wait() == 1
    assert "sickbay.toml: types.invoice.handler.secret: the variable BILLING_SECRET is not set" in product.err.text

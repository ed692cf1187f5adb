"""Tests of the handlers in this folder.

    ../.venv/bin/python -m pytest test_handlers.py

`run` calls a handler once, with the parts that a worker has, and says how that ended and where the job would go. The last test has the
whole product in memory, with a clock that it moves. No service is running.
"""

import first_handler
import idempotent_effect
import pytest
import retries_and_errors
import scheduled
import shared_client

from sickbay import JobError
from sickbay.testing import System, make_job, run, start_system

pytest_plugins = ["sickbay.testing.pytest_plugin"]


def test_greet(capsys: pytest.CaptureFixture[str]) -> None:
    """The handler is called with a job of this payload."""
    assert run(first_handler.greet, {"name": "Ada"}).succeeded
    assert capsys.readouterr().out == "Hello, Ada!\n"


def test_an_account_is_charged_once(tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The first run fails after the effect; the second has the same idempotency key."""
    monkeypatch.setattr(idempotent_effect, "SERVICE", f"{tmp_path}/payments.db")
    payload = {"account": "ada", "cents": 500, "breaks": True}
    first = run(idempotent_effect.charge, make_job("charge", payload, job_id="job-1"))
    assert (first.code, first.will_retry) == ("NETWORK_ERROR", True)
    assert run(idempotent_effect.charge, make_job("charge", payload, job_id="job-1", attempt=2)).succeeded
    assert capsys.readouterr().out == "ada: charged\nada: was charged already\n"


def test_an_address_that_does_not_exist() -> None:
    """It is the job's own fault: a person decides, and the breaker does not count it."""
    ended = run(retries_and_errors.deliver, {"to": "nowhere"})
    assert ended.code == "NO_SUCH_ADDRESS"
    assert ended.will_be_quarantined
    assert not ended.breaker_counts


@pytest.mark.parametrize(("to", "code", "seconds"), [("busy", "COURIER_BUSY", 1), ("closed", "CONNECTION_REFUSED", 5)])
def test_what_is_not_the_fault_of_the_job(to: str, code: str, seconds: float) -> None:
    """It is retried, and its breaker counts it; the second run succeeds."""
    ended = run(retries_and_errors.deliver, {"to": to})
    assert (ended.code, ended.retry_in, ended.breaker_counts) == (code, seconds, True)
    assert run(retries_and_errors.deliver, {"to": to}, attempt=2).succeeded


class FullShop(shared_client.Shop):
    """Stands in for the real one."""

    async def reserve(self, order: int) -> str:
        """There is nothing left."""
        raise JobError("SOLD_OUT", f"order {order}", kind="data")


def test_an_order_has_its_invoice_made(capsys: pytest.CaptureFixture[str]) -> None:
    """The shop is opened for the run, and the follow-up job is noted."""
    ended = run(shared_client.take_order, {"id": 7, "customer": "ada"})
    assert ended.result["reservation"] == "R-7"
    assert [(one.job_type, one.payload) for one in ended.submitted] == [("invoice", {"order": 7, "to": "ada"})]
    assert capsys.readouterr().out == "the shop is open\nthe shop is closed\n"


def test_an_order_that_cannot_be_reserved() -> None:
    """The test gives the handler another shop."""
    ended = run(shared_client.take_order, {"id": 7, "customer": "ada"}, given={"shop": FullShop()})
    assert (ended.code, ended.submitted) == ("SOLD_OUT", ())


@pytest.fixture
def sickbay_handlers() -> list[object]:
    """Those of the system in memory."""
    return [retries_and_errors.deliver]


def test_a_depot_that_is_closed_for_a_moment(sickbay_system: System) -> None:
    """The job waits for 5 s, which take no time, and is delivered at its second attempt."""
    job = sickbay_system.submit("deliver", {"to": "closed"})
    sickbay_system.drain()
    assert sickbay_system.job(job).state == "RETRYING"
    sickbay_system.advance(6)
    assert sickbay_system.job(job).state == "SUCCEEDED"


def test_a_report_is_made_every_night(capsys: pytest.CaptureFixture[str]) -> None:
    """Its schedule is there from the start, and its time comes when the clock is moved."""
    with start_system([scheduled.make_report]) as system:
        system.drain()
        assert capsys.readouterr().out == ""
        system.advance(2 * 86_400)
    assert capsys.readouterr().out.count("the report of ") == 2

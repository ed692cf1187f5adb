"""`sickbay_system`: the whole product in memory, whose retries and cooldowns take no time."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from sickbay import Job, JobError, handler, job_type
from sickbay.client import InvalidRequest, NotFound
from sickbay.domain.breaker import BreakerState
from sickbay.domain.errors import SettingsError
from sickbay.domain.job import JobState
from sickbay.testing import System, start_system

pytest_plugins = ["sickbay.testing.pytest_plugin"]


class Service:
    """What the handlers call."""

    def __init__(self):
        self.is_down = False
        self.calls = 0


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def sickbay_handlers(service):
    @handler("email")
    async def email(job: Job):
        service.calls += 1
        if service.is_down:
            raise ConnectionRefusedError("smtp does not answer")
        return {"attempt": job.attempt}

    @handler("wrong", retry={"max": 2})
    def wrong(job: Job):
        raise JobError("NO_NAME", "no name", kind="data")

    @handler("order")
    async def order(job: Job):
        deeper = job.payload.get("deeper", 0)
        if deeper:
            return await job.submit("order", {"deeper": deeper - 1})
        return await job.submit("email")

    @handler("later")
    async def later(job: Job):
        return await job.submit("email", delay=60)

    return [email, wrong, order, later]


def test_a_job_runs_and_its_result_is_there(sickbay_system: System, sickbay_handlers):
    by_type, by_handler = sickbay_system.submit("email"), sickbay_system.submit(sickbay_handlers[0], {"to": "ada"}, tenant="acme")
    sickbay_system.drain()
    assert sickbay_system.job(by_type).state is JobState.SUCCEEDED
    done = sickbay_system.job(by_handler)
    assert (done.state, done.tenant, sickbay_system.result(by_handler)) == (JobState.SUCCEEDED, "acme", {"attempt": 0})


def test_follow_up_jobs_are_drained_too(sickbay_system: System, service: Service):
    job_id = sickbay_system.submit("order", {"deeper": 5})
    sickbay_system.drain()
    assert service.calls == 1
    for _ in range(6):
        job_id = sickbay_system.result(job_id)
    assert sickbay_system.job(job_id).job_type == "email"


def test_a_job_runs_at_the_time_to_which_the_clock_is_moved(sickbay_system: System, service: Service):
    job_id = sickbay_system.submit("email", delay=3_600)
    sickbay_system.drain()
    seen = sickbay_system.job(job_id)
    assert (seen.state, service.calls) == (JobState.SCHEDULED, 0)
    sickbay_system.advance(3_590)
    assert service.calls == 0
    sickbay_system.advance(20)
    ended = sickbay_system.job(job_id)
    assert (ended.state, service.calls) == (JobState.SUCCEEDED, 1)
    assert 0 <= (ended.start_time - seen.run_time).total_seconds() < 2, "although the clock was moved by more"


def test_a_follow_up_runs_later(sickbay_system: System, service: Service):
    job_id = sickbay_system.submit("later")
    sickbay_system.drain()
    follow_up = sickbay_system.result(job_id)
    assert sickbay_system.job(follow_up).state is JobState.SCHEDULED
    sickbay_system.advance(61)
    assert (sickbay_system.job(follow_up).state, service.calls) == (JobState.SUCCEEDED, 1)


def test_a_retry_comes_at_its_time(sickbay_system: System, service: Service):
    service.is_down = True
    job_id = sickbay_system.submit("email")
    sickbay_system.drain()
    assert (sickbay_system.job(job_id).state, service.calls) == (JobState.RETRYING, 1)
    sickbay_system.advance(4)
    assert service.calls == 1
    service.is_down = False
    sickbay_system.advance(2)
    assert (sickbay_system.job(job_id).state, service.calls) == (JobState.SUCCEEDED, 2)


def test_a_job_of_its_own_fault_ends_in_quarantine_after_its_retries(sickbay_system: System):
    job_id = sickbay_system.submit("wrong")
    sickbay_system.advance(9)
    assert sickbay_system.job(job_id).state is JobState.RETRYING
    sickbay_system.advance(2)
    job = sickbay_system.job(job_id)
    assert (job.state, job.attempt, [error.code for error in job.errors]) == (JobState.QUARANTINED, 2, ["NO_NAME"] * 3)
    first, second, third = (error.time for error in job.errors)
    assert 5 <= (second - first).total_seconds() < 6
    assert 5 <= (third - second).total_seconds() < 6, "each run was at its time, although the clock was moved by more"


def test_an_outage_from_its_first_failure_until_all_jobs_are_back(sickbay_system: System, service: Service):
    service.is_down = True
    jobs = [sickbay_system.submit("email") for _ in range(8)]
    sickbay_system.drain()
    opened = sickbay_system.breaker("email")
    assert opened.state is BreakerState.OPEN
    assert 0 < (opened.probe_time - sickbay_system.now).total_seconds() <= 60
    calls = service.calls
    sickbay_system.advance(50)
    assert service.calls == calls, "nothing is sent to a service that is down"
    sickbay_system.advance(11)
    assert (sickbay_system.breaker("email").trips, service.calls) == (2, calls + 1)
    service.is_down = False
    began = time.monotonic()
    sickbay_system.advance(300, patience=100)
    assert time.monotonic() - began < 60
    assert {sickbay_system.job(job_id).state for job_id in jobs} == {JobState.SUCCEEDED}
    assert sickbay_system.breaker("email").state is BreakerState.CLOSED


def test_what_waits_for_a_person_is_not_waited_for(sickbay_system: System):
    sickbay_system.client.breakers.force_open("email", why="maintenance")
    job_id = sickbay_system.submit("email")
    sickbay_system.drain()
    assert sickbay_system.job(job_id).state is JobState.PARKED
    sickbay_system.client.breakers.reset("email")
    sickbay_system.drain()
    assert sickbay_system.job(job_id).state is JobState.SUCCEEDED


def test_the_clock_moves_by_what_is_asked(sickbay_system: System):
    before, began = sickbay_system.now, time.monotonic()
    sickbay_system.advance(86_400)
    took = time.monotonic() - began
    assert 86_400 <= (sickbay_system.now - before).total_seconds() < 86_401 + took
    assert took < 10
    for seconds in (-1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="moved by 0 s or more"):
            sickbay_system.advance(seconds)


class TestSettings:
    @pytest.fixture
    def sickbay_settings(self, monkeypatch):
        monkeypatch.setenv("RETRY_DELAY_MS", "77000")
        monkeypatch.setenv("RABBITMQ_URL", "amqp://nobody.example.com")
        return {"MAX_RETRIES": 4, "failure_threshold": 2}

    def test_are_those_of_the_fixture_alone(self, sickbay_system: System, service: Service):
        service.is_down = True
        first = sickbay_system.submit("email")
        sickbay_system.advance(6)
        assert sickbay_system.job(first).attempt == 2, "after the default's 5 s, whatever the environment says"
        sickbay_system.submit("email")
        sickbay_system.drain()
        assert sickbay_system.breaker("email").state is BreakerState.OPEN


def test_a_breaker_of_which_nothing_is_known(sickbay_system: System):
    with pytest.raises(NotFound):
        sickbay_system.breaker("email")


def test_a_handler_that_hangs_is_waited_for_no_longer_than_said():
    go_on = threading.Event()

    @handler("hangs")
    def hangs(job: Job):
        go_on.wait(60)

    with start_system([hangs]) as system:
        system.submit("hangs")
        with pytest.raises(TimeoutError, match=r"jobs still run, or are due, after 0.05 s"):
            system.drain(patience=0.05)
        go_on.set()
        system.drain()


def test_handlers_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "handlers_in_memory.py").write_text("from sickbay import handler\nhandler('greet')(lambda job: job.payload['name'])\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with start_system("handlers_in_memory") as system:
        job_id = system.submit("greet", {"name": "Ada"})
        system.drain()
        assert system.result(job_id) == "Ada"
    sys.modules.pop("handlers_in_memory")
    system.close()  # again: nothing happens


@handler("one")
def one(job: Job): ...


@pytest.mark.parametrize(
    ("handlers", "settings", "error", "message"),
    [
        ([len], {}, TypeError, "is not a handler"),
        ([one, handler("one")(lambda job: None)], {}, SettingsError, "two functions handle 'one'"),
        ("no_such_module", {}, SettingsError, "there is no module"),
        ([one], {"MAX_RETRIES": "many"}, SettingsError, "MAX_RETRIES"),
        ([one], {"MAX_RETRYS": 1}, ValueError, "there is no setting MAX_RETRYS"),
        ([one], {"POOL": "reports"}, SettingsError, "POOL needs RABBITMQ_URL"),
    ],
)
def test_what_cannot_be_started(handlers, settings, error, message):
    with pytest.raises(error, match=message):
        start_system(handlers, settings)


def test_without_the_services_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sickbay_cli.in_memory.system", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sickbay\[server\]'"):
        start_system([one])


@job_type("typed")
@dataclass
class Order:
    to: str


@handler("typed", validate="submit")
def take(payload: Order) -> str:
    return payload.to


def test_an_object_as_payload():
    with start_system([take]) as system:
        with pytest.raises(InvalidRequest, match=r"payload\.to: it is missing"):  # from the start
            system.submit("typed", {})
        ids = [system.submit(Order("a")), system.submit(take, Order("b")), system.submit("typed", {"to": "c"})]
        system.drain()
        assert [system.result(job_id) for job_id in ids] == ["a", "b", "c"]
        assert system.client.type("typed").validated_on_submit

"""The documented scenarios on the distributed form with one, two and four workers, and what an operator sees of them in the servers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from redis import Redis

from tests.system import stories
from tests.system.clients import PATIENCE_S, Clients
from tests.system.clinic import Clinic
from tests.system.corner import Corner
from tests.system.fleet import Fleet

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
RETRY_MS: Final = 300


def until(condition: Callable[[], Any], within_s: float = PATIENCE_S) -> None:
    """Ask again and again: for what settles unannounced."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_three_scenarios(fleet: Fleet, corner: Corner, own_clinic: Clinic, workers: int):
    """A transient error, bad data, and an outage that opens the fleet's circuit, heals by one probe, and empties the quarantine."""
    fleet.launch_all(workers=workers).ready()
    with Clients(fleet) as sickbay:
        stories.transient(sickbay, stories.CLINIC, "webhook", RETRY_MS)
        bad = stories.bad_data(sickbay, stories.CLINIC, "bad")
        until(lambda: corner.depths()["jobs.quarantine"] == 1)
        outage = stories.fall_ill(sickbay, own_clinic, "email", 12, others=("sms",))
        seen_by_an_operator(corner, sickbay, set_aside=1 + len(outage.parked))
        ran_before = {(run.job, run.at) for run in own_clinic.runs(job_type="email")}
        with sickbay.breakers_of("email") as circuit:
            own_clinic.repair("email")
            closed = circuit.until("CLOSED")
        stories.recover(sickbay, Repaired(), "email", outage)
        at = closed.update_time.ToMilliseconds()
        probes = [run for run in own_clinic.runs(job_type="email") if (run.job, run.at) not in ran_before and run.at < at]
        assert len({run.job for run in probes}) == len(probes) <= 3, "one at a time, after each cooldown, in the whole fleet"
        stories.cure(sickbay, stories.CLINIC, bad)
        until(lambda: corner.list_queues() | {"jobs.quarantine": 0, "jobs.main": 0, "jobs.retry": 0} == corner.list_queues())
    assert len({run.pid for run in own_clinic.runs()}) <= workers


class Repaired:
    """A dependency that works again already."""

    def break_down(self, job_type: str) -> None:
        """Not here."""

    def repair(self, job_type: str) -> None:
        """It is."""


def seen_by_an_operator(corner: Corner, sickbay: Clients, set_aside: int) -> None:
    """While `email` is open: what redis-cli and rabbitmqctl show, by the documented names."""
    assert {"breaker:email", "breaker:sms", "breaker:bad"} <= set(corner.redis_cli("KEYS", "breaker:*"))
    assert json.loads(corner.redis_cli("GET", "breaker:email"))["state"] in {"OPEN", "HALF_OPEN"}
    assert json.loads(corner.redis_cli("GET", "breaker:sms"))["state"] == "CLOSED"
    assert int(corner.redis_cli("GET", "failure:email:API_TIMEOUT")) >= stories.THRESHOLD
    assert "failure:email:API_TIMEOUT" in corner.redis_cli("KEYS", "failure:*")
    metrics = sickbay.plane.get("/metrics").json()
    assert metrics["circuitBreakers"]["open"] == 1
    assert metrics["failures"]["byJobType"]["email"] >= stories.THRESHOLD
    queues = corner.list_queues()
    assert {"jobs.main", "jobs.retry", "jobs.quarantine"} <= queues.keys()
    until(lambda: corner.list_queues()["jobs.quarantine"] >= set_aside)


def test_failures_are_counted_across_the_fleet(fleet: Fleet, own_clinic: Clinic):
    """Four jobs that hold their worker until they fail together: no worker alone sees four, and the circuit opens all the same."""
    fleet.env["CONCURRENCY"] = "1"
    fleet.env["FAILURE_THRESHOLD"] = "4"
    fleet.launch_all(workers=4).ready()
    with Clients(fleet) as sickbay:
        sickbay.wait(sickbay.submit("email"), "SUCCEEDED")
        own_clinic.break_down("email")
        hold = own_clinic.make_gate("together")
        ids = [sickbay.submit("email", {"do": hold}) for _ in range(4)]
        sickbay.wait_all(ids, "RUNNING")
        with sickbay.breakers_of("email") as circuit:
            own_clinic.open_gate("together")
            opened = circuit.until("OPEN")
        assert opened.reason_code == "API_TIMEOUT"
        first_runs = [run for run in own_clinic.runs(job_type="email") if run.job in ids and run.attempt == 0 and run.generation == 0]
        assert len({run.pid for run in first_runs}) == 4
        own_clinic.repair("email")
        sickbay.wait_all(ids, "SUCCEEDED")


def test_healthy_jobs_ask_redis_nothing(fleet: Fleet, corner: Corner):
    """Two hundred jobs cost no admission, no verdict: the commands of the script do not grow with the jobs."""
    fleet.launch("controlplane")
    fleet.launch("worker")
    fleet.launch("jobapi", REDIS_URL="")
    fleet.ready()
    with Clients(fleet) as sickbay, Redis.from_url(corner.redis, decode_responses=True) as redis:
        sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
        before = scripts_run(redis)
        sickbay.wait_all(sickbay.submit_all("ok", *({"number": number} for number in range(200))), "SUCCEEDED")
        # Success is told to Redis now and then, never per job; other tests' scripts on the same server count, too.
        assert scripts_run(redis) - before < 100


def scripts_run(redis: Redis) -> int:
    """How often the server ran a script."""
    stats: Any = redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval", "fcall"))

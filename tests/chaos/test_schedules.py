"""A thousand times of schedules: exactly one job for each, whatever control plane dies at whatever step, and while the ledger is away."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL
from typing import Final

import httpx
import pytest

from tests.support import killing_scheduler
from tests.support.chaos_load import Weather
from tests.support.fake_clock import ahead
from tests.support.fake_dependency import Clinic
from tests.support.faults.proxied import proxied
from tests.support.fleet import Fleet, Service
from tests.support.isolated_servers import Corner
from tests.support.killing_scheduler import STEPS
from tests.support.waiting import until

WEATHER: Final = Weather.read()
SCHEDULES: Final = 25
TICKS: Final = 1_000
CLOCKS: Final = ("+2s", "-2s")
SETTLED_S: Final = 120
KILLER: Final = Path(killing_scheduler.__file__)
pytestmark = [pytest.mark.servers, pytest.mark.chaos, pytest.mark.timeout(400 + 100 * WEATHER.rounds + 2 * WEATHER.outage_s)]


def test_there_is_one_job_for_each_of_a_thousand_times(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """Three control planes whose clocks differ, one of them killed at each step, and the ledger cut off from all of them."""
    shutil.copy(KILLER, own_clinic.folder / KILLER.name)
    with proxied(corner.postgres) as (url, call):
        fleet.env["DATABASE_URL"] = url
        steady = [fleet.launch("controlplane", **ahead(clock))[0] for clock in CLOCKS]
        fleet.launch("worker", 2)
        fleet.ready()
        with rest(steady[0]) as plane:
            start = create(plane)
            for number, step in enumerate(STEPS * WEATHER.rounds):
                killed(fleet, step, CLOCKS[number % 2])
            third = fleet.launch("controlplane")[0]
            call("cut")
            time.sleep(WEATHER.outage_s)
            call("accept")
            third.ready()
            enough = max(start + TICKS // SCHEDULES * 1_000, int(time.time()) * 1_000)
            until(lambda: all(last >= enough for last in last_times(corner).values()), SETTLED_S, pause_s=0.5)
            for name in NAMES:
                answer = plane.post(f"/schedules/{name}/pause", json={"note": "enough"})
                assert answer.status_code == 200, answer.text
            until(lambda: states(corner).keys() == {"SUCCEEDED"}, SETTLED_S, pause_s=0.5)
        check(corner, own_clinic, {(name, at) for name, last in last_times(corner).items() for at in range(start, last + 1, 1_000)})


SPEC: Final = {"jobType": "ok", "intervalSeconds": 1, "overlap": "ALLOW"}
NAMES: Final = [f"every-second-{number}" for number in range(SCHEDULES)]


@contextmanager
def rest(service: Service) -> Iterator[httpx.Client]:
    """Its REST API."""
    with ExitStack() as stack:
        yield stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{service.ports[0]}", timeout=60, trust_env=False))


def create(plane: httpx.Client) -> int:
    """Create all of them; their first time (ms)."""
    start = (int(time.time()) + 6) * 1_000
    for name in NAMES:
        answer = plane.post("/schedules", json={"scheduleId": name, "spec": {**SPEC, "startAt": instant(start)}})
        assert answer.status_code == 200, answer.text
    assert time.time() * 1_000 < start, "creating them took too long"
    return start


def instant(ms: int) -> str:
    """As the API has it."""
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat().replace("+00:00", "Z")


def killed(fleet: Fleet, step: str, clock: str) -> None:
    """A control plane that kills itself at this step, in the middle of everything."""
    env = {**ahead(clock), "OBSERVERS": "killing_scheduler:Killer", "KILL_AT": step}
    (victim,) = fleet.launch("controlplane", **env)
    assert victim.wait() == -SIGKILL, f"it killed itself: {step}\n{victim.err.text}"
    fleet.retire(victim)


def last_times(corner: Corner) -> dict[str, int]:
    """The last time of each schedule that has a job."""
    return {
        row["schedule_id"]: row["last"] for row in corner.sql("SELECT schedule_id, max(tick_at) AS last FROM jobs GROUP BY schedule_id")
    }


def states(corner: Corner) -> dict[str, int]:
    """How many jobs the ledger knows in each state."""
    return {row["state"]: row["jobs"] for row in corner.sql("SELECT state, count(*) AS jobs FROM jobs GROUP BY state")}


def check(corner: Corner, clinic: Clinic, expected: set[tuple[str, int]]) -> None:
    """None lost, none twice, each run at least once; the history says the same."""
    rows = corner.sql("SELECT job_id, schedule_id, tick_at, submitted_at FROM jobs")
    times = Counter((row["schedule_id"], row["tick_at"]) for row in rows)
    assert times.keys() == expected, sorted(times.keys() ^ expected)[:5]
    assert {name for name, _ in expected} == set(NAMES)
    assert len(expected) >= TICKS
    assert set(times.values()) == {1}
    done = Counter(run.job for run in clinic.runs(what="done"))
    assert done.keys() == {row["job_id"] for row in rows}
    runs = Counter(row["outcome"] for row in corner.sql("SELECT outcome FROM schedule_runs"))
    assert runs == {"SUBMITTED": len(expected)}
    again = sum(done.values()) - len(done)
    late = sorted(row["submitted_at"] - row["tick_at"] for row in rows)
    print(f"\n{len(rows)} times, {again} jobs run twice; late by {late[len(late) // 2]} ms in the middle, {late[-1]} ms at most")

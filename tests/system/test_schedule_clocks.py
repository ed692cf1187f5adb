"""Schedules of a process whose clock is set while it runs, and of one that was away.

Nothing fires twice, and the policy says what is made up for.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.fake_clock import SteppedClock, ahead
from tests.support.fake_dependency import Clinic
from tests.support.system_under_test import Product
from tests.support.waiting import until
from tests.system.conftest import QUICK

Start = Callable[..., Product]

DAY_MS: Final = 86_400_000
GOES_ON_S: Final = 15


@contextmanager
def rest(product: Product) -> Iterator[httpx.Client]:
    """The control plane's REST API."""
    with httpx.Client(base_url=f"http://127.0.0.1:{product.ports['Control plane'][0]}", timeout=60, trust_env=False) as client:
        yield client


def create(plane: httpx.Client, name: str, **spec: Any) -> None:
    """A schedule whose jobs end at once."""
    answer = plane.post("/schedules", json={"scheduleId": name, "spec": {"jobType": "ok", **spec}})
    assert answer.status_code == 200, answer.text


def sql(folder: Path, question: str) -> list[tuple[Any, ...]]:
    """Rows of the ledger."""
    with closing(sqlite3.connect(f"file:{folder}/data/ledger.db?mode=ro", uri=True)) as connection:
        return connection.execute(question).fetchall()


def times(folder: Path) -> list[int]:
    """For which times there is a job, in the order of their submission."""
    return [at for (at,) in sql(folder, "SELECT tick_at FROM jobs ORDER BY rowid")]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_nothing_fires_twice_when_the_clock_is_set_forward_and_back(own_clinic: Clinic, start: Start):
    """A day ahead and back, an hour back and ahead: it goes on at once, at the right times, with one job for each."""
    folder = own_clinic.folder
    clock = SteppedClock(folder / "clock")
    with rest(start(folder, QUICK | dict(clock.env)).ready()) as plane:
        create(plane, "every-second", intervalSeconds=1, overlap="ALLOW", catchUpWindowSeconds=60)
        for difference, ms in (("+0d", 0), ("+1d", DAY_MS), ("+0d", 0), ("-1h", -DAY_MS // 24), ("+0d", 0)):
            clock.step(difference)
            until(lambda ahead_ms=ms: goes_on(folder, ahead_ms), GOES_ON_S)
        assert plane.post("/schedules/every-second/pause", json={}).status_code == 200
        submitted = Counter(times(folder))
        assert set(submitted.values()) == {1}
        until(lambda: ended(folder) == len(submitted))
        done = Counter(run.job for run in own_clinic.runs(what="done"))
        assert set(done.values()) == {1}, "no job ran twice"
        assert len(done) == len(submitted)


def goes_on(folder: Path, ahead_ms: int) -> bool:
    """Whether there are jobs for the last three times, by a clock that is so far ahead."""
    now = now_ms() + ahead_ms
    return len([at for at in times(folder) if now - 5_000 < at <= now + 1_000]) >= 3


def ended(folder: Path) -> int:
    """How many jobs have."""
    ((count,),) = sql(folder, "SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'")
    return int(count)


EVERY_MS: Final = 30_000
POLICIES: Final = {
    "skip": {"overlap": "SKIP"},
    "buffer": {"overlap": "BUFFER_ONE"},
    "all": {"overlap": "ALLOW"},
    "recent": {"overlap": "ALLOW", "catchUpWindowSeconds": 120},
    "none": {"overlap": "ALLOW", "catchUpWindowSeconds": 0},
}
JOB, SKIPPED, MISSED = "SUBMITTED", "SKIPPED_OVERLAP", "MISSED"


def test_what_is_made_up_for_after_ten_minutes_away(own_clinic: Clinic, start: Start):
    """Schedules of every half minute, whose product comes back when ten minutes have passed by its clock: each by its policy."""
    folder = own_clinic.folder
    product = start(folder, QUICK).ready()
    first = (now_ms() // 1_000 + 60) * 1_000
    with rest(product) as plane:
        for name, policy in POLICIES.items():
            create(plane, name, intervalSeconds=30, startAt=instant(first), **policy)
        create(plane, "over", intervalSeconds=30, startAt=instant(first), endAt=instant(first + 3 * EVERY_MS))
    product.stop()
    with rest(start(folder, QUICK | dict(ahead("+10m"))).ready()) as plane:
        seen = {name: until(lambda name=name: first_look(folder, name)) for name in [*POLICIES, "over"]}
        back = seen["all"][0][-1]
        passed = list(range(first, back + 1, EVERY_MS))
        assert 15 < len(passed) < 25
        of = {name: [row[:3] for row in rows] for name, rows in seen.items()}
        assert of["skip"] == [(first, JOB, 1), (passed[-1], SKIPPED, len(passed) - 1)]
        assert of["buffer"] == [(first, JOB, 1), (passed[-1], SKIPPED, len(passed) - 2)]
        assert of["all"] == [(at, JOB, 1) for at in passed]
        assert of["over"] == [(first, JOB, 1), (first + 2 * EVERY_MS, SKIPPED, 2)]
        for name, window_ms in (("recent", 120_000), ("none", 60_000)):
            too_old = [at for at in passed if at < seen[name][0][-1] - window_ms]
            made_up_for = [(at, JOB, 1) for at in passed if at not in too_old]
            assert of[name] == [(too_old[-1], MISSED, len(too_old)), *made_up_for]
        waited = f"SELECT handled_at FROM schedule_runs WHERE schedule_id = 'buffer' AND tick_at = {passed[1]} AND outcome = '{JOB}'"  # noqa: S608 - ours
        until(lambda: sql(folder, waited))  # when the first job had ended
        assert plane.get("/schedules/over").json()["state"] == "ENDED"
        until(lambda: not sql(folder, "SELECT 1 FROM jobs WHERE state <> 'SUCCEEDED'"))
    assert set(Counter(run.job for run in own_clinic.runs(what="done")).values()) == {1}


def first_look(folder: Path, name: str) -> list[tuple[Any, ...]]:
    """What became of the times of a schedule when it was looked at again: the last time, the outcome, how many, when."""
    of_it = f"FROM schedule_runs WHERE schedule_id = '{name}'"
    look = f"SELECT tick_at, outcome, times, handled_at {of_it} AND handled_at = (SELECT min(handled_at) {of_it}) ORDER BY tick_at"
    return sql(folder, look)


def instant(ms: int) -> str:
    """As the API has it."""
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat().replace("+00:00", "Z")

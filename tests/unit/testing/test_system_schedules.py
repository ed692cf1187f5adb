"""`sickbay_system`: what has a schedule runs when the test moves the clock to its time, and not before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from sickbay import Job, Schedule, handler
from sickbay.testing import System

pytest_plugins = ["sickbay.testing.pytest_plugin"]


@pytest.fixture
def times():
    """For which times the handlers ran."""
    return []


@pytest.fixture
def sickbay_handlers(times):
    @handler("report", schedule="0 3 * * *", timezone="Asia/Tokyo")
    def report(job: Job):
        times.append(datetime.fromtimestamp(job.tick_at / 1000, UTC))

    @handler("poll", schedule=Schedule(interval=timedelta(days=30), payload={"all": True}))
    async def poll(job: Job):
        assert job.payload == {"all": True}

    return [report, poll]


def test_each_of_its_times_has_one_job(sickbay_system: System, times: list[datetime]):
    sickbay_system.drain()
    assert times == []
    began = sickbay_system.now
    sickbay_system.advance(3 * 86_400)
    assert len(times) == 3
    assert {one.strftime("%H:%M:%S") for one in times} == {"18:00:00"}
    assert [later - one for one, later in pairwise(times)] == [timedelta(days=1)] * 2
    assert timedelta() < times[0] - began <= timedelta(days=1)
    assert [one.outcome for one in sickbay_system.client.schedules.runs("report")] == ["SUBMITTED"] * 3


def test_its_schedule_is_that_of_the_code(sickbay_system: System, times: list[datetime]):
    """And it can be triggered without waiting for its time."""
    found = sickbay_system.client.schedules.get("report")
    assert (found.origin, found.orphaned, found.spec.timezone) == ("CODE", False, "Asia/Tokyo")
    sickbay_system.client.schedules.trigger("report")
    sickbay_system.drain()
    assert len(times) == 1

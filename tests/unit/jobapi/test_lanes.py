"""In which lane a submitted job waits."""

import pytest

from sickbay.domain.job import Job
from sickbay.domain.lane import Lane
from sickbay.domain.priority import Priority
from sickbay.domain.workers import UNKNOWN, Fleet, Worker
from sickbay.submission.lanes import BURSTS, SMALL, LaneChoice

NEW = Worker("new", "new", ("email",), lanes=True)
OLD = Worker("old", "old", ("email",))
LANED = Fleet(5_000, [NEW], unannounced=0)


class Seen:
    """A view of the fleet that has looked."""

    def __init__(self, fleet, *, is_new=True):
        self.seen = fleet
        self.is_new = is_new
        self.asked = 0

    async def look(self):
        self.asked += 1


class Seconds:
    def __init__(self):
        self.now = 100.5

    def __call__(self):
        return self.now


def jobs(count=1, job_type="email", priority=Priority.NORMAL, tenant="default"):
    return [Job(f"j{n}", job_type, tenant=tenant, priority=priority) for n in range(count)]


@pytest.mark.parametrize(("priority", "lane"), [(Priority.HIGH, Lane.HIGH), (Priority.NORMAL, Lane.MAIN), (Priority.LOW, Lane.LOW)])
def test_the_priority_names_the_lane(priority, lane):
    assert LaneChoice(Seen(LANED)).keys(jobs(priority=priority)) == [lane]


@pytest.mark.parametrize(
    "fleet",
    [
        UNKNOWN,
        Fleet(5_000, [], unannounced=0),
        Fleet(5_000, [NEW, OLD], unannounced=0),
        Fleet(5_000, [NEW], unannounced=1),
        Fleet(5_000, [NEW], unannounced=None),
    ],
    ids=["Redis away", "no worker", "an old worker", "an unknown worker", "RabbitMQ does not say"],
)
@pytest.mark.parametrize("priority", Priority)
def test_all_jobs_wait_in_the_main_lane_unless_every_worker_certainly_takes_from_all(fleet, priority):
    choice = LaneChoice(Seen(fleet))
    assert choice.keys(jobs(1_000, priority=priority)) == [Lane.MAIN] * 1_000
    assert LaneChoice(None).keys(jobs(priority=priority)) == [Lane.MAIN]


def test_an_old_worker_that_is_leaving_takes_nothing_and_holds_up_nothing():
    leaving = Worker("old", "old", ("email",), draining=True)
    assert LaneChoice(Seen(Fleet(5_000, [NEW, leaving], unannounced=0))).keys(jobs(priority=Priority.LOW)) == [Lane.LOW]


def test_flows_that_flood_a_worker_wait_behind_others():
    flooded = Worker("w", "w", ("email",), lanes=True, floods=(("main", "email", "default"),))
    choice = LaneChoice(Seen(Fleet(5_000, [NEW, flooded], unannounced=0)))
    assert choice.keys([*jobs(), *jobs(tenant="other"), *jobs(job_type="sms")]) == [Lane.DEMOTED, Lane.MAIN, Lane.MAIN]
    assert choice.keys([*jobs(priority=Priority.HIGH), *jobs(priority=Priority.LOW)]) == [Lane.HIGH, Lane.LOW]
    assert choice.demoted == {"email": 1}


@pytest.mark.parametrize(("priority", "lane"), [(Priority.HIGH, Lane.HIGH), (Priority.NORMAL, Lane.MAIN), (Priority.LOW, Lane.LOW)])
def test_a_burst_waits_behind_others_until_the_second_is_over(priority, lane):
    seconds = Seconds()
    choice = LaneChoice(Seen(LANED), seconds)
    beyond = Lane.LOW if lane is Lane.LOW else Lane.DEMOTED
    burst = BURSTS.get(lane, 1_000)
    assert choice.keys(jobs(burst + 2, priority=priority)) == [lane] * burst + [beyond] * 2
    assert choice.keys(jobs(tenant="other")) == [Lane.MAIN], "each flow for itself"
    seconds.now += 0.5
    assert choice.keys(jobs(priority=priority)) == [lane]


def test_large_flows_share_the_burst_and_small_ones_are_left_alone():
    """Each has its equal part, also of the next second, as far as the last one tells."""
    seconds = Seconds()
    choice = LaneChoice(Seen(LANED), seconds)
    types = ("a", "b", "c", "d", "e")
    together = [job for _ in range(BURSTS[Lane.MAIN]) for name in types for job in jobs(job_type=name)]

    def stayed():
        lanes = choice.keys(together)
        return {name: sum(lane is Lane.MAIN for lane, job in zip(lanes, together, strict=True) if job.job_type == name) for name in types}

    assert set(stayed().values()) <= {BURSTS[Lane.MAIN] // 5, BURSTS[Lane.MAIN] // 5 + 1}, "one more until it is known that there are five"
    assert choice.keys(jobs(SMALL, job_type="small")) == [Lane.MAIN] * SMALL
    seconds.now += 1
    assert choice.keys(jobs(BURSTS[Lane.MAIN], job_type="a")).count(Lane.MAIN) == BURSTS[Lane.MAIN] // 5
    seconds.now += 2
    assert choice.keys(jobs(BURSTS[Lane.MAIN], job_type="a")).count(Lane.MAIN) == BURSTS[Lane.MAIN]


async def test_the_registry_is_asked_in_the_background_when_the_answer_is_old():
    seen = Seen(LANED, is_new=False)
    choice = LaneChoice(seen)
    async with choice.detached:
        assert choice.keys(jobs()) == [Lane.MAIN]
    assert seen.asked == 1

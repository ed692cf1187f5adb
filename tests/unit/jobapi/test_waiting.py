"""How many jobs wait: what the ledger has counted, and what it cannot know yet."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.errors import Unavailable
from sickbay.domain.job import Job
from sickbay.ports.limits import Waiting
from sickbay.submission.waiting import MAX_SLOTS, SLOT_MS, STALE_S, WaitingJobs
from tests.support.clock import START, ManualClock


class Ledger:
    """Knows the jobs that it was told of; `apply` makes it tell of them."""

    def __init__(self):
        self.known = []
        self.away = False

    async def count(self):
        if self.away:
            raise Unavailable("away")
        tenants = {job.tenant for job, waits in self.known if waits}
        waiting = {tenant: sum(waits and job.tenant == tenant for job, waits in self.known) for tenant in tenants}
        return Waiting(waiting, max((job.submitted_at for job, _ in self.known), default=0))


def job(tenant="acme", at=START):
    return Job("j", job_type="email", submitted_at=at, tenant=tenant)


def opened(ledger, seconds=lambda: 0.0):
    clock = ManualClock()
    return WaitingJobs(ledger, clock, lambda: True, seconds), clock


async def test_nothing_is_known_before_the_first_count():
    waiting, _ = opened(Ledger())
    assert waiting.count("acme") is None
    await waiting.refresh()
    assert (waiting.count("acme"), waiting.count(None)) == (0, 0)


async def test_a_job_counts_from_its_acceptance_on_and_once():
    """Until it is in the ledger, and then there."""
    ledger = Ledger()
    waiting, clock = opened(ledger)
    await waiting.refresh()
    waiting.add(job())
    waiting.add(job("other"))
    assert (waiting.count("acme"), waiting.count("other"), waiting.count(None)) == (1, 1, 2)
    clock.now += 5_000
    await waiting.refresh()
    assert waiting.count(None) == 2
    ledger.known = [(job(), True), (job("other"), False), (job("third"), True)]
    await waiting.refresh()
    assert (waiting.count("acme"), waiting.count("other"), waiting.count(None)) == (1, 0, 2)


async def test_while_the_ledger_stands_still_accepted_jobs_count_on():
    """The control plane is away: nothing that was accepted is forgotten, however long it takes."""
    waiting, clock = opened(Ledger())
    for _ in range(MAX_SLOTS + 50):
        await waiting.refresh()
        waiting.add(job(at=clock.now))
        clock.now += SLOT_MS
    assert waiting.count("acme") == MAX_SLOTS + 50


async def test_the_clocks_of_others_forget_nothing():
    """A job in the ledger that was submitted in the future by its clock says nothing about ours."""
    ledger = Ledger()
    waiting, clock = opened(ledger)
    ledger.known = [(job("other", START + 3_600_000), True)]
    await waiting.refresh()
    waiting.add(job(at=clock.now))
    await waiting.refresh()
    assert waiting.count("acme") == 1


async def test_an_old_count_limits_nothing():
    now = [0.0]
    ledger = Ledger()
    waiting, _ = opened(ledger, lambda: now[0])
    await waiting.refresh()
    ledger.away = True
    now[0] = STALE_S - 1
    await waiting.refresh()
    assert waiting.count("acme") == 0
    now[0] = STALE_S
    assert (waiting.count("acme"), waiting.counted) == (None, {})


async def test_without_a_ledger_the_log_says_so_once(caplog):
    waiting, _ = opened(None)
    await waiting.refresh()
    await waiting.refresh()
    assert waiting.count(None) is None
    assert [record.message for record in caplog.records] == [
        "waiting jobs are not limited: this needs DATABASE_URL, which is not set for this service"
    ]


async def test_the_ledger_is_asked_while_a_bound_is_set():
    """And not before: no bound costs nothing."""
    wanted, asked = [False], asyncio.Event()

    class Asked(Ledger):
        async def count(self):
            asked.set()
            return await super().count()

    waiting = WaitingJobs(Asked(), ManualClock(), lambda: wanted[0])
    async with waiting.watched():
        await asyncio.sleep(0)
        assert not asked.is_set()
    wanted[0] = True
    async with waiting.watched():
        async with asyncio.timeout(5):
            await asked.wait()


@given(st.lists(st.sampled_from(["accept", "fail", "ingest", "run", "count"]), max_size=60))
def test_the_bound_never_sees_fewer_jobs_than_wait(steps):
    """Law: with one Job API and a ledger in order, the count is at least what waits, and after a count of all exactly that."""
    asyncio.run(_walk(steps))


async def _walk(steps):
    ledger = Ledger()
    waiting, clock = opened(ledger)
    await waiting.refresh()
    queue, done = [], 0
    for step in [*steps, "ingest", "count"]:
        clock.now += 3 * SLOT_MS
        if step in {"accept", "fail"}:
            new = job(at=clock.now)
            waiting.add(new)
            if step == "fail":
                waiting.remove(new)
            else:
                queue.append(new)
        elif step == "run":
            done = min(len(queue), done + 1)
        elif step == "ingest":
            ledger.known = [(one, place >= done) for place, one in enumerate(queue)]
        else:
            await waiting.refresh()
        assert waiting.count("acme") >= len(queue) - done
    assert waiting.count("acme") == len(queue) - done

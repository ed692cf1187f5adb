"""The healer's releases: leased and published one after the other, finalised in the background, many at a time."""

import asyncio

import pytest

from controlplane import background_releases, healer
from controlplane.background_releases import MOST, BackgroundReleases
from controlplane.finaliser import Finaliser
from controlplane.release import UNPAID, Releaser
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.ports import Queue
from tests.support.embedded_backends import open_backends
from tests.support.quarantine_events import EMAIL, parked, set_aside, take
from tests.unit.controlplane.test_healer import healing


class SlowStore:
    """The quarantine whose `mark_released` waits for the test."""

    def __init__(self, inner):
        self._inner = inner
        self.asked = []
        self.may_go = asyncio.Event()

    async def mark_released(self, leases, *, records=True):
        self.asked.append([lease.job.job_id for lease in leases])
        await self.may_go.wait()
        return await self._inner.mark_released(leases, records=records)

    def __getattr__(self, name):
        return getattr(self._inner, name)


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


async def leased(backends, count):
    await set_aside(backends, *(parked(f"p{n:02}") for n in range(count)))
    return [await backends.quarantine.lease_parked(EMAIL, 1) for _ in range(count)]


async def known(leases):
    """What is leased already."""
    return leases, UNPAID


async def released(releases, leases):
    releases.begin(known(leases))
    await releases.finish()


async def test_those_that_are_published_meanwhile_are_finalised_together():
    async with open_backends() as backends:
        store = SlowStore(backends.quarantine)
        finaliser = Finaliser(store)
        first, *others = await leased(backends, 4)
        asking = [asyncio.create_task(finaliser.mark_released(first))]
        await turns()
        asking += [asyncio.create_task(finaliser.mark_released(leases)) for leases in others]
        await turns()
        assert store.asked == [["p00"]]
        asking[2].cancel()
        store.may_go.set()
        records = [await one for one in asking if one is not asking[2]]
        assert [(record.job.job_id, record.state) for (record,) in records] == [(f"p0{n}", JobState.QUEUED) for n in (0, 1, 3)]
        assert (await backends.reader.get("p02")).state is JobState.QUEUED, "only its waiting was cancelled"
        assert store.asked == [["p00"], ["p01", "p02", "p03"]]


async def test_all_that_are_finalised_together_hear_of_the_failure_and_the_next_ones_are_finalised():
    async with open_backends() as backends:
        first, second, third = await leased(backends, 3)
        store = SlowStore(backends.quarantine)
        finaliser = Finaliser(store)
        asking = [asyncio.create_task(finaliser.mark_released(leases)) for leases in (first, second)]
        backends.quarantine.fail("mark_released")
        store.may_go.set()
        assert [type(error) for error in await asyncio.gather(*asking, return_exceptions=True)] == [Unavailable, Unavailable]
        assert [record.job.job_id for record in await finaliser.mark_released(third)] == ["p02"]


async def test_several_are_released_at_a_time_and_on_released_comes_at_the_end_of_each():
    async with open_backends() as backends:
        store, heard = SlowStore(backends.quarantine), []
        releases = BackgroundReleases(Releaser(backends.broker, store), lambda: heard.append("released"))
        for leases in await leased(backends, 3):
            releases.begin(known(leases))
        await take(backends, Queue.MAIN, 3)
        assert heard == []
        store.may_go.set()
        await releases.finish()
        assert heard == ["released"] * 3
        assert (await backends.writer.counts())[JobState.QUEUED] == 3


async def test_a_ledger_that_does_not_answer_stops_the_releases():
    async with open_backends() as backends:
        store = SlowStore(backends.quarantine)
        releases = BackgroundReleases(Releaser(backends.broker, store), lambda: None)
        for leases in await leased(backends, MOST):
            await releases.has_room()
            releases.begin(known(leases))
        waiting = asyncio.create_task(releases.has_room())
        await turns()
        assert not waiting.done()
        store.may_go.set()
        await waiting
        await releases.finish()


@pytest.mark.parametrize("cut", ["publish", "mark_released"])
async def test_what_made_a_release_fail_is_raised_once_and_its_jobs_come_back_after_their_lease(cut):
    async with open_backends() as backends:
        part = backends.broker if cut == "publish" else backends.quarantine
        releases = BackgroundReleases(Releaser(backends.broker, backends.quarantine), lambda: None)
        (leases,) = await leased(backends, 1)
        part.fail(cut)
        with pytest.raises(Unavailable):
            await released(releases, leases)
        await releases.has_room()
        backends.clock.now += 60_000
        (lease,) = await backends.quarantine.lease_expired()
        assert lease.job.maybe_duplicate


async def test_at_its_end_the_healer_waits_for_what_is_not_finalised_yet(monkeypatch):
    """There is no release in flight when it has stopped; of a ledger that does not answer it does not wait for long."""
    monkeypatch.setattr(healer, "WINDOW", 2)
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"p{n}") for n in range(3)))
        store = SlowStore(backends.quarantine)
        one = healing(backends)
        one._releases = BackgroundReleases(Releaser(backends.broker, store), lambda: None)
        running = asyncio.create_task(one.run())
        await take(backends, Queue.MAIN, 2)
        running.cancel()
        await turns()
        assert not running.done()
        store.may_go.set()
        await asyncio.wait({running})
        assert (await backends.writer.counts())[JobState.QUEUED] >= 2


async def test_a_release_that_hangs_is_cut_off_at_the_end(monkeypatch, caplog):
    monkeypatch.setattr(background_releases, "CLOSE_S", 0.01)
    async with open_backends() as backends:
        releases = BackgroundReleases(Releaser(backends.broker, SlowStore(backends.quarantine)), lambda: None)
        (leases,) = await leased(backends, 1)
        releases.begin(known(leases))
        await releases.close()
        await turns()
        assert not releases._tasks
        backends.quarantine.fail("mark_released")
        failing = BackgroundReleases(Releaser(backends.broker, backends.quarantine), lambda: None)
        failing.begin(known(leases))
        await failing.close()
        assert "a release was interrupted" in caplog.text

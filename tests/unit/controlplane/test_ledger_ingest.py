"""The keeper, with a ledger that fails in the middle."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from controlplane import ledger_ingest as keeper_module
from controlplane.ledger_ingest import LedgerIngester
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.messages.codec import encode_events, encode_job
from sickbay.ports import Message, Queue
from tests.support.embedded_backends import open_backends
from tests.support.quarantine_events import job


@asynccontextmanager
async def keeping(backends):
    """A keeper at work, until it stops at the end; what it gives is a queue of the events that it has told the ledger."""
    heard = asyncio.Queue()
    keeper = LedgerIngester(backends.broker, backends.writer, backends.clock, heard.put_nowait)
    running = asyncio.create_task(keeper.run())
    yield heard
    await keeper.stop()
    await running


async def test_events_wait_in_their_queue_while_the_ledger_is_away(monkeypatch):
    monkeypatch.setattr(keeper_module, "MAX_WRITE_RETRY_S", 0.0)
    async with open_backends() as backends:
        backends.writer.fail("apply", 3)
        await backends.broker.publish([Message("job.events", encode_events([JobEvent(job("a"), JobState.QUEUED, 5)]))])
        async with keeping(backends) as heard:
            (event,) = await heard.get()
        assert event.job.job_id == "a"
        assert (await backends.reader.get("a")).state is JobState.QUEUED
        assert await backends.broker.depth(Queue.LEDGER) == 0


async def test_a_keeper_stops_although_the_ledger_is_away(caplog):
    """It waits for nobody then, and gives back what it could not tell."""
    async with open_backends() as backends:
        backends.writer.fail("apply", 1_000_000)
        await backends.broker.publish([Message("job.events", encode_events([JobEvent(job("a"), JobState.QUEUED, 5)]))])
        async with keeping(backends):
            while "lags behind" not in caplog.text:
                await asyncio.sleep(0)
        assert await backends.broker.depth(Queue.LEDGER) == 1


async def test_events_come_again_after_the_keeper_was_cut_between_ledger_and_ack():
    async with open_backends() as backends:
        await backends.broker.publish([Message("job.events", encode_events([JobEvent(job("a"), JobState.SUCCEEDED, 5, run="r1")]))])
        backends.writer.fail("apply", 1, after=True)
        first = asyncio.create_task(LedgerIngester(backends.broker, backends.writer, backends.clock, lambda _: None).run())
        while await backends.reader.get("a") is None:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        async with keeping(backends) as heard:
            await heard.get()
        assert (await backends.reader.get("a")).duplicates == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\x00 nonsense", Reason.UNDECODABLE), (encode_job(job("dead")), Reason.BROKER)],
)
async def test_what_is_no_event_is_kept_in_quarantine(body, reason):
    async with open_backends() as backends:
        await backends.broker.publish([Message("job.quarantined.broker", body)])
        async with keeping(backends) as heard:
            (event,) = await heard.get()
        case = await backends.quarantine.get_quarantined(event.job.job_id)
        assert (case.record.state, case.record.reason) == (JobState.QUARANTINED, reason)


class Waits(list):
    """Stands for waiting: notes how long, and ends the waiting task after so many."""

    def __init__(self, most):
        super().__init__()
        self._most = most

    async def __call__(self, seconds):
        self.append(seconds)
        if len(self) == self._most:
            raise asyncio.CancelledError


async def test_a_queue_of_events_that_gives_none_is_asked_ever_more_seldom():
    """From 1 s to 10 s; one batch, and the pauses begin anew."""

    class Away:
        async def get(self, limit):
            raise Unavailable("no session")

    class Back:
        async def get(self, limit):
            return ["batch"]

    async with open_backends() as backends:
        keeper = LedgerIngester(backends.broker, backends.writer, backends.clock, lambda _: None)
        keeper._sleep = waits = Waits(100)
        assert [await keeper._next(Away()) for _ in range(6)] == [()] * 6
        assert await keeper._next(Back()) == ["batch"]
        await keeper._next(Away())
        assert [0.8 * s <= wait <= 1.2 * s for wait, s in zip(waits, (1, 2, 4, 8, 10, 10, 1), strict=True)] == [True] * 7
        assert len(set(waits)) == 7, "spread by chance"


async def test_ended_jobs_are_forgotten_ever_more_seldom_while_the_ledger_is_away(monkeypatch):
    """From a minute to an hour, where it fails and where it breaks; then once an hour, and not all control planes at once."""
    waits = Waits(9)
    async with open_backends() as backends:
        keeper = LedgerIngester(backends.broker, backends.writer, backends.clock, lambda _: None)
        backends.writer.fail("prune", 8)
        with monkeypatch.context() as captured:
            captured.setattr(keeper_module.asyncio, "sleep", waits)
            with pytest.raises(asyncio.CancelledError):
                await keeper.prune()
    expected = (60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600)
    assert [0.8 * s <= wait <= 1.2 * s for wait, s in zip(waits, expected, strict=True)] == [True] * 9
    assert len(set(waits)) == 9, "spread by chance"
    assert 48 <= keeper._prune_backoff.next_s() <= 72, "a success lets the pauses begin anew"


async def test_a_ledger_that_takes_no_events_is_told_until_it_does(monkeypatch):
    monkeypatch.setattr(keeper_module, "MAX_WRITE_RETRY_S", 0.0)
    async with open_backends() as backends:
        keeper = LedgerIngester(backends.broker, backends.writer, backends.clock, lambda _: None)
        running = asyncio.create_task(keeper.run())
        backends.writer.fail("apply", 1_000_000)
        await backends.broker.publish([Message("job.events", encode_events([JobEvent(job("a"), JobState.QUEUED, 5)]))])
        while not keeper.trouble():
            await asyncio.sleep(0)
        assert keeper.trouble().startswith("the ledger accepts no events")
        backends.writer.fail("apply", 0)
        while keeper.trouble():
            await asyncio.sleep(0)
        await keeper.stop()
        await running
        assert keeper.trouble() == "events are no longer consumed; restart this service"


async def test_a_batch_that_never_ends_is_told(monkeypatch):
    monkeypatch.setattr(keeper_module, "STUCK_S", 0.0)
    release = asyncio.Event()
    async with open_backends() as backends:
        monkeypatch.setattr(backends.writer, "apply", lambda _: release.wait(), raising=False)
        keeper = LedgerIngester(backends.broker, backends.writer, backends.clock, lambda _: None)
        running = asyncio.create_task(keeper.run())
        await backends.broker.publish([Message("job.events", encode_events([JobEvent(job("a"), JobState.QUEUED, 5)]))])
        while "has not answered for a long time" not in keeper.trouble():
            await asyncio.sleep(0)
        release.set()
        await keeper.stop()
        await running


async def test_old_events_are_a_lag_and_new_ones_end_it():
    async with open_backends() as backends:
        heard = asyncio.Queue()
        keeper = LedgerIngester(backends.broker, backends.writer, backends.clock, heard.put_nowait)
        running = asyncio.create_task(keeper.run())
        assert not keeper.lag()
        for age_ms, lags in ((keeper_module.LAG_MS, True), (keeper_module.LAG_MS - 1, False)):
            event = JobEvent(job(f"a{age_ms}"), JobState.QUEUED, backends.clock() - age_ms)
            await backends.broker.publish([Message("job.events", encode_events([event]))])
            await heard.get()
            assert bool(keeper.lag()) is lags
        await keeper.stop()
        await running

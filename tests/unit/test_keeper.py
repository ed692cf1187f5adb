"""The keeper, with a ledger that fails in the middle."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from controlplane import keeper as keeper_module
from controlplane.keeper import Keeper
from sickbay.envelope import encode_events, encode_job
from sickbay.job import Event, Reason, State
from sickbay.ports import Message, Queue
from tests.unit.embedded_bench import open_backends
from tests.unit.setting_aside import job


@asynccontextmanager
async def keeping(backends):
    """A keeper at work, until it stops at the end; what it gives is a queue of the events that it has told the ledger."""
    heard = asyncio.Queue()
    keeper = Keeper(backends.broker, backends.writer, backends.clock, heard.put_nowait)
    running = asyncio.create_task(keeper.run())
    yield heard
    await keeper.stop()
    await running


async def test_events_wait_in_their_queue_while_the_ledger_is_away(monkeypatch):
    monkeypatch.setattr(keeper_module, "BACKOFF_S", (0.0,))
    async with open_backends() as backends:
        backends.writer.fail("apply", 3)
        await backends.broker.publish([Message("job.events", encode_events([Event(job("a"), State.QUEUED, 5)]))])
        async with keeping(backends) as heard:
            (event,) = await heard.get()
        assert event.job.job_id == "a"
        assert (await backends.reader.get("a")).state is State.QUEUED
        assert await backends.broker.depth(Queue.LEDGER) == 0


async def test_a_keeper_stops_although_the_ledger_is_away(caplog):
    """It waits for nobody then, and gives back what it could not tell."""
    async with open_backends() as backends:
        backends.writer.fail("apply", 1_000_000)
        await backends.broker.publish([Message("job.events", encode_events([Event(job("a"), State.QUEUED, 5)]))])
        async with keeping(backends):
            while "lags behind" not in caplog.text:
                await asyncio.sleep(0)
        assert await backends.broker.depth(Queue.LEDGER) == 1


async def test_events_come_again_after_the_keeper_was_cut_between_ledger_and_ack():
    async with open_backends() as backends:
        await backends.broker.publish([Message("job.events", encode_events([Event(job("a"), State.SUCCEEDED, 5, run="r1")]))])
        backends.writer.fail("apply", 1, after=True)
        first = asyncio.create_task(Keeper(backends.broker, backends.writer, backends.clock, lambda _: None).run())
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
        case = await backends.wards.case(event.job.job_id)
        assert (case.record.state, case.record.reason) == (State.QUARANTINED, reason)

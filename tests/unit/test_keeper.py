"""The keeper, with a ledger that fails in the middle."""

import asyncio

import pytest

from controlplane import keeper as keeper_module
from controlplane.keeper import Keeper
from sickbay.envelope import encode_events, encode_job
from sickbay.job import Event, Reason, State
from sickbay.ports import Message, Queue
from tests.unit.embedded_bench import open_backends
from tests.unit.setting_aside import job


def keeping(backends, heard):
    return Keeper(backends.broker, backends.writer, backends.clock, heard.put_nowait)


async def test_events_wait_in_their_queue_while_the_ledger_is_away(monkeypatch):
    monkeypatch.setattr(keeper_module, "BACKOFF_S", (0.0,))
    async with open_backends() as backends:
        backends.writer.fail("apply", 3)
        heard = asyncio.Queue()
        keeper = keeping(backends, heard)
        await backends.broker.publish([Message("job.events", encode_events([Event(job("a"), State.QUEUED, 5)]))])
        running = asyncio.create_task(keeper.run())
        (event,) = await heard.get()
        await keeper.stop()
        await running
        assert event.job.job_id == "a"
        assert (await backends.reader.get("a")).state is State.QUEUED
        assert await backends.broker.depth(Queue.LEDGER) == 0


async def test_a_keeper_stops_although_the_ledger_is_away(caplog):
    """It waits for nobody then, and gives back what it could not tell."""
    async with open_backends() as backends:
        backends.writer.fail("apply", 1_000_000)
        keeper = keeping(backends, asyncio.Queue())
        await backends.broker.publish([Message("job.events", encode_events([Event(job("a"), State.QUEUED, 5)]))])
        running = asyncio.create_task(keeper.run())
        while "lags behind" not in caplog.text:
            await asyncio.sleep(0)
        await keeper.stop()
        await running
        assert await backends.broker.depth(Queue.LEDGER) == 1


async def test_events_come_again_after_the_keeper_was_cut_between_ledger_and_ack():
    async with open_backends() as backends:
        heard = asyncio.Queue()
        await backends.broker.publish([Message("job.events", encode_events([Event(job("a"), State.SUCCEEDED, 5, run="r1")]))])
        backends.writer.fail("apply", 1, after=True)
        first = asyncio.create_task(keeping(backends, heard).run())
        while await backends.reader.get("a") is None:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = keeping(backends, heard)
        running = asyncio.create_task(second.run())
        await heard.get()
        await second.stop()
        await running
        assert (await backends.reader.get("a")).duplicates == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\x00 nonsense", Reason.UNDECODABLE), (encode_job(job("dead")), Reason.BROKER)],
)
async def test_what_is_no_event_is_kept_in_quarantine(body, reason):
    async with open_backends() as backends:
        heard = asyncio.Queue()
        keeper = keeping(backends, heard)
        await backends.broker.publish([Message("job.quarantined.broker", body)])
        running = asyncio.create_task(keeper.run())
        (event,) = await heard.get()
        await keeper.stop()
        await running
        case = await backends.wards.case(event.job.job_id)
        assert (case.record.state, case.record.reason) == (State.QUARANTINED, reason)

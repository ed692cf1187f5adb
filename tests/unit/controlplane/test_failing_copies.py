"""A copy that makes the sweep fail holds up no other, and is looked at ever more seldom; a fault of everything gives up nothing."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane import reconcile as sweep_module
from controlplane.failing_copies import FIRST_PAUSE_S, LONGEST_PAUSE_S, MAX_REMEMBERED, FailingCopies
from controlplane.reconcile import QuarantineReconciler
from sickbay.domain.errors import Unavailable
from sickbay.messages.codec import encode_event
from sickbay.ports import TO_QUARANTINE, Message, Queue
from tests.support.clock import ManualClock
from tests.support.embedded_backends import open_backends
from tests.support.quarantine_events import parked, set_aside, take


class Touchy:
    """A ledger or a broker with a fault that shows in one method whenever a job of these is in its hands."""

    def __init__(self, inner, method, *touchy, error=RuntimeError):
        self.inner = inner
        self.asked = []

        async def touched(given, *more):
            given = list(given)
            self.asked.append(len(given))
            if any(name in repr(one) for name in touchy for one in given):
                raise error("a fault")
            return await getattr(inner, method)(given, *more)

        setattr(self, method, touched)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def a_sweep(backends, writer=None, broker=None, seconds=lambda: 0.0):
    return QuarantineReconciler(broker or backends.broker, writer or backends.writer, backends.clock, failing=FailingCopies(seconds))


async def names(backends, count):
    return sorted(one.job_id for one in await take(backends, Queue.QUARANTINE, count)) if count else []


@pytest.mark.parametrize("method", ["check_copies", "apply"])
async def test_a_fault_of_one_copy_holds_up_no_other(method, caplog):
    """Ghosts behind it are taken, unknown ones are told, and it stays as it is."""
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"p{n}") for n in range(6)))
        for name in ("touchy", "unknown"):
            await backends.broker.publish([Message(TO_QUARANTINE, encode_event(parked(name)))])
        for n in (0, 5):
            await backends.quarantine.discard(f"p{n}", "", "me")
        swept = await a_sweep(backends, Touchy(backends.writer, method, "touchy")).run_round(whole=True)
        assert (swept.ghosts, swept.kept, swept.adopted, swept.skipped) == (2, 5, 1, 1)
        assert caplog.text.count("cannot be reconciled") == 1
        assert "RuntimeError: a fault" in caplog.text
        assert await names(backends, 6) == ["p1", "p2", "p3", "p4", "touchy", "unknown"]


async def test_one_that_cannot_even_be_read_or_moved_holds_up_no_other():
    """It stays at the head, where it was."""
    async with open_backends() as backends:
        await set_aside(backends, parked("touchy"), parked("a"), parked("b"))
        await backends.quarantine.discard("b", "", "me")
        broker = Touchy(backends.broker, "publish", "touchy", error=ValueError)
        for _ in range(2):
            swept = await a_sweep(backends, broker=broker).run_round(whole=True)
            backends.clock.now += 1
        assert (swept.kept, swept.skipped, swept.ghosts) == (1, 1, 0)
        assert await names(backends, 2) == ["a", "touchy"]


async def test_it_is_left_alone_for_a_while_and_forgotten_once_it_is_well():
    """Nobody is asked about it meanwhile."""
    clock = ManualClock()
    async with open_backends() as backends:
        await set_aside(backends, parked("touchy"), parked("a"))
        writer = Touchy(backends.writer, "check_copies", "touchy")
        sweep = a_sweep(backends, writer, seconds=clock)
        asked = []
        for passed in (0, FIRST_PAUSE_S - 1, 1, 2 * FIRST_PAUSE_S - 1, 1):
            clock.now += passed
            swept = await sweep.run_round(whole=True)
            assert (swept.kept, swept.skipped) == (1, 1)
            backends.clock.now += 1
            asked.append(len(writer.asked))
            writer.asked.clear()
        assert asked == [3, 1, 3, 1, 3]
        clock.now += 10 * FIRST_PAUSE_S
        writer.check_copies = backends.writer.check_copies
        assert (await sweep.run_round(whole=True)).kept == 2
        assert len(sweep._copies._failing) == 0


def test_the_pauses_grow_from_a_minute_to_an_hour():
    failing = FailingCopies(lambda: 0.0)
    pauses = [failing.record_failure(b"x") for _ in range(9)]
    assert (pauses[:3], pauses[-2:]) == ([60.0, 120.0, 240.0], [3_600.0, 3_600.0])
    assert pauses[0] == FIRST_PAUSE_S
    assert pauses[-1] == LONGEST_PAUSE_S


async def test_a_fault_of_everything_is_not_taken_for_that_of_copies():
    """It is raised, and nothing is destroyed; a ledger that is away is not asked about halves."""
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"p{n}") for n in range(4)))
        await backends.quarantine.discard("p1", "", "me")
        with pytest.raises(RuntimeError):
            await a_sweep(backends, Touchy(backends.writer, "check_copies", "p")).run_round()
        away = Touchy(backends.writer, "check_copies", "p", error=Unavailable)
        with pytest.raises(Unavailable):
            await a_sweep(backends, away).run_round()
        assert away.asked == [4]
        assert await backends.broker.depth(Queue.QUARANTINE) == 4
        backends.clock.now += 1
        assert (await a_sweep(backends).run_round()).ghosts == 1


async def test_a_batch_full_of_them_is_passed_at_the_next_round(monkeypatch):
    """The sweep begins anew once, and not for ever."""
    monkeypatch.setattr(sweep_module, "BATCH", 2)
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"touchy{n}") for n in range(2)), parked("a"), parked("b"))
        await backends.quarantine.discard("b", "", "me")
        sweep = a_sweep(backends, Touchy(backends.writer, "check_copies", "touchy"))
        with pytest.raises(RuntimeError):
            await sweep.run_round()
        backends.clock.now += 1
        swept = [await sweep.run_round(whole=True) for _ in range(2)]
        assert sum(one.ghosts for one in swept) == 1
        assert await names(backends, 3) == ["a", "touchy0", "touchy1"]


@pytest.mark.no_cover  # many examples; shorter tests cover the same
@settings(max_examples=30)
@given(st.lists(st.sampled_from(["alive", "ghost", "touchy", "unknown", "twice"]), max_size=12), st.integers(1, 5))
def test_whichever_copies_make_trouble_no_last_copy_is_destroyed_and_every_ghost_is(kinds, batch):
    """In any order, in any batches, within a few rounds."""

    async def story():
        async with open_backends() as backends:
            for number, kind in enumerate(kinds):
                event = parked(f"{kind}{number}.")
                if kind != "unknown":
                    await backends.writer.apply([event])
                await backends.broker.publish([Message(TO_QUARANTINE, encode_event(event))] * (1 + (kind == "twice")))
                if kind == "ghost":
                    await backends.quarantine.discard(event.job.job_id, "", "me")
            sweep = a_sweep(backends, Touchy(backends.writer, "check_copies", "touchy"))
            for _ in range(len(kinds) + 2):
                backends.clock.now += 1
                try:
                    await sweep.run_round(whole=True)
                except RuntimeError:
                    continue
            stay = sorted(f"{kind}{number}." for number, kind in enumerate(kinds) if kind != "ghost")
            assert await backends.broker.depth(Queue.QUARANTINE) == len(stay)
            assert await names(backends, len(stay)) == stay

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_module, "BATCH", batch)
        patch.setattr(sweep_module, "PAUSE_S", 0)
        asyncio.run(story())


def test_so_many_are_remembered():
    clock = ManualClock()
    failing = FailingCopies(clock)
    for number in range(MAX_REMEMBERED + 5):
        failing.record_failure(str(number).encode())
    assert len(failing) == MAX_REMEMBERED
    assert not failing.is_resting(b"4")
    assert failing.is_resting(b"5")

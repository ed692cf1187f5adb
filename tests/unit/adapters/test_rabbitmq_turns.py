"""Large calls take turns, and a small one waits for none of them."""

import asyncio
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sickbay.adapters.rabbitmq.turns import CALLS, PIECE, PIECE_BYTES, PIECES, SMALL, SMALL_CALLS, Turns, is_small


class Item(NamedTuple):
    call: str
    number: int
    body: bytes = b"1"


class Line:
    """A channel that confirms when it is told to."""

    def __init__(self):
        self.turns = Turns()
        self.sent = []
        self.open = {}

    def call(self, name, count, body=b"1"):
        return asyncio.create_task(self.turns.send([Item(name, number, body) for number in range(count)], self.send))

    async def send(self, item):
        self.sent.append(item)
        self.open[item] = asyncio.get_running_loop().create_future()
        try:
            await self.open[item]
        finally:
            del self.open[item]

    def confirm(self, *items):
        for item in items:
            self.open[item].set_result(None)

    def of(self, name):
        return [item.number for item in self.sent if item.call == name]

    async def confirm_all(self):
        """Until nobody sends any more."""
        await quiet()
        while self.open:
            self.confirm(*self.open)
            await quiet()

    async def is_free(self):
        """Nothing is left behind: a call as large as all that may be in flight is sent at once."""
        assert not self.open
        call = self.call("free", PIECES * PIECE)
        await quiet()
        assert len(self.open) == PIECES * PIECE
        await self.confirm_all()
        await call


async def quiet():
    """Everybody has done what can be done without another confirm."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_small_call_waits_for_no_large_one():
    line = Line()
    large = [line.call(f"large {n}", 500) for n in range(20)]
    await quiet()
    assert len(line.sent) == PIECES * PIECE
    small = line.call("small", 2)
    await quiet()
    assert line.of("small") == [0, 1]
    line.confirm(Item("small", 0), Item("small", 1))
    await small
    assert not any(call.done() for call in large)
    await line.confirm_all()
    await asyncio.gather(*large)
    assert len(line.sent) == 20 * 500 + 2


async def test_large_calls_take_turns():
    """The first has all places to itself, until others come: then each sends a piece at its turn."""
    line = Line()
    calls = [line.call("a", 20 * PIECE)]
    await quiet()
    calls += [line.call("b", 3 * PIECE), line.call("c", 3 * PIECE)]
    await quiet()
    assert len(line.of("a")) == PIECES * PIECE
    turns = []
    for _ in range(7):
        before = len(line.sent)
        line.confirm(*(item for item in line.sent[:before] if item in line.open and item.number // PIECE == line_first(line)))
        await quiet()
        assert len({item.call for item in line.sent[before:]}) == 1
        assert len(line.sent) - before == PIECE
        turns.append(line.sent[-1].call)
    assert "".join(turns) == "abcabca"
    await line.confirm_all()
    await asyncio.gather(*calls)


def line_first(line):
    """The oldest piece of call a that is not confirmed."""
    return min(item.number // PIECE for item in line.open if item.call == "a")


async def test_a_call_of_one_piece_does_not_wait_for_the_end_of_another():
    line = Line()
    calls = [line.call(f"large {n}", 500) for n in range(2 * CALLS)]
    await quiet()
    middle = line.call("middle", SMALL + 1)
    await quiet()
    assert not line.of("middle")
    for _ in range(2):
        line.confirm(*line.open)
        await quiet()
    assert len(line.of("middle")) == SMALL + 1
    assert not line.of(f"large {CALLS}"), "so many calls take turns, the next one begins when one of them is done"
    await line.confirm_all()
    await asyncio.gather(middle, *calls)


async def test_calls_beyond_those_that_take_turns_begin_in_their_order():
    """If all made progress at once, an overload would time out all of them instead of the last."""
    line = Line()
    calls = [line.call(str(n), 2 * PIECE) for n in range(3 * CALLS)]
    await line.confirm_all()
    await asyncio.gather(*calls)
    assert list(dict.fromkeys(int(item.call) for item in line.sent)) == list(range(3 * CALLS))
    assert {item.call for item in line.sent[: CALLS * PIECE]} == {str(n) for n in range(CALLS)}


@given(counts=st.lists(st.integers(0, 10 * PIECE), min_size=1, max_size=12), random=st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_whatever_is_confirmed_first_nothing_is_lost_or_out_of_order(counts, random):
    async def body():
        line = Line()
        calls = [line.call(str(n), count) for n, count in enumerate(counts)]
        await quiet()
        while line.open:
            pieces = {(item.call, item.number // PIECE) for item in line.open if counts[int(item.call)] > SMALL}
            assert len(pieces) <= PIECES
            line.confirm(*random.sample(sorted(line.open), random.randint(len(line.open) // 2 + 1, len(line.open))))
            await quiet()
        await asyncio.gather(*calls)
        for n, count in enumerate(counts):
            assert line.of(str(n)) == list(range(count))
        await line.is_free()

    asyncio.run(body())


async def test_bytes_count_as_well():
    """A call of few but large messages is none of the small ones, and a piece is no larger than it should be."""
    assert is_small([Item("a", n) for n in range(SMALL)])
    assert not is_small([Item("a", n) for n in range(SMALL + 1)])
    assert not is_small([Item("a", 0, bytes(PIECE_BYTES + 1))])
    line = Line()
    call = line.call("large", 4 * PIECES, bytes(PIECE_BYTES // 2))
    await quiet()
    assert len(line.open) == 2 * PIECES
    huge = line.call("huge", 1, bytes(2 * PIECE_BYTES))
    await line.confirm_all()
    await asyncio.gather(call, huge)
    assert line.of("huge") == [0]


async def test_small_calls_in_flight_are_bounded():
    line = Line()
    calls = [line.call(str(n), 1) for n in range(SMALL_CALLS + 1)]
    await quiet()
    assert len(line.open) == SMALL_CALLS
    await line.confirm_all()
    await asyncio.gather(*calls)


@pytest.mark.parametrize("count", [SMALL, PIECE, 500])
@pytest.mark.parametrize("failure", [OSError("lost"), asyncio.CancelledError()], ids=["lost", "broken off by the driver"])
async def test_a_failure_ends_the_call_after_what_is_in_flight(count, failure):
    line = Line()
    call = line.call("failing", count)
    await quiet()
    begun = len(line.sent)
    (first, *others) = line.open
    line.open[first].set_exception(failure) if isinstance(failure, OSError) else line.open[first].cancel()
    await quiet()
    assert not call.done(), "others are still on their way"
    line.confirm(*others)
    with pytest.raises(type(failure)):
        await call
    assert len(line.sent) == begun, "no further piece is sent"
    await line.is_free()


@pytest.mark.parametrize("count", [SMALL, PIECE, 500])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 20])
async def test_a_call_that_is_broken_off_leaves_nothing_behind(count, steps):
    """Wherever that happens, also before a task of it has begun."""
    line = Line()
    call = line.call("late", count)
    for _ in range(steps):
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await line.is_free()


async def test_a_call_that_is_broken_off_while_it_waits_leaves_its_turn_to_others():
    line = Line()
    calls = [line.call(str(n), 500) for n in range(CALLS)]
    await quiet()
    waiting = [line.call("waiting", 500), line.call("middle", PIECE)]
    await quiet()
    for call in waiting:
        call.cancel()
    await asyncio.wait(waiting)
    assert all(call.cancelled() for call in waiting)
    await line.confirm_all()
    await asyncio.gather(*calls)
    await line.is_free()

"""The gate of a type may be a program's or a number, and change while jobs wait."""

import asyncio
import itertools
from collections import Counter
from contextlib import AsyncExitStack

from worker.programs.places import PLACE, ProgramGate, admit_next
from worker.slots import Gates, Slots


class Program:
    """With so many slots for each type; it admits the next job by itself."""

    def __init__(self, gates, slots):
        self.gates, self.slots, self.taken = gates, slots, Counter()

    def free(self, job_type):
        return self.slots - self.taken.total()

    def take(self, job_type):
        assert self.free(job_type) > 0
        self.taken[job_type] += 1

    def give(self, job_type):
        self.taken[job_type] -= 1
        admit_next(self.gates, self.gates)


def gates_of(*job_types, slots=1):
    order = itertools.count(1)
    gates = {job_type: ProgramGate(job_type, order) for job_type in job_types}
    program = Program(gates, slots)
    for gate in gates.values():
        gate.programs.append(program)
    return gates, program


class Turns:
    """Jobs that take a turn and keep it."""

    def __init__(self, gates):
        self.gates, self.slots = gates, Slots(100)
        self.events = []
        self.stack = {}

    def ask(self, job_type, name):
        release = asyncio.Event()

        async def turn():
            self.slots.take()
            async with self.gates.turn(job_type, self.slots, 10) as has_come:
                self.events.append((name, has_come))
                await release.wait()
            assert PLACE.get() is None

        task = asyncio.create_task(turn())
        self.stack[name] = (task, release)
        return task

    async def settle(self):
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self):
        for task, release in self.stack.values():
            release.set()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_gate_that_is_taken_away_sends_those_back_who_wait_and_the_next_one_lets_through():
    mine, program = gates_of("email")
    gates = Gates({"email": mine["email"]}, crowd=100)
    turns = Turns(gates)
    turns.ask("email", "a")
    turns.ask("email", "b")
    await turns.settle()
    assert turns.events == [("a", True)]
    assert gates.waiting("email") == 1
    gates.limit({"email": 1})
    await turns.settle()
    assert turns.events == [("a", True), ("b", False)]
    turns.ask("email", "c")
    turns.ask("email", "d")
    await turns.settle()
    assert turns.events[-1] == ("c", True)
    gates.limit({"email": mine["email"]})
    await turns.settle()
    assert turns.events[-1] == ("d", True)
    await turns.end()
    assert program.taken.total() == 0
    assert turns.slots.in_use == 100 - turns.slots.left


async def test_jobs_of_all_types_come_in_the_order_in_which_they_asked():
    mine, _ = gates_of("email", "sms", "fax")
    turns = Turns(Gates(mine, crowd=100))
    for name, job_type in enumerate(["email", "sms", "fax", "email", "sms"]):
        turns.ask(job_type, name)
        await turns.settle()
    for name in range(5):
        assert [one for one, _ in turns.events] == list(range(name + 1))
        turns.stack[name][1].set()
        await turns.settle()


async def test_one_that_gives_up_while_it_waits_leaves_no_hole():
    mine, program = gates_of("email", "sms")
    turns = Turns(Gates(mine, crowd=100))
    for name, job_type in enumerate(["email", "sms", "email", "email"]):
        turns.ask(job_type, name)
        await turns.settle()
    turns.stack[1][0].cancel()
    turns.stack[0][1].set()
    turns.stack[2][0].cancel()
    await turns.settle()
    assert [one for one, _ in turns.events] == [0, 3]
    await turns.end()
    assert program.taken.total() == 0


async def test_one_that_gives_up_when_its_turn_has_just_come_gives_the_place_back():
    mine, program = gates_of("email")
    turns = Turns(Gates(mine, crowd=100))
    turns.ask("email", "a")
    waits = turns.ask("email", "b")
    await turns.settle()
    program.give("email")  # the turn of b has come, and its task has not run yet
    waits.cancel()
    await turns.settle()
    assert program.taken.total() == 0
    async with AsyncExitStack() as stack:
        assert await stack.enter_async_context(turns.gates.turn("email", turns.slots))

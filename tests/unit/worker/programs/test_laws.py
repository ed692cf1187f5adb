"""Whatever programs do, and wherever their streams break: nothing is lost, nobody gets too much, and no job runs twice by our doing."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from sickbay.domain.errors import InvalidArgument
from sickbay.messages.codec import decode_job
from tests.support.program_bench import DRAIN, HEARTBEAT, a_job, failed, open_programs, progress, succeeded

TYPES = ("email", "sms", "fax")
PROGRAMS = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("connect"), PROGRAMS, st.sets(st.sampled_from(TYPES), min_size=1), st.integers(1, 3)),
    st.tuples(st.just("submit"), st.sampled_from(TYPES)),
    st.tuples(st.just("succeed"), PROGRAMS, st.integers(0, 5)),
    st.tuples(st.just("fail"), PROGRAMS, st.integers(0, 5)),
    st.tuples(st.just("answer a stranger"), PROGRAMS, st.integers(0, 9)),
    st.tuples(st.just("progress"), PROGRAMS, st.integers(0, 5)),
    st.tuples(st.just("break"), PROGRAMS),
    st.tuples(st.just("drain"), PROGRAMS),
    st.tuples(st.just("heartbeat"), PROGRAMS),
)


class World:
    """A broker that delivers copies again, and programs that come and go; `ended` is how often each job has succeeded or failed."""

    def __init__(self, bench):
        self.bench = bench
        self.programs = {}
        self.has = {}
        self.submitted = {}
        self.deliveries = {}
        self.broken = Counter()

    def deliver(self, job_id, **options):
        self.deliveries[job_id] = self.bench.deliver(**options)

    async def settle_down(self):
        """Until nothing moves any more: the engine needs a few turns of the loop for each step of a job."""
        for _ in range(60):
            await asyncio.sleep(0)
        self.take_runs()

    def take_runs(self):
        for number, program in self.programs.items():
            for said in tuple(program.said):
                program.said.popleft()
                if said.WhichOneof("message") == "run":
                    job_id = said.run.job.job_id
                    holders = [one for one, runs in self.has.items() if job_id in runs.values()]
                    assert not holders, "it runs twice at a time"
                    self.has[number][said.run.run_id] = job_id
                    assert len(self.has[number]) <= program.program.registration.slots, "more than it has slots"

    def check(self):
        for number, program in self.programs.items():
            assert program.program.slots_in_use >= len(self.has[number])
        running = {job_id for runs in self.has.values() for job_id in runs.values()}
        for job_id in running:
            assert not self.deliveries[job_id].verdict, "settled while a program runs it"

    async def act(self, step):
        verb, *rest = step
        if verb == "submit":
            job_id = f"j{len(self.submitted)}"
            self.submitted[job_id] = rest[0]
            self.deliver(job_id, job=a_job(rest[0], job_id))
        elif verb == "connect":
            number, types, slots = rest
            if number in self.programs:
                self.programs[number].register(*sorted(types), slots=slots)
            else:
                self.programs[number] = self.bench.program(*sorted(types), slots=slots)
                self.has[number] = {}
        elif rest[0] in self.programs:
            self.use(verb, *rest)

    def use(self, verb, number, which=0):
        program, runs = self.programs[number], self.has[number]
        run_id = sorted(runs)[which % len(runs)] if runs else "none"
        if verb in {"succeed", "fail"} and runs:
            del runs[run_id]
            assert program.say(succeeded(run_id) if verb == "succeed" else failed(run_id, "BAD_REQUEST"))
        elif verb == "answer a stranger":
            strangers = [one for other, has in self.has.items() if other != number for one in has] or ["77"]
            assert not program.say(succeeded(strangers[which % len(strangers)]))
        elif verb == "progress":
            program.say(progress(run_id, 0.5))
        elif verb == "heartbeat":
            program.say(HEARTBEAT)
        elif verb == "drain":
            program.say(DRAIN)
        elif verb == "break":
            for job_id in runs.values():
                self.broken[job_id] += 1
            program.break_off()
            del self.programs[number], self.has[number]


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
def test_nothing_is_lost_and_nobody_gets_too_much(steps):
    asyncio.run(_play(steps))


async def _play(steps):
    async with open_programs(timeout_s=1_000) as bench:
        world = World(bench)
        for step in steps:
            await world.act(step)
            await world.settle_down()
            world.check()
        for number, runs in world.has.items():
            for run_id in tuple(runs):
                assert world.programs[number].say(succeeded(run_id))
            runs.clear()
        await world.settle_down()
        for number in tuple(world.programs):
            world.use("break", number)
        await world.settle_down()
        await bench.events.flush(1)
        held = Counter(decode_job(one.body, "", 0).job_id for one in bench.broker.published if one.key == "retry")
        ended = Counter(event.job.job_id for event in bench.broker.events() if event.state.rank > 1)
        for job_id, delivery in world.deliveries.items():
            assert delivery.verdict in {"ack", "nack"}, f"{job_id} is held for ever"
            if delivery.verdict == "ack":
                assert held[job_id] + ended[job_id] == 1, "an acknowledged job has one successor"
            else:
                assert not held[job_id]
                assert not ended[job_id]
        assert bench.connected.lost == world.broken.total()


@given(count=st.integers(0, 300))
@settings(max_examples=20, deadline=None)
def test_invalid_messages_are_bounded_whatever_comes_in_between(count):
    async def play():
        async with open_programs() as bench:
            program = bench.program("email")
            bench.deliver(a_job())
            run = await program.next()
            refused = 0
            for _ in range(count):
                try:
                    program.say(progress(run.run_id, 7))
                except InvalidArgument:
                    refused += 1
            assert refused == max(0, count - 100)

    asyncio.run(play())

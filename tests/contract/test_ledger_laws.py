"""The ledger's law of merging, tried on random lives: replays, reordering and batching are harmless."""

import asyncio
import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from sickbay.adapters.sql.ledger import open_ledger
from tests.support.ledger_events import START
from tests.support.ledger_lives import lives

pytest_plugins = ["tests.support.ledger_fixtures"]


@st.composite
def disorder(draw):
    """A life as it happened, and the same events shuffled, told more than once, and cut into batches."""
    life = draw(lives())
    again = draw(st.lists(st.sampled_from(life), max_size=6))
    shuffled = draw(st.permutations([*life, *again]))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(shuffled) - 1)))))
    return life, [shuffled[start:end] for start, end in itertools.pairwise([0, *cuts, len(shuffled)])]


def test_replay_and_disorder_end_in_the_same_row(clock):
    numbers = itertools.count()
    with asyncio.Runner() as runner:
        opened = [open_ledger("sqlite://", clock) for _ in range(2)]
        calm, wild = [runner.run(context.__aenter__()) for context in opened]

        async def compare(life, batches, rename):
            for event in life:
                await calm.writer.apply([rename(event)])
            for batch in batches:
                await wild.writer.apply([rename(event) for event in batch])
            job_id = rename(life[0]).job.job_id
            assert await wild.reader.get(job_id) == await calm.reader.get(job_id)
            assert await wild.reader.history(job_id) == await calm.reader.history(job_id)
            record = await calm.reader.get(job_id)
            assert record.state is life[-1].state
            assert record.updated_at == life[-1].at >= START
            history = await calm.reader.history(job_id)
            assert history[-1].state is record.state
            assert [change.at for change in history] == sorted(change.at for change in history)
            assert history[0].state is life[0].state
            assert record.job.run_at == life[0].job.run_at

        @settings(max_examples=60, deadline=None)
        @given(disorder())
        def law(case):
            life, batches = case
            job_id = f"j{next(numbers)}"
            runner.run(compare(life, batches, lambda event: replace(event, job=replace(event.job, job_id=job_id))))

        try:
            law()
        finally:
            for context in opened:
                runner.run(context.__aexit__(None, None, None))

"""A value that a database refuses is told apart from a database that is away: asking again would be of no use."""

from dataclasses import replace

import asyncpg
import pytest

from controlplane.isolation import apply_events
from sickbay.adapters.sql.errors import reason_of
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import FailedPrecondition, Unavailable, Unstorable
from sickbay.domain.job import JobState
from sickbay.domain.queries import JobEdit
from sickbay.domain.storable import MAX_COUNT
from tests.support import one_key
from tests.support.ledger_events import START, job, parked, queued, retrying
from tests.support.postgres_server import FULL_DISK, ROOM_AGAIN

pytest_plugins = ["tests.support.ledger_fixtures"]

REFUSED = {
    "number": replace(queued("bad"), at=2**63),
    "generation": queued("bad", generation=2**64),
    "half a character": replace(queued("bad"), run="\ud800"),
}


@pytest.mark.parametrize("event", REFUSED.values(), ids=REFUSED)
async def test_a_value_it_cannot_keep_is_unstorable_and_nothing_was_written(ledger, event):
    """The neighbours in its batch are not written either, so that the batch can be told in halves."""
    with pytest.raises(Unstorable):
        await ledger.writer.apply([queued("good"), event])
    assert await ledger.reader.get("good") is None


@pytest.mark.servers
async def test_the_refused_one_is_found_and_kept(postgres, clock):
    """Whatever a message can say and the database does not take; what stands for it is taken."""
    async with open_ledger(postgres.url, clock) as ledger:
        refused = queued("b\0ad")
        told = await apply_events(ledger.writer, [queued("a"), refused, queued("b")], START)
        assert [one.state for one in told] == [JobState.QUEUED, JobState.QUARANTINED, JobState.QUEUED]
        assert (await ledger.writer.counts())[JobState.QUARANTINED] == 1


@pytest.mark.servers
async def test_what_postgresql_refuses_is_unstorable(postgres, clock):
    """NULs, and keys beyond what an index holds."""
    async with open_ledger(postgres.url, clock) as ledger:
        for event in (queued("a\0b"), replace(queued("i"), run="\0"), replace(parked("i"), code="".join(map(chr, range(300, 9_000))))):
            with pytest.raises(Unstorable):
                await ledger.writer.apply([event])
        with pytest.raises(Unstorable):
            await ledger.reader.get("a\0b")
        with pytest.raises(Unstorable):
            await ledger.writer.check_copies([job("a\0b")])


async def test_a_database_that_is_away_is_not_unstorable(url, clock):
    """It is asked again."""
    async with open_ledger(url, clock) as ledger:
        pass
    with pytest.raises(Unavailable):
        await ledger.writer.apply([queued("a")])


async def test_a_job_in_the_last_generation_is_not_released_into_one_that_nobody_reads(ledger):
    """It stays where it is, is said to be so, and can be discarded."""
    await ledger.writer.apply([parked("last", generation=MAX_COUNT), parked("next", generation=MAX_COUNT - 1), retrying("other")])
    (claim,) = await ledger.quarantine.lease_parked(BreakerKey("email"), 10)
    assert (claim.job.job_id, claim.job.generation) == ("next", MAX_COUNT)
    with pytest.raises(FailedPrecondition, match="after which there is none"):
        await ledger.quarantine.lease_job("last", JobEdit(), "", "me")
    assert (await ledger.quarantine.discard("last", "", "me")).state is JobState.DISCARDED


@pytest.mark.servers
async def test_a_full_disk_is_said_and_no_file_is_named(postgres, clock):
    """The error of a disk that is really full; the same events are taken as soon as there is room."""
    async with open_ledger(postgres.url, clock) as ledger:
        for statement in FULL_DISK:
            postgres.sql(statement)
        try:
            for _ in range(2):
                with pytest.raises(Unavailable, match=r"^disk full at PostgreSQL; nothing is lost, try again later$"):
                    await apply_events(ledger.writer, [queued("a"), queued("b")], START, isolate_faults=True)
            assert ledger.trouble == "the ledger cannot be written: disk full"
        finally:
            postgres.sql(ROOM_AGAIN)
        assert len(await apply_events(ledger.writer, [queued("a"), queued("b")], START)) == 2
        assert not ledger.trouble


@pytest.mark.servers
async def test_a_full_disk_is_trouble_although_what_needs_no_room_works(postgres, clock):
    """A Job API that keeps no more keys, and lets go of each that it could not keep."""
    async with open_ledger(postgres.url, clock) as ledger:
        for statement in FULL_DISK:
            postgres.sql(statement)
        try:
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await one_key.reserve(ledger.keys, "default", "k", b"", "j1")
                await one_key.release(ledger.keys, "default", "k", "j1")
            assert ledger.trouble == "the ledger cannot be written: disk full"
        finally:
            postgres.sql(ROOM_AGAIN)
        await one_key.reserve(ledger.keys, "default", "k", b"", "j1")
        assert not ledger.trouble


@pytest.mark.parametrize(
    ("sqlstate", "words"),
    [
        ("53100", "disk full"),
        ("58030", "I/O error, or disk full"),
        ("57P02", "one of its processes crashed, and it is restarting"),
        ("XX000", "internal error, see PostgreSQL's log; its disk may be full"),
    ],
)
def test_what_a_server_without_room_raises_has_words_of_ours(sqlstate, words):
    """After a crash for want of room PostgreSQL refuses every session with XX000: it could not write its init file."""
    assert reason_of(asyncpg.PostgresError.new({"C": sqlstate, "M": "could not write init file"})) == words

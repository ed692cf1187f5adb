"""What a ledger must do with jobs that wait for the rate of their type: it has the only copy of them."""

from dataclasses import replace

from sickbay.domain.breaker import BreakerKey
from sickbay.domain.job import JobState, Reason
from sickbay.domain.run_rate import OVER_RATE
from tests.support.ledger_events import DAY, START, parked, quarantined, queued

pytest_plugins = ["tests.support.ledger_fixtures"]

EMAIL = BreakerKey("email")


def limited(job_id, at=START + 400, **fields):
    return replace(parked(job_id, at=at, **fields), reason=Reason.RATE_LIMITED, code=OVER_RATE, message="")


async def test_it_counts_how_many_were_parked_before(ledger):
    """Of the same type and of all tenants, whatever for; equal times in the order of their ids."""
    others = [parked("c", at=START + 1, tenant="acme"), limited("sms", at=START, job_type="sms"), quarantined("q", at=START), queued("r")]
    await ledger.writer.apply([limited("a", at=START + 3), limited("b", at=START + 3), limited("d", at=START + 2), *others])
    assert {name: await ledger.reader.parked_before(name) for name in "abcdqrx"} == {"a": 2, "b": 3, "c": 0, "d": 1, "q": 0, "r": 0, "x": 0}
    await ledger.quarantine.mark_released(await ledger.quarantine.lease_parked(EMAIL, 1))
    assert await ledger.reader.parked_before("a") == 1


async def test_those_in_line_have_no_copy_and_the_others_do(ledger):
    """Also those whose handler used the same word."""
    own_word = replace(parked("own"), code=OVER_RATE)
    await ledger.writer.apply([limited("a"), limited("b", tenant="acme"), own_word, parked("c"), quarantined("d")])
    assert await ledger.writer.in_ledger_alone() == 2
    assert [event.job.job_id for event in await ledger.writer.list_set_aside("", 10, DAY + START)] == ["c", "d", "own"]
    await ledger.quarantine.lease_parked(EMAIL, 5)
    assert await ledger.writer.in_ledger_alone() == 2, "until they are released"


async def test_those_in_line_are_released_with_what_they_carry(ledger):
    await ledger.writer.apply([limited("a", attempt=2)])
    (lease,) = await ledger.quarantine.lease_parked(EMAIL, 5)
    assert (lease.job.generation, lease.job.attempt, bool(lease.job.payload_json)) == (1, 2, True)
    (record,) = await ledger.quarantine.mark_released([lease])
    assert (record.state, await ledger.writer.in_ledger_alone()) == (JobState.QUEUED, 0)

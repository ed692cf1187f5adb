"""What a ledger must do with jobs that were set aside (`QuarantineStore`)."""

import asyncio
from dataclasses import replace

import pytest

from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import Aborted, ErrorReason, FailedPrecondition, InvalidArgument, NotFound
from sickbay.domain.job import JobState, Reason
from sickbay.domain.priority import Priority
from sickbay.domain.queries import JobEdit, PayloadRevision, QuarantineQuery
from tests.support.ledger_events import DAY, START, TIMEOUT, job, parked, quarantined, queued, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

EMAIL = BreakerKey("email")
LEASE = 30_000


def ids(claims):
    return [claim.job.job_id for claim in claims]


async def test_find_cases_lists_the_longest_set_aside_first_with_total(ledger):
    await ledger.writer.apply([parked(f"j{number}", at=START + number // 2) for number in (3, 1, 4, 0, 2)] + [queued("healthy")])
    first = await ledger.quarantine.list_quarantined(QuarantineQuery(), 2, "")
    second = await ledger.quarantine.list_quarantined(QuarantineQuery(), 3, first.cursor)
    assert [record.job.job_id for page in (first, second) for record in page.items] == ["j0", "j1", "j2", "j3", "j4"]
    assert (first.total, second.total, second.cursor) == (5, 5, "")
    assert first.items[0].job.payload_json == b""


async def test_find_cases_filters(ledger):
    odd = quarantined("b", job_type="sms", code="HTTP_500", message="oops 1")
    await ledger.writer.apply([parked("a"), odd, parked("c", tenant="acme", at=START + 900)])
    shape = (await ledger.reader.get("b")).fingerprint

    async def found(**fields):
        page = await ledger.quarantine.list_quarantined(QuarantineQuery(**fields), 10, "")
        assert page.total == len(page.items)
        return "".join(sorted(record.job.job_id for record in page.items))

    assert await found(job_type="email") == "ac"
    assert await found(tenants=frozenset({"acme"})) == "c"
    assert await found(state=JobState.QUARANTINED) == "b"
    assert await found(reason=Reason.CIRCUIT_OPEN) == "ac"
    assert await found(error_code="HTTP_500") == "b"
    assert await found(fingerprint=shape) == "b"
    assert await found(set_aside_before=START + 900) == "ab"
    await ledger.writer.apply([parked("d", priority=Priority.HIGH)])
    assert await found(priority=Priority.HIGH) == "d"
    assert await found(priority=Priority.NORMAL) == "abc"


def unhandled(job_id, at=START + 400, **fields):
    return replace(quarantined(job_id, at=at, code="UNKNOWN_TYPE", message="no worker", **fields), reason=Reason.UNKNOWN_TYPE)


async def test_jobs_that_no_worker_handled_are_leased_oldest_first_by_type_and_tenant(ledger, clock):
    """Only those of that reason: an error code of the same name is a handler's own word."""
    own_word = quarantined("own", code="UNKNOWN_TYPE")
    old = [unhandled(f"u{number}", at=START + 500 - number) for number in range(3)]
    await ledger.writer.apply([*old, own_word, parked("p"), unhandled("a", tenant="acme"), unhandled("s", job_type="sms")])
    assert await ledger.quarantine.unhandled(["email", "fax"]) == {EMAIL: 3, BreakerKey("email", "acme"): 1}
    assert await ledger.quarantine.unhandled([]) == {}
    claims = await ledger.quarantine.lease_unhandled(EMAIL, 2)
    assert ids(claims) == ["u2", "u1"]
    assert [(claim.job.generation, claim.job.attempt, claim.job.maybe_duplicate) for claim in claims] == [(1, 3, False)] * 2
    assert claims[0].job.payload_json == job().payload_json
    assert await ledger.quarantine.unhandled(["email"]) == {EMAIL: 1, BreakerKey("email", "acme"): 1}
    await ledger.quarantine.mark_released(claims)
    record = await ledger.reader.get("u2")
    assert (record.state, record.job.generation, record.reason) == (JobState.QUEUED, 1, None)
    assert ids(await ledger.quarantine.lease_unhandled(EMAIL, 2)) == ["u0"]
    assert await ledger.quarantine.lease_unhandled(EMAIL, 2) == []
    clock.now += LEASE
    assert [(claim.job.job_id, claim.job.maybe_duplicate) for claim in await ledger.quarantine.lease_expired()] == [("u0", True)]


async def test_groups_gather_failures_of_one_shape_largest_first(ledger):
    small = [quarantined(f"s{number}", code="HTTP_500", message="oops") for number in range(2)]
    large = [quarantined(f"l{number}", message=f"user {number} not found", at=START + number) for number in range(3)]
    await ledger.writer.apply([*small, *large, quarantined("t", tenant="acme", code="X", message="x"), queued("healthy")])
    groups = (await ledger.quarantine.groups("", None, 10, "")).items
    assert [(group.error_code, group.count) for group in groups] == [("API_TIMEOUT", 3), ("HTTP_500", 2), ("X", 1)]
    assert (groups[0].sample_job_id, groups[0].sample_message) == ("l0", "user 0 not found")
    assert (groups[0].first_at, groups[0].last_at) == (START, START + 2)
    assert [group.error_code for group in (await ledger.quarantine.groups("email", frozenset({"acme"}), 10, "")).items] == ["X"]
    assert (await ledger.quarantine.groups("sms", None, 10, "")).items == []


async def test_groups_page(ledger):
    await ledger.writer.apply([quarantined(f"j{number}", code=f"C{number % 3}", message="m") for number in range(7)])
    seen, cursor = [], ""
    for _ in range(3):
        page = await ledger.quarantine.groups("", None, 1, cursor)
        seen += [(group.error_code, group.count) for group in page.items]
        cursor = page.cursor
    assert seen == [("C0", 3), ("C1", 2), ("C2", 2)]
    assert cursor == ""


@pytest.mark.parametrize("cursor", ["x", "1:a:b", "x:a:b:c"])
async def test_a_cursor_of_another_kind_is_refused(ledger, cursor):
    with pytest.raises(InvalidArgument) as caught:
        await ledger.quarantine.groups("", None, 10, cursor)
    assert caught.value.reason is ErrorReason.INVALID_PAGE_TOKEN


async def test_a_case_has_payload_and_history_until_it_leaves(ledger):
    await ledger.writer.apply([queued(), quarantined()])
    case = await ledger.quarantine.get_quarantined("j1")
    assert case.record == await ledger.reader.get("j1")
    assert case.record.job.payload_json == b'{"to":"a"}'
    assert [change.state for change in case.history] == [JobState.QUEUED, JobState.RUNNING, JobState.QUARANTINED]
    await ledger.quarantine.discard("j1", "", "ann")
    assert await ledger.quarantine.get_quarantined("j1") is None
    assert await ledger.quarantine.get_quarantined("nobody") is None


async def test_claims_take_the_longest_parked_of_one_circuit(ledger):
    others = [parked("type", job_type="sms"), parked("tenant", tenant="acme"), quarantined("ill", attempt=0)]
    await ledger.writer.apply([*(parked(f"j{number}", at=START - number, attempt=2, failures=(TIMEOUT,)) for number in range(4)), *others])
    claims = await ledger.quarantine.lease_parked(EMAIL, 3)
    assert ids(claims) == ["j3", "j2", "j1"]
    assert claims[0].job == job("j3", attempt=2, generation=1, failures=(TIMEOUT,))
    assert await ledger.quarantine.parked() == {EMAIL: 1, BreakerKey("sms"): 1, BreakerKey("email", "acme"): 1}
    assert ids(await ledger.quarantine.lease_parked(EMAIL, 3)) == ["j0"]
    assert await ledger.quarantine.lease_parked(EMAIL, 3) == []
    assert (await ledger.reader.get("j3")).state is JobState.PARKED


async def test_two_claimers_never_get_the_same_job(ledger):
    await ledger.writer.apply([parked(f"j{number:03}") for number in range(200)])
    taken = await asyncio.gather(*(ledger.quarantine.lease_parked(EMAIL, 7) for _ in range(40)))
    everything = [job_id for claims in taken for job_id in ids(claims)]
    assert sorted(everything) == [f"j{number:03}" for number in range(200)]


async def test_released_jobs_are_queued_in_their_new_generation(ledger, clock):
    await ledger.writer.apply([parked(attempt=2)])
    claims = await ledger.quarantine.lease_parked(EMAIL, 5)
    clock.now += 5_000
    (record,) = await ledger.quarantine.mark_released(claims)
    assert record == await ledger.reader.get("j1")
    assert (record.state, record.job.generation, record.job.attempt, record.updated_at) == (JobState.QUEUED, 1, 2, START + 5_000)
    assert (record.job.payload_json, record.reason) == (b"", None)
    assert [(change.state, change.generation) for change in await ledger.reader.history("j1")][-1] == (JobState.QUEUED, 1)
    clock.now += LEASE
    assert await ledger.quarantine.lease_expired() == []


async def test_later_news_win_over_a_release(ledger):
    """The worker may be faster than the bookkeeping of the release."""
    await ledger.writer.apply([parked("j1"), parked("j2")])
    claims = await ledger.quarantine.lease_parked(EMAIL, 5)
    await ledger.writer.apply([succeeded("j1", generation=1), parked("j2", generation=1)])
    records = await ledger.quarantine.mark_released(claims)
    assert [record.state for record in records] == [JobState.SUCCEEDED, JobState.PARKED]
    assert (await ledger.reader.history("j1"))[-1].state is JobState.SUCCEEDED
    assert ids(await ledger.quarantine.lease_parked(EMAIL, 5)) == ["j2"]


async def test_releasing_twice_is_harmless(ledger):
    await ledger.writer.apply([parked()])
    claims = await ledger.quarantine.lease_parked(EMAIL, 5)
    assert await ledger.quarantine.mark_released(claims) == await ledger.quarantine.mark_released(claims)


async def test_an_expired_claim_is_taken_over_by_one_and_marked(ledger, clock):
    await ledger.writer.apply([parked()])
    await ledger.quarantine.lease_parked(EMAIL, 5)
    clock.now += LEASE - 1
    assert await ledger.quarantine.lease_expired() == []
    clock.now += 1
    assert await ledger.quarantine.lease_parked(EMAIL, 5) == []
    claims = [claim for found in await asyncio.gather(*(ledger.quarantine.lease_expired() for _ in range(5))) for claim in found]
    assert [claim.job for claim in claims] == [job(generation=1, maybe_duplicate=True)]
    assert (await ledger.quarantine.mark_released(claims))[0].state is JobState.QUEUED


async def test_claim_one_starts_again_at_attempt_0(ledger):
    await ledger.writer.apply([quarantined()])
    claim = await ledger.quarantine.lease_job("j1", JobEdit(), (await ledger.reader.get("j1")).etag, "ann")
    assert (claim.job, claim.actor) == (job(generation=1, failures=(TIMEOUT,)), "ann")
    case = await ledger.quarantine.get_quarantined("j1")
    assert (case.record.state, case.revisions) == (JobState.QUARANTINED, [])
    (record,) = await ledger.quarantine.mark_released([claim])
    assert (record.job.generation, record.job.attempt) == (1, 0)
    assert (await ledger.reader.history("j1"))[-1].actor == "ann"


async def test_an_edit_is_kept_and_published_again_as_edited(ledger, clock):
    await ledger.writer.apply([quarantined()])
    before = (await ledger.reader.get("j1")).etag
    edit = JobEdit(b'{"to":"b"}', "mail")
    claim = await ledger.quarantine.lease_job("j1", edit, before, "ann")
    edited = job(generation=1, failures=(TIMEOUT,), payload_json=b'{"to":"b"}', job_type="mail")
    assert claim.job == edited
    case = await ledger.quarantine.get_quarantined("j1")
    assert case.revisions == [PayloadRevision(START, "ann", b'{"to":"a"}', b'{"to":"b"}')]
    assert case.record.etag != before
    clock.now += LEASE
    (expired,) = await ledger.quarantine.lease_expired()
    assert (expired.job, expired.actor) == (replace(edited, maybe_duplicate=True), "ann")


async def test_revisions_outlive_a_release(ledger):
    await ledger.writer.apply([quarantined()])
    await ledger.quarantine.mark_released([await ledger.quarantine.lease_job("j1", JobEdit(b"{}"), "", "ann")])
    await ledger.writer.apply([quarantined(generation=1)])
    await ledger.quarantine.mark_released([await ledger.quarantine.lease_job("j1", JobEdit(b'{"n":2}'), "", "bob")])
    await ledger.writer.apply([quarantined(generation=2)])
    assert [revision.actor for revision in (await ledger.quarantine.get_quarantined("j1")).revisions] == ["ann", "bob"]


@pytest.mark.parametrize("verb", ["claim", "discard"])
async def test_who_may_not_take_a_job(ledger, verb):
    async def take(job_id, etag=""):
        if verb == "claim":
            await ledger.quarantine.lease_job(job_id, JobEdit(), etag, "ann")
        else:
            await ledger.quarantine.discard(job_id, etag, "ann")

    await ledger.writer.apply([quarantined("ill"), queued("waits"), parked("claimed")])
    await ledger.quarantine.lease_job("claimed", JobEdit(), "", "bob")
    with pytest.raises(NotFound):
        await take("nobody")
    with pytest.raises(FailedPrecondition, match="QUEUED"):
        await take("waits")
    with pytest.raises(FailedPrecondition, match="being released"):
        await take("claimed")
    with pytest.raises(Aborted) as caught:
        await take("ill", "stale")
    assert caught.value.reason is ErrorReason.ETAG_MISMATCH
    await take("ill", (await ledger.reader.get("ill")).etag)


async def test_of_many_who_want_one_job_one_gets_it(ledger):
    await ledger.writer.apply([quarantined()])
    tries = (ledger.quarantine.lease_job("j1", JobEdit(), "", f"p{number}") for number in range(10))
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(result, FailedPrecondition | Aborted) for result in results) == 1


async def test_discard_ends_the_job_and_can_be_repeated(ledger, clock):
    await ledger.writer.apply([quarantined()])
    clock.now += 5_000
    record = await ledger.quarantine.discard("j1", "", "ann")
    assert (record.state, record.updated_at, record.job.payload_json) == (JobState.DISCARDED, START + 5_000, b"")
    assert await ledger.quarantine.discard("j1", "", "bob") == record
    await ledger.writer.apply([quarantined(), parked()])
    assert await ledger.reader.get("j1") == record
    assert (await ledger.reader.history("j1"))[-1].actor == "ann"


async def test_a_set_aside_job_keeps_its_priority_and_a_resubmit_may_change_it(ledger, clock):
    """Released, leased again after its holder died, and requeued; the change is in the history, and survives the one who made it."""
    await ledger.writer.apply([parked("p", priority=Priority.LOW), quarantined("q", priority=Priority.HIGH), quarantined("kept")])
    assert [event.job.priority for event in await ledger.writer.list_set_aside("", 9, START + DAY)] == ["NORMAL", "LOW", "HIGH"]
    (parked_lease,) = await ledger.quarantine.lease_parked(EMAIL, 9)
    changed = await ledger.quarantine.lease_job("q", JobEdit(priority=Priority.LOW), "", "ann")
    kept = await ledger.quarantine.lease_job("kept", JobEdit(b"{}"), "", "ann")
    assert [lease.job.priority for lease in (parked_lease, changed, kept)] == ["LOW", "LOW", "NORMAL"]
    clock.now += LEASE
    assert {lease.job.job_id: lease.job.priority for lease in await ledger.quarantine.lease_expired()} == {
        "p": "LOW",
        "q": "LOW",
        "kept": "NORMAL",
    }
    records = await ledger.quarantine.mark_released([parked_lease, changed, kept])
    assert [record.job.priority for record in records] == ["LOW", "LOW", "NORMAL"]
    told = {job_id: (await ledger.reader.history(job_id))[-1].message for job_id in ("p", "q", "kept")}
    assert told == {"p": "", "q": "priority LOW, was HIGH", "kept": ""}
    page = await ledger.quarantine.list_quarantined(QuarantineQuery(priority=Priority.LOW), 9, "")
    assert (page.total, page.items) == (0, [])


TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01 acme=1"


async def test_a_set_aside_job_keeps_its_trace_until_it_has_left(ledger, clock):
    """Whoever takes it away hands the trace on: released, resubmitted, after an expired claim, and in the copy that the sweep makes."""
    await ledger.writer.apply([parked("p", trace=TRACE), quarantined("q", trace=TRACE), queued("free", trace=TRACE)])
    assert [event.job.trace for event in await ledger.writer.list_set_aside("", 9, START + DAY)] == [TRACE, TRACE]
    claims = [*await ledger.quarantine.lease_parked(EMAIL, 9), await ledger.quarantine.lease_job("q", JobEdit(), "", "ann")]
    assert [claim.job.trace for claim in claims] == [TRACE, TRACE]
    clock.now += LEASE
    assert [claim.job.trace for claim in await ledger.quarantine.lease_expired()] == [TRACE, TRACE]
    assert [record.job.trace for record in await ledger.quarantine.mark_released(claims)] == ["", ""]
    assert (await ledger.reader.get("free")).job.trace == ""


async def test_a_parked_job_that_is_parked_again_keeps_the_newest_trace(ledger):
    """In its next generation the trace says what released it last."""
    await ledger.writer.apply([parked("p", trace=TRACE)])
    await ledger.writer.apply([parked("p", generation=1, trace=TRACE + ",b=2")])
    (claim,) = await ledger.quarantine.lease_parked(EMAIL, 9)
    assert claim.job.trace == TRACE + ",b=2"

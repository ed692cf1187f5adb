"""Jobs without a handler in this worker: handed on while another worker may come, quarantined only after the grace."""

import itertools

import pytest

from sickbay.domain.job import JobState, Reason
from sickbay.domain.workers import UNKNOWN, Fleet, Worker
from sickbay.messages.codec import decode_job
from tests.support.engine_bench import TRACE, does, fails, fine, job, open_bench
from worker.settler import DEFERRALS, LACKING_SINCE

FAX = b'{"jobType": "fax", "jobId": "f", "payload": {"a": 1}, "submittedAt": 7, "attempt": 2}'
GRACE = 60_000
NOW = 1_000_000


def lacking(now=NOW):
    return Fleet(now, [Worker("w1", "anna", ("email",))], unannounced=0)


HANDLED = Fleet(NOW, [Worker("w2", "berta", ("fax",))], unannounced=0)
INCOMPLETE = Fleet(NOW, [], unannounced=1)


async def treat(bench, **headers):
    """Deliver one job; the message that was published for it."""
    assert await bench.run_one(body=FAX, headers=headers) == "ack"
    assert bench.log[-2:] == ["published retry", "ack"]
    return bench.broker.published[-1]


@pytest.mark.parametrize("fleet", [HANDLED, INCOMPLETE, UNKNOWN], ids=["handled elsewhere", "incomplete", "unknown"])
async def test_it_is_handed_on_for_ever_while_a_worker_may_handle_it(fleet):
    """Each pause is longer, no attempt is counted, and the copy says that it may not be the only one."""
    async with open_bench(does(fine), grace_ms=GRACE) as bench:
        bench.fleet.fleet = fleet
        headers, pauses = TRACE | {LACKING_SINCE: "1"}, []
        for _ in range(8):
            message = await treat(bench, **headers)
            headers = dict(message.headers)
            pauses.append(message.delay_ms)
        copy = decode_job(message.body, "other", 0)
        assert (copy.job_id, copy.attempt, copy.payload_json, copy.submitted_at, copy.maybe_duplicate) == ("f", 2, b'{"a": 1}', 7, True)
        assert headers == TRACE | {DEFERRALS: "8"}
        assert 800 <= pauses[0] <= 1_200
        assert all(1.3 * before <= after for before, after in itertools.pairwise(pauses[:2]))
        assert 1_600 <= pauses[-1] <= 2_000
        assert bench.broker.events() == []


async def test_it_is_quarantined_once_no_worker_has_handled_it_for_the_grace():
    async with open_bench(does(fine), grace_ms=GRACE) as bench:
        bench.fleet.fleet = lacking()
        first = await treat(bench)
        assert first.headers[LACKING_SINCE] == str(NOW)
        bench.fleet.fleet = lacking(NOW + GRACE - 300)
        second = await treat(bench, **first.headers)
        assert second.headers[LACKING_SINCE] == str(NOW)
        assert second.delay_ms == 300
        bench.fleet.fleet = lacking(NOW + GRACE)
        assert await bench.run_one(body=FAX, headers=second.headers) == "ack"
        (event,) = bench.broker.events()
        assert (event.state, event.reason, event.code, event.job.attempt) == (JobState.QUARANTINED, Reason.UNKNOWN_TYPE, "UNKNOWN_TYPE", 2)
        assert event.message == "no live worker has handled 'fax' for 60 s"


@pytest.mark.parametrize("fleet", [HANDLED, INCOMPLETE, UNKNOWN], ids=["handled elsewhere", "incomplete", "unknown"])
async def test_the_grace_begins_anew_after_a_worker_may_have_handled_it(fleet):
    async with open_bench(does(fine), grace_ms=GRACE) as bench:
        bench.fleet.fleet = lacking()
        first = await treat(bench)
        bench.fleet.fleet = fleet
        second = await treat(bench, **first.headers)
        bench.fleet.fleet = lacking(NOW + 10 * GRACE)
        third = await treat(bench, **second.headers)
        assert third.headers[LACKING_SINCE] == str(NOW + 10 * GRACE)


@pytest.mark.parametrize("text", ["", "soon", "-5", "9" * 40, "٣", str(NOW + 10**9)])
async def test_a_header_that_is_invalid_or_ahead_begins_the_grace(text):
    async with open_bench(does(fine), grace_ms=GRACE) as bench:
        bench.fleet.fleet = lacking()
        message = await treat(bench, **{LACKING_SINCE: text})
        assert message.headers[LACKING_SINCE] == str(NOW)


async def test_a_job_that_cannot_be_handed_on_goes_back_to_the_queue():
    async with open_bench(does(fine), grace_ms=GRACE) as bench:
        bench.fleet.fleet = HANDLED
        bench.broker.failing_copies = 1
        assert await bench.run_one(body=FAX) == "nack"
        assert bench.broker.published == []


async def test_a_worker_that_has_the_handler_ends_the_lack_even_if_it_cannot_run_it_now():
    async with open_bench(does(fine), grace_ms=GRACE) as bench:
        assert await bench.run_one(job(), held_s=10_000, headers={LACKING_SINCE: "5"}) == "ack"
        assert bench.log == ["published retry", "ack"]
        assert bench.broker.published[0].headers == {DEFERRALS: "1"}


POOL = Fleet(NOW, [Worker("w2", "berta", ("fax",), pool="office")], unannounced=0)
COMMON = Fleet(NOW, [Worker("w2", "berta", ("fax",)), Worker("w3", "carla", ("email",), pool="mail")], unannounced=0)


async def test_it_is_handed_on_to_the_pool_that_handles_it_at_once_and_not_for_ever_without_pauses():
    """Published before it is acknowledged; after three hops that were in vain, in growing pauses."""
    async with open_bench(does(fine), grace_ms=GRACE) as bench:
        bench.fleet.fleet = POOL
        headers, pauses = TRACE, []
        for _ in range(6):
            message = await treat(bench, **headers)
            assert message.lane == "pool.office"
            headers = dict(message.headers)
            pauses.append(message.delay_ms)
        assert pauses[:3] == [0, 0, 0]
        assert all(pause >= 800 for pause in pauses[3:])
        assert decode_job(message.body, "other", 0).maybe_duplicate


async def test_a_worker_of_a_pool_hands_on_to_the_common_lanes_and_its_retries_stay_in_the_pool():
    async with open_bench(does(fine), grace_ms=GRACE, pool="mail") as bench:
        bench.fleet.fleet = COMMON
        assert (await treat(bench)).lane == "main"
        bench.fleet.fleet = UNKNOWN
        assert (await treat(bench)).lane == "pool.mail"


async def test_a_worker_of_the_pool_without_the_handler_waits_for_one_that_has_it():
    """As in a rolling deployment of the pool."""
    async with open_bench(does(fine), grace_ms=GRACE, pool="office") as bench:
        bench.fleet.fleet = POOL
        message = await treat(bench)
        assert (message.lane, message.delay_ms >= 800) == ("pool.office", True)


async def test_a_failed_run_of_a_pool_is_retried_in_the_pool():
    async with open_bench(does(fails("API_TIMEOUT")), pool="mail") as bench:
        assert await bench.run_one(job()) == "ack"
        (retry,) = [message for message in bench.broker.published if message.key == "retry"]
        assert retry.lane == "pool.mail"

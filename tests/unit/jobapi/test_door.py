"""The limits on submissions: each job is judged for itself, repeats cost nothing, and nothing is asked while there is no limit."""

from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from jobapi.metrics import MAX_TENANTS, DoorCollector
from sickbay.adapters.embedded.rate_limiter import EmbeddedRateLimiter
from sickbay.contract.requests import Submission
from sickbay.domain.errors import ErrorReason, Quota, Refused, ResourceExhausted, Unavailable
from sickbay.domain.queries import Accepted
from sickbay.ports import Queue
from sickbay.ports.limits import Waiting
from sickbay.runtime.door_rules import DoorRules
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.submission.door import MAX_NAMES, Door
from sickbay.submission.recent import RecentJobs
from sickbay.submission.submit import JobSubmitter
from sickbay.submission.waiting import WaitingJobs
from tests.support.embedded_backends import Flaky, open_backends

RATE = "[tenants.acme]\nsubmit = '2/s'\n"


class Counts:
    """A ledger that says what it is told to."""

    def __init__(self):
        self.answer = Waiting({}, 0)
        self.asked = 0

    async def count(self):
        self.asked += 1
        return self.answer


@asynccontextmanager
async def open_door(tmp_path, text, counts=None):
    """A submitter whose settings file is this."""
    path = tmp_path / "sickbay.toml"
    path.write_text(text)
    async with open_backends() as backends:
        policies = Policies(Settings(sickbay_config=str(path)))
        rules = DoorRules(policies)
        limiter = Flaky(EmbeddedRateLimiter(lambda: backends.clock() * 1_000))
        waiting = WaitingJobs(counts or Counts(), backends.clock, lambda: rules.limits_waiting)
        door = Door(rules, limiter, waiting)
        intake = JobSubmitter(backends.broker, backends.keys, RecentJobs(), backends.clock, door=door)
        intake.parts = (door, waiting, limiter, policies, path)
        await waiting.refresh()
        yield intake, backends


def wish(key="", job_type="email", tenant="acme", **when):
    return Submission(job_type, tenant, b"{}", key, **when)


def reasons(results):
    return [None if isinstance(result, Accepted) else result.reason.value for result in results]


async def test_what_is_over_the_rate_is_rejected_with_the_wait(tmp_path):
    async with open_door(tmp_path, RATE) as (intake, backends):
        *_, rejected = await intake.accept([wish()] * 3)
        assert isinstance(rejected, ResourceExhausted)
        assert (rejected.reason, rejected.retry_after) == (ErrorReason.SUBMISSION_RATE_EXCEEDED, 0.5)
        assert rejected.quota == Quota("tenant", 2, 1, 1)
        assert str(rejected) == "the limit of tenant acme is 2/s, with 2 at once; the job was not accepted, try again in 1 s"
        assert await backends.broker.depth(Queue.MAIN) == 2
        backends.clock.now += 500
        assert reasons(await intake.accept([wish()])) == [None]


async def test_each_item_of_a_batch_is_judged_and_waits_longer_than_the_one_before(tmp_path):
    """Other tenants are not limited."""
    async with open_door(tmp_path, RATE) as (intake, _):
        results = await intake.accept([wish(), wish(tenant="other"), wish(), wish(), wish(tenant="other"), wish(job_type="sms")])
        exceeded = ErrorReason.SUBMISSION_RATE_EXCEEDED.value
        assert reasons(results) == [None, None, None, exceeded, None, exceeded]
        results = await intake.accept([wish()] * 3)
        assert [result.retry_after for result in results] == [0.5, 1.0, 1.5]


async def test_the_tightest_of_several_limits_says_no(tmp_path):
    """And what it rejects takes nothing of the others."""
    async with open_door(tmp_path, f"{RATE}submit_burst = 10\n[types.sms]\nsubmit = '1/m'\n[defaults]\nsubmit = '5/s'\n") as (intake, _):
        results = await intake.accept([wish(job_type="sms")] * 3)
        assert [str(result).split(",")[0] for result in results[1:]] == ["the limit of job type sms is 1/m"] * 2
        assert reasons(await intake.accept([wish()] * 6))[4:] == [None, "SUBMISSION_RATE_EXCEEDED"]


async def test_a_repeat_is_answered_and_costs_nothing(tmp_path):
    """Also when the limit is reached, and within one call."""
    async with open_door(tmp_path, RATE) as (intake, _):
        first, again = await intake.accept([wish("k"), wish("k")])
        assert [(one.job.job_id, one.duplicate) for one in (first, again)] == [(first.job.job_id, False), (first.job.job_id, True)]
        assert reasons(await intake.accept([wish(), wish()])) == [None, "SUBMISSION_RATE_EXCEEDED"]
        (repeat,) = await intake.accept([wish("k")])
        assert (repeat.job.job_id, repeat.duplicate) == (first.job.job_id, True)


async def test_a_rejected_job_leaves_no_key_behind(tmp_path):
    async with open_door(tmp_path, RATE) as (intake, backends):
        *_, rejected = await intake.accept([wish(), wish(), wish("k")])
        assert rejected.reason is ErrorReason.SUBMISSION_RATE_EXCEEDED
        backends.clock.now += 500
        (accepted,) = await intake.accept([Submission("email", "acme", b'{"other": 1}', "k")])
        assert (accepted.duplicate, accepted.job.maybe_duplicate) == (False, False)


async def test_without_a_limit_nothing_is_asked(tmp_path):
    """Not even with a file; and a limit on waiting jobs does not ask for rates."""
    for text in ("[types.email]\ntimeout = '1s'\n", "[limits]\nqueued = 5\n"):
        async with open_door(tmp_path, text) as (intake, _):
            door, _, limiter, *_ = intake.parts
            limiter.fail("take", times=99, error=AssertionError("asked"))
            assert reasons(await intake.accept([wish()])) == [None]
            assert door.has_limits is ("queued" in text)


async def test_while_the_store_is_away_jobs_are_accepted_and_counted(tmp_path):
    async with open_door(tmp_path, RATE) as (intake, _):
        door, _, limiter, *_ = intake.parts
        limiter.fail("take", times=1)
        assert reasons(await intake.accept([*[wish()] * 3, wish(tenant="other")])) == [None] * 4
        assert (door.unlimited, door.rejected) == (3, {})


async def test_a_changed_file_is_in_force_at_once(tmp_path):
    async with open_door(tmp_path, "") as (intake, _):
        door, _, _, policies, path = intake.parts
        assert not door.has_limits
        path.write_text(RATE)
        assert policies.poll()
        assert reasons(await intake.accept([wish()] * 3)) == [None, None, "SUBMISSION_RATE_EXCEEDED"]


async def test_waiting_jobs_are_bounded_by_tenant_and_in_all(tmp_path):
    """What was accepted since the count counts, within one batch, too."""
    counts = Counts()
    counts.answer = Waiting({"acme": 1, "other": 1}, 0)
    async with open_door(tmp_path, "[tenants.acme]\nqueued = 3\n[limits]\nqueued = 5\n", counts) as (intake, _):
        full = ErrorReason.TOO_MANY_QUEUED.value
        results = await intake.accept([wish(), wish(), wish(), wish(tenant="other"), wish(tenant="third")])
        assert reasons(results) == [None, None, full, None, full]
        assert str(results[2]) == "3 jobs of tenant acme wait, and 3 may; the job was not accepted, try again in 2 s"
        assert str(results[4]).startswith("5 jobs of all tenants wait, and 5 may; ")
        assert results[2].quota is None
        assert intake.parts[0].rejected == {("tenant_queued", "acme"): 1, ("queued", ""): 1}


@pytest.mark.parametrize("error", [Refused("no"), Unavailable("perhaps")])
async def test_jobs_that_could_not_be_published_do_not_wait(tmp_path, error):
    async with open_door(tmp_path, "[limits]\nqueued = 1\n") as (intake, backends):
        for _ in range(3):
            backends.broker.fail("publish", error=error)
            (result,) = await intake.accept([wish()])
            assert result is error
        assert reasons(await intake.accept([wish(), wish()])) == [None, "TOO_MANY_QUEUED"]


async def test_jobs_rejected_by_a_rate_do_not_wait(tmp_path):
    async with open_door(tmp_path, f"{RATE}[limits]\nqueued = 4\n") as (intake, _):
        assert reasons(await intake.accept([wish()] * 4)) == [None, None, *["SUBMISSION_RATE_EXCEEDED"] * 2]
        assert reasons(await intake.accept([wish(tenant="b")] * 3)) == [None, None, "TOO_MANY_QUEUED"]


async def test_jobs_that_are_to_run_later_take_no_place(tmp_path):
    """However many there are: also when the places are taken, and within one batch."""
    async with open_door(tmp_path, "[tenants.acme]\nqueued = 1\n[limits]\nqueued = 2\n") as (intake, backends):
        full = ErrorReason.TOO_MANY_QUEUED.value
        later = [wish(delay_ms=1), wish(run_at=backends.clock() + 1)]
        assert reasons(await intake.accept([*later, wish(), *later, wish()])) == [None] * 5 + [full]
        assert reasons(await intake.accept([*later, wish(tenant="b"), *later, wish(tenant="b")])) == [None] * 5 + [full]
        assert intake.parts[1].count(None) == 2


async def test_one_whose_time_has_passed_takes_its_place(tmp_path):
    async with open_door(tmp_path, "[tenants.acme]\nqueued = 1\n") as (intake, backends):
        past = wish(run_at=backends.clock())
        assert reasons(await intake.accept([past, past])) == [None, "TOO_MANY_QUEUED"]


async def test_a_rate_counts_jobs_that_are_to_run_later(tmp_path):
    """It is of submissions."""
    async with open_door(tmp_path, RATE) as (intake, backends):
        exceeded = ErrorReason.SUBMISSION_RATE_EXCEEDED.value
        assert reasons(await intake.accept([wish(delay_ms=60_000), wish(), wish(delay_ms=60_000)])) == [None, None, exceeded]
        backends.clock.now += 500
        assert reasons(await intake.accept([wish(delay_ms=60_000), wish()])) == [None, exceeded]


@pytest.mark.parametrize("error", [Refused("no"), Unavailable("perhaps")])
async def test_one_that_is_to_run_later_gives_back_no_place(tmp_path, error):
    """It took none: that of a job of the same tenant and moment stays taken, whether a publish fails or a rate rejects it."""
    async with open_door(tmp_path, f"{RATE}queued = 2\n") as (intake, backends):
        assert reasons(await intake.accept([wish()])) == [None]
        backends.broker.fail("publish", error=error)
        assert await intake.accept([wish(delay_ms=60_000)]) == [error]
        assert reasons(await intake.accept([wish(delay_ms=60_000)])) == ["SUBMISSION_RATE_EXCEEDED"]
        assert intake.parts[1].count("acme") == 1


async def test_the_names_of_the_rejected_are_bounded(tmp_path):
    async with open_door(tmp_path, "[defaults.tenant]\nsubmit = '1/h'\n") as (intake, _):
        for number in range(MAX_NAMES + 10):
            await intake.accept([wish(tenant=f"t{number}")] * 2)
        rejected = intake.parts[0].rejected
        assert (len(rejected), rejected["tenant", "other"], rejected.total()) == (MAX_NAMES + 1, 10, MAX_NAMES + 10)


async def test_the_metrics_show_the_tenants_with_the_most_waiting_jobs(tmp_path):
    """All others are added up; without a bound there is no count."""
    counts = Counts()
    counts.answer = Waiting({f"t{number}": number for number in range(1, MAX_TENANTS + 4)}, 0)
    async with open_door(tmp_path, "[limits]\nqueued = 5000\n", counts) as (intake, _):
        door, waiting, *_, policies, path = intake.parts
        door.unlimited = 7
        registry = CollectorRegistry()
        DoorCollector(door, waiting, registry)
        assert registry.get_sample_value("sickbay_limits_skipped_total") == 7
        assert registry.get_sample_value("sickbay_waiting_jobs_known") == 1
        shown = {name: registry.get_sample_value("sickbay_waiting_jobs", {"tenant": name}) for name in ("t3", "t4", "other")}
        assert shown == {"t3": None, "t4": 4, "other": 1 + 2 + 3}
        path.write_text("")
        assert policies.poll()
        assert registry.get_sample_value("sickbay_waiting_jobs_known") is None


PRINCIPALS = "[principals.shop]\nsubmit = '2/s'\n[principals.'auth0|7:x']\nsubmit = '1/s'\n"


def by(principal, key="", tenant="acme", payload=b"{}"):
    return Submission("email", tenant, payload, key, principal=principal)


async def test_a_principal_has_one_rate_for_all_its_tenants(tmp_path):
    """Others, and calls without one, have none; names may hold what separates kinds of limits from names."""
    async with open_door(tmp_path, PRINCIPALS) as (intake, backends):
        *_, rejected = await intake.accept([by("shop"), by("shop", tenant="other"), by("shop", tenant="third")])
        assert rejected.quota == Quota("principal", 2, 1, 1)
        assert str(rejected) == "the limit of principal shop is 2/s, with 2 at once; the job was not accepted, try again in 1 s"
        assert reasons(await intake.accept([by("office"), by("")] * 3)) == [None] * 6
        assert reasons(await intake.accept([by("auth0|7:x")] * 2)) == [None, "SUBMISSION_RATE_EXCEEDED"]
        door, *_ = intake.parts
        assert door.rejected == {("principal", "shop"): 1, ("principal", "auth0|7:x"): 1}
        backends.clock.now += 500
        assert reasons(await intake.accept([by("shop"), by("shop")])) == [None, "SUBMISSION_RATE_EXCEEDED"]


async def test_what_is_over_the_rate_of_its_principal_costs_nothing_else(tmp_path):
    """No key, no name, no place among the waiting, nothing of the tenant's rate; results stay in the order of the call."""
    text = f"{PRINCIPALS}[tenants.acme]\nsubmit = '3/h'\nqueued = 100\n"
    async with open_door(tmp_path, text) as (intake, backends):
        results = await intake.accept([by("shop"), by("office"), by("shop"), by("shop", "k"), by("shop", "k2", "new")])
        assert reasons(results) == [None, None, None, "SUBMISSION_RATE_EXCEEDED", "SUBMISSION_RATE_EXCEEDED"]
        _, waiting, *_ = intake.parts
        assert waiting.count("acme") == 3
        assert intake._names.tenants == 1
        backends.clock.now += 1_000
        (other,) = await intake.accept([by("shop", "k", "new", b'{"other": 1}')])
        assert (other.duplicate, other.job.maybe_duplicate) == (False, False)
        assert reasons(await intake.accept([by("office")])) == ["SUBMISSION_RATE_EXCEEDED"]


async def test_a_repeat_counts_for_its_principal(tmp_path):
    """It is asked before the keys: they would cost a round trip."""
    async with open_door(tmp_path, PRINCIPALS) as (intake, _):
        assert reasons(await intake.accept([by("shop", "k")])) == [None]
        (repeat,) = await intake.accept([by("shop", "k")])
        assert repeat.duplicate
        assert reasons(await intake.accept([by("shop", "k")])) == ["SUBMISSION_RATE_EXCEEDED"]


async def test_principals_are_not_limited_while_the_store_is_away(tmp_path):
    async with open_door(tmp_path, PRINCIPALS) as (intake, _):
        door, _, limiter, *_ = intake.parts
        limiter.fail("take", times=1)
        assert reasons(await intake.accept([by("shop")] * 5)) == [None] * 5
        assert door.unlimited == 5


async def test_the_rate_of_every_principal(tmp_path):
    """Each key is looked up for itself, and nobody is not everybody."""
    async with open_door(tmp_path, "[defaults.principal]\nsubmit = '1/s'\n[principals.shop]\nsubmit_burst = 3\n") as (intake, _):
        assert reasons(await intake.accept([by("shop")] * 4))[2:] == [None, "SUBMISSION_RATE_EXCEEDED"]
        assert reasons(await intake.accept([by("office")] * 2)) == [None, "SUBMISSION_RATE_EXCEEDED"]
        assert reasons(await intake.accept([by("")] * 4)) == [None] * 4

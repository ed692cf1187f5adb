"""The contract of the `Breakers` port. Another adapter joins by one more opener in ADAPTERS; the tests use the port and the clock alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from random import Random

import pytest

from controlplane.leftover_breakers import UNUSED_MS, LeftoverBreakers
from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.domain.breaker import (
    Action,
    BreakerConfig,
    BreakerKey,
    BreakerScope,
    BreakerState,
    Command,
    DependencyRule,
    Permit,
    PermitKind,
    Refusal,
    Snapshot,
)
from sickbay.domain.errors import ErrorReason, NotFound
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from sickbay.ports import Breakers, Clock
from tests.support.breaker_jobs import run
from tests.support.clock import ManualClock
from tests.support.redis_servers import fake, own_database

KEY = BreakerKey("email")
ACME = BreakerKey("email", "acme")
START = 1_700_000_000_000
CONFIG = BreakerConfig(failure_threshold=3)
DOWN = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "no answer")
BAD_DATA = Outcome(OutcomeKind.DATA, "VALIDATION_ERROR")

pytestmark = pytest.mark.usefixtures("patience")


@asynccontextmanager
async def embedded(config: BreakerConfig, clock: Clock) -> AsyncIterator[Breakers]:
    """The circuits of one process."""
    yield EmbeddedBreakers(config, clock, Random(7))


@asynccontextmanager
async def on_fake_redis(config: BreakerConfig, clock: Clock) -> AsyncIterator[Breakers]:
    """The fleet's circuits on a Redis that is imitated in this process."""
    async with RedisBreakers("redis://fake", config, clock=clock, rng=Random(7), connect=fake()) as breakers:
        yield breakers


@asynccontextmanager
async def on_redis(config: BreakerConfig, clock: Clock) -> AsyncIterator[Breakers]:
    """The fleet's circuits on a real Redis."""
    async with own_database() as url, RedisBreakers(url, config, clock=clock, rng=Random(7)) as breakers:
        yield breakers


Opener = Callable[[BreakerConfig, Clock], AbstractAsyncContextManager[Breakers]]
ADAPTERS: list[Opener] = [embedded, on_fake_redis, pytest.param(on_redis, marks=pytest.mark.servers)]


@dataclass
class Time:
    """A clock that moves only when told."""

    now: int = START


@dataclass
class Fleet:
    """The breakers under test, the clock they live by, and the steps that tests have in common."""

    breakers: Breakers
    time: Time

    @property
    def now(self) -> int:
        """The time, in ms."""
        return self.time.now

    @now.setter
    def now(self, value: int) -> None:
        self.time.now = value

    async def permit(self, job: str = "job", key: BreakerKey = KEY) -> Permit:
        """Ask, and be let in."""
        answer = await self.breakers.admit(key, job)
        assert isinstance(answer, Permit)
        return answer

    async def run(self, outcome: Outcome, times: int = 1, key: BreakerKey = KEY) -> None:
        """Some jobs run and come to the same outcome."""
        for number in range(times):
            await self.breakers.settle(await self.permit(f"job-{number}", key), outcome)

    async def open(self) -> Snapshot:
        """The circuit trips."""
        await self.run(DOWN, 3)
        seen = await self.look()
        assert seen.state is BreakerState.OPEN
        return seen

    async def probe(self) -> Permit:
        """The circuit trips, its cooldown passes, and somebody probes."""
        self.now = (await self.open()).probe_at or 0
        permit = await self.permit("prober")
        assert permit.kind is PermitKind.PROBE
        return permit

    async def until_forgotten(self) -> None:
        """A success may be told a little later, and then no circuit is known."""
        async with asyncio.timeout(10):
            while await self.breakers.snapshots():
                await asyncio.sleep(0)

    async def look(self, key: BreakerKey = KEY) -> Snapshot:
        """The circuit as everybody sees it."""
        [seen] = [snapshot for snapshot in await self.breakers.snapshots() if snapshot.key == key]
        return seen


@pytest.fixture(params=ADAPTERS)
async def fleet(request):
    time = Time()
    async with request.param(CONFIG, lambda: time.now) as breakers:
        yield Fleet(breakers, time)


async def test_a_type_is_known_from_its_first_admission(fleet):
    assert list(await fleet.breakers.snapshots()) == []
    for name in ("sms", "email"):
        permit = await fleet.permit("job-1", BreakerKey(name))
        assert (permit.kind, permit.job_id, permit.key) == (PermitKind.NORMAL, "job-1", BreakerKey(name))
    seen = await fleet.breakers.snapshots()
    assert [snapshot.key for snapshot in seen] == [BreakerKey("email"), BreakerKey("sms")]
    assert {snapshot.state for snapshot in seen} == {BreakerState.CLOSED}


async def test_some_circuits_are_looked_at_alone(fleet):
    """Those that are named and known, in that order; what time did to them is seen, too."""
    for name in ("sms", "email", "push"):
        await fleet.permit("job-1", BreakerKey(name))
    opened = await fleet.open()
    assert await fleet.breakers.keys() == [KEY, BreakerKey("push"), BreakerKey("sms")]
    [sms, email] = await fleet.breakers.snapshots([BreakerKey("sms"), KEY, BreakerKey("unheard-of"), ACME])
    assert (email.key, email.state, email.total_failures, sms.key, sms.state) == (
        KEY,
        BreakerState.OPEN,
        3,
        BreakerKey("sms"),
        BreakerState.CLOSED,
    )
    fleet.now = opened.probe_at or 0
    [email] = await fleet.breakers.snapshots([KEY])
    assert email.cooldown_elapsed


async def test_of_a_tenant_s_circuit_without_a_history_nothing_is_kept(fleet):
    """Tenants are the clients' to name, without end: what runs well leaves nothing behind, however often it is let in."""
    for number in range(3):
        permit = await fleet.permit(f"job-{number}", ACME)
        assert (permit.kind, permit.key) == (PermitKind.NORMAL, ACME)
        assert await fleet.breakers.settle(permit, SUCCESS) is BreakerState.CLOSED
    assert await fleet.breakers.snapshots() == []
    with pytest.raises(NotFound):
        await fleet.breakers.command(ACME, Command(Action.RESET))


async def test_failures_of_a_tenant_make_its_circuit_and_a_success_forgets_it(fleet):
    await fleet.breakers.settle(await fleet.permit("job-1", ACME), DOWN)
    [seen] = await fleet.breakers.snapshots()
    assert (seen.key, seen.failures_in_row, seen.total_failures) == (ACME, 1, 1)
    await fleet.breakers.settle(await fleet.permit("job-2", ACME), SUCCESS)
    await fleet.until_forgotten()


async def test_runs_of_a_tenant_that_began_while_nothing_was_known_open_its_circuit(fleet):
    """They began before the first failure, at several times, and their circuit was forgotten meanwhile; each of them counts."""
    early = [await fleet.permit(f"early-{number}", ACME) for number in range(CONFIG.failure_threshold)]
    await fleet.breakers.settle(await fleet.permit("job", ACME), DOWN)
    await fleet.breakers.settle(await fleet.permit("job", ACME), SUCCESS)
    await fleet.until_forgotten()
    for permit in early:
        await fleet.breakers.settle(permit, DOWN)
    assert isinstance(await fleet.breakers.admit(ACME, "job"), Refusal)
    assert (await fleet.look(ACME)).reason_count == CONFIG.failure_threshold


async def test_a_reset_of_a_tenant_s_circuit_forgets_it(fleet):
    held = await fleet.breakers.command(ACME, Command(Action.FORCE_OPEN))
    assert held.state is BreakerState.FORCED_OPEN
    assert isinstance(await fleet.breakers.admit(ACME, "job"), Refusal)
    assert (await fleet.breakers.command(ACME, Command(Action.RESET))).state is BreakerState.CLOSED
    assert await fleet.breakers.snapshots() == []
    assert (await fleet.permit("job", ACME)).kind is PermitKind.NORMAL


async def test_circuits_do_not_touch_each_other(fleet):
    await fleet.permit("job", BreakerKey("sms"))
    await fleet.permit("job", BreakerKey("email", "acme"))
    await fleet.open()
    assert isinstance(await fleet.breakers.admit(KEY, "job"), Refusal)
    assert (await fleet.permit("job", BreakerKey("sms"))).kind is PermitKind.NORMAL
    assert (await fleet.permit("job", BreakerKey("email", "acme"))).kind is PermitKind.NORMAL


async def test_failures_in_a_row_open_the_circuit_and_it_tells_why(fleet):
    await fleet.run(DOWN, 2)
    seen = await fleet.look()
    assert (seen.failures_in_row, seen.failures_in_row_code) == (2, "API_TIMEOUT")
    await fleet.run(DOWN)
    seen = await fleet.look()
    assert (seen.state, seen.reason_code, seen.reason_count, seen.reason_message) == (BreakerState.OPEN, "API_TIMEOUT", 3, "no answer")
    assert (seen.opened_at, seen.probe_at, seen.trips) == (START, START + 60_000, 1)
    assert await fleet.breakers.admit(KEY, "job") == Refusal(KEY, BreakerState.OPEN)


async def test_each_verdict_learns_the_state_after_it(fleet):
    late = await fleet.permit("late")
    for number, state in enumerate((BreakerState.CLOSED, BreakerState.CLOSED, BreakerState.OPEN)):
        assert await fleet.breakers.settle(await fleet.permit(f"job-{number}"), DOWN) is state
    assert await fleet.breakers.settle(late, SUCCESS) is BreakerState.OPEN
    fleet.now += 60_000
    assert await fleet.breakers.settle(await fleet.permit(), SUCCESS) is BreakerState.CLOSED


async def test_a_success_in_between_keeps_it_closed(fleet):
    for _ in range(3):
        await fleet.run(DOWN, 2)
        await fleet.run(SUCCESS)
    assert (await fleet.look()).state is BreakerState.CLOSED


async def test_bad_data_never_opens_but_is_in_the_total(fleet):
    await fleet.run(BAD_DATA, 10)
    await fleet.run(DOWN)
    await fleet.run(Outcome(OutcomeKind.CANCELLED))
    await fleet.run(SUCCESS)
    seen = await fleet.look()
    assert (seen.state, seen.total_failures) == (BreakerState.CLOSED, 11)


async def test_exactly_one_of_forty_gets_the_probe(fleet):
    fleet.now = (await fleet.open()).probe_at
    answers = await asyncio.gather(*(fleet.breakers.admit(KEY, f"job-{number}") for number in range(40)))
    permits = [answer for answer in answers if isinstance(answer, Permit)]
    assert [permit.kind for permit in permits] == [PermitKind.PROBE]
    assert permits[0].token
    assert permits[0].lease_ms == CONFIG.probe_lease_ms
    seen = await fleet.look()
    assert (seen.state, seen.probe_job_id) == (BreakerState.HALF_OPEN, permits[0].job_id)


async def test_a_probe_that_succeeds_closes(fleet):
    await fleet.breakers.settle(await fleet.probe(), SUCCESS)
    seen = await fleet.look()
    assert (seen.state, seen.recovering) == (BreakerState.CLOSED, True)
    assert (await fleet.permit()).kind is PermitKind.RAMP
    for _ in range(8):
        fleet.now += 1_000
        await fleet.run(SUCCESS)
    assert (await fleet.permit()).kind is PermitKind.NORMAL


async def test_a_probe_that_fails_opens_for_another_cooldown(fleet):
    await fleet.breakers.settle(await fleet.probe(), DOWN)
    seen = await fleet.look()
    assert (seen.state, seen.trips, seen.cooldown_ms) == (BreakerState.OPEN, 2, 60_000)


async def test_a_rate_limit_opens_at_once_and_for_as_long_as_it_says(fleet):
    limited = Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED", "slow down", 10_000)
    await fleet.run(limited)
    for _ in range(2):
        assert (await fleet.look()).probe_at == fleet.now + 10_000
        fleet.now += 10_000
        probe = await fleet.permit()
        assert probe.kind is PermitKind.PROBE
        await fleet.breakers.settle(probe, limited)


async def test_a_probe_with_bad_data_proves_nothing(fleet):
    await fleet.breakers.settle(await fleet.probe(), BAD_DATA)
    seen = await fleet.look()
    assert (seen.state, seen.trips, seen.probe_at) == (BreakerState.OPEN, 1, fleet.now + 1_000)


async def test_a_prober_that_vanishes_is_replaced_after_its_lease(fleet):
    lost = await fleet.probe()
    fleet.now += CONFIG.probe_lease_ms - 1
    assert isinstance(await fleet.breakers.admit(KEY, "job"), Refusal)
    fleet.now += 1
    heir = await fleet.permit("heir")
    assert heir.kind is PermitKind.PROBE
    assert heir.token != lost.token
    assert not await fleet.breakers.renew(lost)
    before = await fleet.look()
    await fleet.breakers.settle(lost, SUCCESS)
    assert await fleet.look() == before
    await fleet.breakers.settle(heir, SUCCESS)
    assert (await fleet.look()).state is BreakerState.CLOSED


async def test_a_lost_lease_is_seen_without_any_admission(fleet):
    await fleet.probe()
    fleet.now += CONFIG.probe_lease_ms
    seen = await fleet.look()
    assert (seen.state, seen.cooldown_elapsed, seen.probe_job_id) == (BreakerState.OPEN, True, "")


async def test_a_renewed_probe_lives_to_its_longest_time_and_no_longer(fleet):
    await fleet.breakers.settle(await fleet.permit(), SUCCESS, CONFIG.probe_max_ms)  # so long runs are usual
    permit = await fleet.probe()
    since = fleet.now
    while fleet.now < since + CONFIG.probe_max_ms - 5_000:
        fleet.now += 5_000
        assert await fleet.breakers.renew(permit)
        assert isinstance(await fleet.breakers.admit(KEY, "job"), Refusal)
    fleet.now += 5_000
    assert not await fleet.breakers.renew(permit)


async def test_a_probe_whose_run_may_take_longer_lives_for_as_long(fleet):
    await fleet.breakers.settle(await fleet.permit(), SUCCESS, 100_000)
    fleet.now = (await fleet.open()).probe_at
    permit = await fleet.breakers.admit(KEY, "slow", 300_000)
    for _ in range(29):
        fleet.now += 10_000
        assert await fleet.breakers.renew(permit)
        assert isinstance(await fleet.breakers.admit(KEY, "job"), Refusal)
    assert await fleet.breakers.settle(permit, SUCCESS) is BreakerState.CLOSED


async def test_a_hold_that_ends_before_the_probe_lends_no_second_one(fleet):
    first = await fleet.probe()
    await fleet.breakers.command(KEY, Command(Action.FORCE_OPEN, 1_000))
    fleet.now += 1_000
    assert isinstance(await fleet.breakers.admit(KEY, "job"), Refusal)
    assert await fleet.breakers.renew(first)
    await fleet.breakers.settle(first, SUCCESS)
    assert (await fleet.look()).state is BreakerState.OPEN
    assert (await fleet.permit()).kind is PermitKind.PROBE


async def test_only_the_probers_own_token_is_heard(fleet):
    permit = await fleet.probe()
    before = await fleet.look()
    for forged in (replace(permit, token="guessed"), replace(permit, epoch=permit.epoch - 1)):
        assert not await fleet.breakers.renew(forged)
        await fleet.breakers.settle(forged, SUCCESS)
    assert await fleet.look() == before


async def test_late_verdicts_are_counted_and_change_nothing_else(fleet):
    early = [await fleet.permit(f"early-{number}") for number in range(5)]
    before = await fleet.open()
    await fleet.breakers.settle(early[0], DOWN)
    await fleet.breakers.settle(early[1], SUCCESS)
    assert await fleet.look() == replace(before, total_failures=before.total_failures + 1)


async def test_a_verdict_on_a_circuit_nobody_knows_is_harmless(fleet):
    assert await fleet.breakers.settle(Permit(KEY, PermitKind.NORMAL, 1, "job"), DOWN) is BreakerState.CLOSED
    assert not await fleet.breakers.renew(Permit(KEY, PermitKind.PROBE, 1, "job", "token", 1))
    assert list(await fleet.breakers.snapshots()) == []


@pytest.mark.parametrize("action", [Action.RESET, Action.AUTO, Action.PROBE])
async def test_reset_auto_and_probe_need_a_known_type(fleet, action):
    with pytest.raises(NotFound) as caught:
        await fleet.breakers.command(KEY, Command(action))
    assert caught.value.reason is ErrorReason.BREAKER_NOT_FOUND
    assert list(await fleet.breakers.snapshots()) == []


async def test_a_reset_closes_and_makes_the_probe_stale(fleet):
    permit = await fleet.probe()
    seen = await fleet.breakers.command(KEY, Command(Action.RESET))
    assert (seen.state, seen.trips, seen.recovering) == (BreakerState.CLOSED, 0, True)
    await fleet.breakers.settle(permit, DOWN)
    after = await fleet.look()
    assert (after.state, after.rev) == (BreakerState.CLOSED, seen.rev)


async def test_a_reset_lets_jobs_in_gradually(fleet):
    """What has waited would be a flood; a breaker that admitted everything goes on doing so."""
    await fleet.run(SUCCESS)
    await fleet.breakers.command(KEY, Command(Action.RESET))
    assert (await fleet.permit()).kind is PermitKind.NORMAL
    await fleet.breakers.command(KEY, Command(Action.FORCE_OPEN))
    await fleet.breakers.command(KEY, Command(Action.RESET))
    assert [type(await fleet.breakers.admit(KEY, f"job-{n}")) for n in range(3)] == [Permit, Permit, Refusal]
    seen = await fleet.look()
    assert (seen.recovering, seen.rate) == (True, 10.0)


async def test_what_is_reserved_for_released_jobs_is_offered_to_nobody_else(fleet):
    """All where everything runs, none where nothing does, and what is left over while it recovers."""
    assert await fleet.breakers.reserve(KEY, 7) == 7, "an unknown type"
    await fleet.run(SUCCESS)
    assert await fleet.breakers.reserve(KEY, 7) == 7
    await fleet.open()
    assert await fleet.breakers.reserve(KEY, 7) == 0
    await fleet.breakers.command(KEY, Command(Action.RESET))
    assert [await fleet.breakers.reserve(KEY, 7) for _ in range(2)] == [2, 0]
    for number in range(2):
        assert isinstance(await fleet.breakers.admit(KEY, f"job-{number}", released=True), Permit)
    assert await fleet.breakers.reserve(KEY, 7) == 0
    fleet.now += 200
    assert await fleet.breakers.reserve(KEY, 7) == 2
    fleet.now += 1_000
    assert await fleet.breakers.reserve(KEY, 7) == 1, "those that were released did not come, and half are forgotten each second"
    fleet.now += 2_000
    assert await fleet.breakers.reserve(KEY, 7) == 2


async def test_an_unknown_type_can_be_forced_open_beforehand(fleet):
    seen = await fleet.breakers.command(KEY, Command(Action.FORCE_OPEN, 5_000, "ada", "maintenance"))
    assert (seen.state, seen.forced_by, seen.forced_why) == (BreakerState.FORCED_OPEN, "ada", "maintenance")
    assert seen.forced_until == START + 5_000
    assert await fleet.breakers.admit(KEY, "job") == Refusal(KEY, BreakerState.FORCED_OPEN)
    fleet.now += 5_000
    seen = await fleet.look()
    assert (seen.state, seen.cooldown_elapsed) == (BreakerState.OPEN, True)
    assert (await fleet.permit()).kind is PermitKind.PROBE


async def test_auto_ends_a_hold_with_a_probe(fleet):
    await fleet.breakers.command(KEY, Command(Action.FORCE_OPEN))
    assert await fleet.breakers.admit(KEY, "job") == Refusal(KEY, BreakerState.FORCED_OPEN)
    seen = await fleet.breakers.command(KEY, Command(Action.AUTO))
    assert (seen.state, seen.cooldown_elapsed) == (BreakerState.OPEN, True)


async def test_an_ordered_probe_is_granted_before_its_time_and_to_one_alone(fleet):
    opened = await fleet.open()
    assert await fleet.breakers.admit(KEY, "early") == Refusal(KEY, BreakerState.OPEN)
    seen = await fleet.breakers.command(KEY, Command(Action.PROBE))
    assert (seen.state, seen.cooldown_elapsed, seen.epoch, seen.rev > opened.rev) == (BreakerState.OPEN, True, opened.epoch, True)
    answers = await asyncio.gather(*(fleet.breakers.admit(KEY, f"job-{number}") for number in range(20)))
    [permit] = [answer for answer in answers if isinstance(answer, Permit)]
    seen = await fleet.breakers.command(KEY, Command(Action.PROBE))
    assert (seen.state, seen.probe_job_id) == (BreakerState.HALF_OPEN, permit.job_id)
    assert await fleet.breakers.admit(KEY, "second") == Refusal(KEY, BreakerState.HALF_OPEN)
    assert await fleet.breakers.settle(permit, SUCCESS) is BreakerState.CLOSED


@pytest.mark.parametrize("action", [Action.RESET, Action.FORCE_OPEN, Action.DISABLE, Action.METRICS_ONLY])
async def test_a_probe_ordered_in_another_state_changes_nothing(fleet, action):
    await fleet.open()
    before = await fleet.breakers.command(KEY, Command(action))
    after = await fleet.breakers.command(KEY, Command(Action.PROBE))
    assert (after.state, after.epoch, after.rev) == (before.state, before.epoch, before.rev)


@pytest.mark.parametrize(("action", "would"), [(Action.DISABLE, 0), (Action.METRICS_ONLY, 1)])
async def test_permissive_circuits_never_refuse(fleet, action, would):
    await fleet.open()
    await fleet.breakers.command(KEY, Command(action, by="ada"))
    await fleet.run(DOWN, 10)
    seen = await fleet.look()
    assert seen.would_have_tripped == would
    seen = await fleet.breakers.command(KEY, Command(Action.AUTO))
    assert seen.state is BreakerState.CLOSED


async def test_watch_tells_each_change_as_it_comes(fleet):
    async with fleet.breakers.watch() as changes:
        await fleet.permit()
        assert (await anext(changes)).state is BreakerState.CLOSED
        await fleet.run(DOWN)
        assert (await anext(changes)).failures_in_row == 1
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        assert not waiting.done()
        await fleet.breakers.command(KEY, Command(Action.FORCE_OPEN, 1_000))
        assert (await waiting).state is BreakerState.FORCED_OPEN
        fleet.now += 1_000
        await fleet.look()
        assert (await anext(changes)).state is BreakerState.OPEN


async def test_a_slow_watcher_gets_the_latest_of_each_circuit(fleet):
    async with fleet.breakers.watch() as slow, fleet.breakers.watch() as other:
        await fleet.permit("job", BreakerKey("sms"))
        await fleet.open()
        final = await fleet.breakers.command(KEY, Command(Action.FORCE_OPEN))
        seen: dict[BreakerKey, Snapshot] = {}
        while KEY not in seen or seen[KEY].rev < final.rev:
            change = await anext(slow)
            assert change.rev > (seen[change.key].rev if change.key in seen else 0)
            seen[change.key] = change
        assert set(seen) == {KEY, BreakerKey("sms")}
        assert (await anext(other)).key in seen


async def test_a_look_at_many_circuits_lets_others_have_their_turn(fleet, monkeypatch):
    """With shorter turns than usual: a look at 250 unchanged ones takes less than one."""
    monkeypatch.setattr("sickbay.concurrency.tasks.TURN_S", 0.00002)
    for number in range(250):
        await fleet.run(DOWN, key=BreakerKey("email", f"tenant-{number:03}"))
    await fleet.breakers.snapshots()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    try:
        seen = await fleet.breakers.snapshots()
    finally:
        beside.cancel()
    assert [one.key.tenant for one in seen] == [f"tenant-{number:03}" for number in range(250)]
    assert turns >= 2


async def test_a_reader_ends_with_its_watch(fleet):
    async with fleet.breakers.watch() as changes:
        waiting = asyncio.ensure_future(anext(changes, None))
        await asyncio.sleep(0)
    assert await waiting is None
    assert [change async for change in changes] == []


async def test_what_does_not_change_a_circuit_is_not_news(fleet):
    await fleet.permit()
    rev = (await fleet.look()).rev
    await fleet.run(SUCCESS, 5)
    await fleet.run(BAD_DATA, 5)
    assert (await fleet.look()).rev == rev


async def test_versions_never_decrease_when_the_clock_steps_back(fleet):
    before = await fleet.open()
    fleet.now -= 3_600_000
    after = await fleet.look()
    assert after.epoch >= before.epoch
    assert after.rev > before.rev
    assert await fleet.breakers.admit(KEY, "job") == Refusal(KEY, BreakerState.OPEN)


@pytest.mark.parametrize("step", [-3_600_000, 3_600_000])
async def test_embedded_circuits_wait_for_as_long_as_before_whatever_the_wall_clock_says(step):
    """A cooldown, a lease and a hold: neither longer nor shorter because somebody set the clock; what is shown is of the clock as it is."""
    wall, steady = ManualClock(), ManualClock(5)
    breakers = EmbeddedBreakers(CONFIG, wall, Random(1), steady=steady)

    def passes(ms):
        wall.now += ms
        steady.now += ms

    await run(breakers, DOWN, 3)
    wall.now += step
    passes(CONFIG.cooldown_ms - 1)
    assert await breakers.admit(KEY, "early") == Refusal(KEY, BreakerState.OPEN)
    passes(1)
    prober = await breakers.admit(KEY, "prober")
    assert prober.kind is PermitKind.PROBE
    wall.now += step
    passes(CONFIG.probe_lease_ms - 1)
    assert isinstance(await breakers.admit(KEY, "second"), Refusal)
    assert await breakers.renew(prober)
    held = await breakers.command(KEY, Command(Action.FORCE_OPEN, 10_000))
    assert held.forced_until == wall.now + 10_000
    wall.now += step
    passes(9_999)
    assert await breakers.admit(KEY, "held") == Refusal(KEY, BreakerState.FORCED_OPEN)
    [seen] = await breakers.snapshots()
    assert (seen.forced_until, seen.now) == (wall.now + 1, wall.now)


async def test_breakers_that_tenants_had_before_an_upgrade_are_deleted(fleet):
    """A hold at once, an open one when nobody has used it for long, and that of the type never."""
    other = BreakerKey("email", "other")
    leftovers = LeftoverBreakers(fleet.breakers, BreakerScope.TYPE)
    await fleet.breakers.command(ACME, Command(Action.FORCE_OPEN, by="ada"))
    await fleet.run(DOWN, 3, key=other)
    await fleet.open()
    await leftovers.retire(await fleet.breakers.snapshots())
    assert await fleet.breakers.keys() == [KEY, other]
    fleet.now += CONFIG.cooldown_ms + UNUSED_MS
    await leftovers.retire(await fleet.breakers.snapshots())
    assert await fleet.breakers.keys() == [KEY]
    assert (await fleet.look()).state is BreakerState.OPEN


async def test_a_dependency_has_a_breaker_beside_those_of_its_job_types(fleet):
    """Under a name that no job type can have."""
    smtp, acme = BreakerKey("dependency:smtp"), BreakerKey("dependency:smtp", "acme")
    await fleet.run(DOWN, 3, key=smtp)
    assert isinstance(await fleet.breakers.admit(smtp, "job"), Refusal)
    assert isinstance(await fleet.breakers.admit(acme, "job"), Permit), "that of a tenant, with BREAKER_SCOPE=tenant"
    assert isinstance(await fleet.breakers.admit(BreakerKey("smtp"), "job"), Permit)
    assert (await fleet.look(smtp)).key.dependency == "smtp"
    await fleet.breakers.command(smtp, Command(Action.RESET))
    assert (await fleet.permit("job", smtp)).key == smtp


async def test_breakers_that_the_settings_file_has_left_behind_are_deleted_later(fleet):
    """Another control plane may not have read the file yet; that of the dependency stays."""
    rule = DependencyRule(BreakerScope.TYPE, lambda: {"email": "smtp"})
    leftovers = LeftoverBreakers(fleet.breakers, rule)
    await fleet.breakers.command(KEY, Command(Action.FORCE_OPEN, by="ada"))
    await fleet.breakers.command(BreakerKey("dependency:smtp"), Command(Action.FORCE_OPEN))
    await leftovers.retire(await fleet.breakers.snapshots())
    assert (await fleet.look()).state is BreakerState.FORCED_OPEN
    fleet.now += UNUSED_MS
    await leftovers.retire(await fleet.breakers.snapshots())
    assert {one.key: one.state for one in await fleet.breakers.snapshots() if one.state is not BreakerState.CLOSED} == {
        BreakerKey("dependency:smtp"): BreakerState.FORCED_OPEN
    }

"""The way from OPEN back to CLOSED: each row of the transition table about probes, ramp and growth as an example."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sickbay.breaker.machine import Effect
from sickbay.domain.breaker import BreakerState, Permit, PermitKind, Refusal
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.breaker_driver import BAD_DATA, BROKEN_OFF, DOWN, KEY, START, Circuit


def test_open_refuses_until_the_cooldown_is_over():
    breaker = Circuit().open()
    breaker.now += 59_999
    assert breaker.admit() == Refusal(KEY, BreakerState.OPEN)
    assert not breaker.look().cooldown_elapsed
    breaker.now += 1
    assert breaker.look().cooldown_elapsed
    permit = breaker.admit("job-x")
    assert permit == Permit(KEY, PermitKind.PROBE, breaker.doc.epoch, "job-x", permit.token, 15_000)
    assert breaker.look().probe_job_id == "job-x"


def test_half_open_refuses_everybody_else():
    breaker = Circuit().open()
    breaker.probe()
    assert [breaker.admit() for _ in range(40)] == [Refusal(KEY, BreakerState.HALF_OPEN)] * 40


def test_a_probe_that_succeeds_closes_and_starts_the_ramp():
    breaker = Circuit().recover()
    seen = breaker.look()
    assert (seen.state, seen.recovering, seen.opened_at, seen.reason_code) == (BreakerState.CLOSED, True, None, "")
    assert breaker.admit().kind is PermitKind.RAMP


def test_without_ramp_a_close_is_a_close():
    breaker = Circuit(ramp=False).recover()
    assert not breaker.look().recovering
    assert {breaker.admit().kind for _ in range(100)} == {PermitKind.NORMAL}


def test_a_probe_that_fails_is_followed_by_another_after_the_same_cooldown():
    breaker = Circuit().open()
    for trips in range(2, 7):
        assert breaker.settle(breaker.probe(), DOWN, jitter=1000) is Effect.REOPENED
        assert (breaker.doc.trips, breaker.doc.cooldown_ms, breaker.doc.probe_at) == (trips, 60_000, breaker.now + 60_000)


def test_a_cooldown_that_may_grow_doubles_with_jitter_up_to_the_cap():
    breaker = Circuit(max_cooldown_ms=900_000).open()
    for expected in (132_000, 264_000, 528_000, 900_000, 900_000):
        permit = breaker.probe()
        assert breaker.settle(permit, DOWN, jitter=1000) is Effect.REOPENED
        assert breaker.doc.cooldown_ms == expected
        assert breaker.doc.probe_at == breaker.now + expected
    assert breaker.doc.trips == 6
    assert (breaker.doc.reason_count, breaker.doc.opened_at) == (10, START)


def test_a_probe_that_fails_otherwise_tells_the_new_reason():
    breaker = Circuit().open()
    breaker.settle(breaker.probe(), Outcome(OutcomeKind.SYSTEMIC, "HTTP_503", "busy"))
    assert (breaker.doc.reason_code, breaker.doc.reason_count, breaker.doc.reason_message) == ("HTTP_503", 1, "busy")


@pytest.mark.parametrize("outcome", [BAD_DATA, BROKEN_OFF])
def test_an_inconclusive_probe_is_repeated_soon_and_after_ten_in_a_row_slowly(outcome):
    breaker = Circuit().open()
    waits = []
    for _ in range(11):
        assert breaker.settle(breaker.probe(), outcome) is Effect.INCONCLUSIVE
        waits.append(breaker.doc.probe_at - breaker.now)
    assert waits == [1_000] * 9 + [60_000] * 2
    assert (breaker.doc.trips, breaker.doc.cooldown_ms, breaker.doc.reason_code) == (1, 60_000, "API_TIMEOUT")


def test_a_lost_prober_is_replaced_at_once_and_its_verdict_is_stale():
    breaker = Circuit().open()
    lost = breaker.probe()
    breaker.now += 14_999
    assert isinstance(breaker.admit(), Refusal)
    breaker.now += 1
    heir = breaker.admit()
    assert heir.kind is PermitKind.PROBE
    before = breaker.doc
    assert breaker.settle(lost, SUCCESS) is Effect.STALE
    assert breaker.settle(lost, DOWN) is Effect.STALE
    assert breaker.doc is before
    assert breaker.settle(heir, SUCCESS) is Effect.CLOSED


def test_a_verdict_after_the_lease_is_stale_even_if_nobody_noticed():
    breaker = Circuit().open()
    lost = breaker.probe()
    breaker.now += 15_000
    assert breaker.settle(lost, SUCCESS) is Effect.STALE
    assert breaker.look().state is BreakerState.OPEN


def test_the_third_lost_prober_in_a_row_counts_as_a_failed_probe():
    breaker = Circuit(max_cooldown_ms=900_000).open()
    for _ in range(2):
        breaker.probe()
        breaker.now += 15_000
        assert breaker.look().cooldown_elapsed
    breaker.probe()
    breaker.now += 15_000
    lost_at = breaker.now
    breaker.now += 7
    assert breaker.look().probe_at == lost_at + 120_000
    assert (breaker.doc.trips, breaker.doc.expiries, breaker.doc.reason_code) == (2, 0, "API_TIMEOUT")


def test_a_probe_may_run_for_as_long_as_its_timeout():
    """Longer than the 120 s that hold for all: the success of a run of 300 s closes it, although others have probed meanwhile."""
    breaker = Circuit().open()
    probe = breaker.probe(longest_ms=300_000)
    for _ in range(30):
        breaker.now += 10_000
        assert breaker.renew(probe)
    assert breaker.doc.state is BreakerState.OPEN
    assert breaker.settle(probe, SUCCESS) is Effect.CLOSED


def test_renewal_keeps_a_probe_alive_up_to_its_longest_time():
    breaker = Circuit().open()
    permit = breaker.probe(usual_ms=60_000)
    since = breaker.now
    for _ in range(23):
        breaker.now += 5_000
        assert breaker.renew(permit)
    assert breaker.doc.probe_until == since + 120_000
    breaker.now = since + 119_999
    assert breaker.renew(permit)
    breaker.now = since + 120_000
    assert not breaker.renew(permit)
    assert breaker.doc.state is BreakerState.OPEN


def test_only_the_live_token_of_the_live_epoch_counts():
    breaker = Circuit().open()
    permit = breaker.probe()
    before = breaker.doc
    for forged in (replace(permit, token="guessed"), replace(permit, token=""), replace(permit, epoch=permit.epoch - 1)):
        assert breaker.settle(forged, SUCCESS) is Effect.STALE
        assert breaker.settle(forged, DOWN) is Effect.STALE
        assert not breaker.renew(forged)
    assert breaker.doc is before


def test_a_second_verdict_is_stale():
    breaker = Circuit().open()
    permit = breaker.probe()
    assert breaker.settle(permit, DOWN) is Effect.REOPENED
    before = breaker.doc
    assert breaker.settle(permit, SUCCESS) is Effect.STALE
    assert breaker.doc is before


def test_runs_admitted_before_the_trip_are_stale_after_it():
    breaker = Circuit()
    early = [breaker.admit() for _ in range(10)]
    for permit in early[:5]:
        breaker.settle(permit, DOWN)
    before = breaker.doc
    assert [breaker.settle(permit, outcome) for permit, outcome in zip(early[5:7], (DOWN, SUCCESS), strict=True)] == [Effect.STALE] * 2
    assert breaker.settle(replace(early[7], epoch=breaker.doc.epoch), SUCCESS) is Effect.STALE
    assert breaker.doc is before


def test_permits_of_before_a_cut_are_stale():
    """Their outcomes say nothing about the new rate, and neither do they open the breaker."""
    breaker = Circuit().recover()
    breaker.now += 200
    early = [breaker.admit() for _ in range(2)]
    for _ in range(2):
        breaker.now += 100
        breaker.run(DOWN)
    assert breaker.look().rate < 10
    assert [breaker.settle(permit, DOWN) for permit in early] == [Effect.STALE] * 2
    assert breaker.look().recovering


def test_refusals_at_one_moment_do_not_open_a_recovering_breaker_again():
    """A dependency that gets too much refuses several at once, and serves the next."""
    breaker = Circuit().recover()
    for outcome, lasts_ms in ((SUCCESS, 3_000), (DOWN, 100), (SUCCESS, 2_000)):
        for _ in range(lasts_ms // 10):
            breaker.now += 10
            if isinstance(permit := breaker.admit(), Permit):
                breaker.settle(permit, outcome)
    breaker.now += 100
    permits = [breaker.admit() for _ in range(5)]
    assert [breaker.settle(permit, DOWN) for permit in permits] == [Effect.COUNTED] * 5
    breaker.now += 100
    assert breaker.run(SUCCESS) is Effect.RESET
    assert breaker.look().recovering


def test_failures_in_a_row_open_a_recovering_breaker_again():
    """When they have lasted for half a second; a bunch of refusals at one moment only lowers the rate."""
    breaker = Circuit().recover()
    for _ in range(5):
        breaker.now += 1_000
        effect = breaker.run(DOWN)
    assert effect is Effect.TRIPPED
    assert (breaker.doc.trips, breaker.doc.cooldown_ms, breaker.look().recovering) == (2, 60_000, False)


def test_a_ramp_that_sees_no_verdict_ends_by_time():
    breaker = Circuit().recover()
    breaker.now += 120_000
    assert not breaker.look().recovering


@pytest.mark.parametrize(("closed_ms", "cooldown"), [(119_999, 120_000), (120_000, 60_000)])
def test_growth_is_forgotten_after_two_cooldowns_closed(closed_ms, cooldown):
    breaker = Circuit(ramp=False, max_cooldown_ms=900_000).recover()
    breaker.now += closed_ms
    breaker.open()
    assert breaker.doc.cooldown_ms == cooldown

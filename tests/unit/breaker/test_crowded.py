"""Slow runs and the ramp, one step at a time; on simulated dependencies in `test_ramp.py`."""

from __future__ import annotations

from dataclasses import replace

from sickbay.breaker import machine
from sickbay.breaker import ramp as ramps
from sickbay.breaker.ramp_judging import LEAST_RATE
from sickbay.domain.breaker import Action
from sickbay.domain.outcome import SUCCESS
from tests.support.breaker_driver import START, Circuit

DOUBLING = replace(ramps.begin(START), rate=100_000, scarce_at=START, since=START)
"""A hundred runs per second."""


def settle(ramp, *words, now=START + 600):
    for word in words:
        ramp = ramps.fail(ramp, now) if word == "bad" else ramps.succeed(ramp, now, slow=word == "slow")
    return ramp


def test_slow_runs_that_are_most_of_them_end_the_doubling():
    """They may be the first outcomes: ten are enough. It drains, and will return to what was served."""
    before = settle(DOUBLING, *["slow"] * 9, now=START + 400)
    assert (before.rate, before.slow) == (100_000, 9)
    after = settle(before, "slow", now=START + 400)
    assert (after.target, after.rate, after.cut_at) == (95_000, 66_500, START + 400)
    assert (after.good, after.slow, after.permits) == (0, 0, 0)


def test_what_was_served_is_measured_if_there_was_time_for_it():
    """19 in 0.6 s are 31.7 a second; fewer are taken for half of the rate."""
    after = settle(replace(DOUBLING, rate=50_000), *["fast"] * 9, *["slow"] * 10)
    assert (after.cut_at, after.target) == (START + 600, 31_666 * 95 // 100)
    few = settle(DOUBLING, *["slow"] * 10)
    assert few.target == 50_000 * 95 // 100


def test_half_of_the_runs_are_not_most_of_them():
    ramp = settle(DOUBLING, *["fast", "slow"] * 10)
    assert ramp.cut_at == 0
    assert ramp.rate > DOUBLING.rate


def test_a_slow_run_is_no_reason_to_grow():
    assert settle(DOUBLING, "slow").rate == DOUBLING.rate
    assert settle(DOUBLING, "fast").rate > DOUBLING.rate


def test_near_the_limit_it_goes_a_little_below_it_and_returns():
    near = replace(DOUBLING, target=90_000, cut_at=START - 1_000)
    after = settle(near, *["slow"] * 20)
    assert (after.target, after.rate) == (97_000, 67_900)
    grown = settle(after, *["fast"] * 19, now=START + 900)
    assert grown.rate > after.rate + 3_000, "it doubles on its way back"


def test_while_it_drains_it_keeps_half_of_what_it_returns_to():
    ramp = replace(DOUBLING, rate=60_000, target=90_000, cut_at=START - 1_000)
    for number in range(6):
        ramp = settle(replace(ramp, since=START), *["slow"] * 20, now=START + 600 + number)
        assert ramp.rate >= ramp.target // 2
    assert ramp.rate < 40_000
    assert 70_000 < ramp.target < 80_000


def test_refusals_while_it_drains_take_half_at_most():
    """They come at once, and what succeeds has to queue first: so the share of failures says too much."""
    ramp = settle(replace(DOUBLING, rate=60_000, target=90_000, cut_at=START - 1_000), *["bad"] * 20)
    assert (ramp.rate, ramp.target) == (30_000, 45_000)
    undrained = settle(replace(DOUBLING, rate=90_000, target=90_000, cut_at=START - 1_000), *["bad"] * 20)
    assert undrained.rate == undrained.target < 10_000


def test_it_never_falls_below_the_least_rate():
    ramp = replace(DOUBLING, rate=1_000, target=1_000, cut_at=START - 1_000)
    after = settle(ramp, *["slow"] * 20)
    assert after.rate == after.target == LEAST_RATE


def test_runs_from_before_the_cut_do_not_count_for_what_comes_after():
    breaker = Circuit()
    breaker.command(Action.FORCE_OPEN)
    breaker.command(Action.RESET)
    breaker.doc = replace(breaker.doc, ramp=replace(DOUBLING, rate=200_000, permits=20_000))
    permits = [breaker.admit() for _ in range(12)]
    for permit in permits[:9]:
        breaker.settle(permit, SUCCESS, took_ms=900, usual_ms=100)
    epoch = breaker.doc.epoch
    breaker.now += 1
    breaker.settle(permits[9], SUCCESS, took_ms=900, usual_ms=100)
    assert breaker.doc.epoch > epoch
    assert breaker.settle(permits[10], SUCCESS, took_ms=900, usual_ms=100) is machine.Effect.STALE


def test_what_is_not_known_is_no_sign():
    breaker = Circuit().recover()
    for _ in range(15):
        breaker.now += 200
        breaker.settle(breaker.admit(), SUCCESS, took_ms=60_000)
    assert breaker.doc.ramp.slow == 0


def test_how_many_were_slow_is_stored_where_a_process_of_before_accepts_it():
    breaker = Circuit().recover()
    breaker.doc = replace(breaker.doc, ramp=replace(breaker.doc.ramp, good=4, slow=3))
    text = machine.to_json(breaker.doc)
    assert '"run":"1 1 0 SLOW 3"' in text
    assert len(text.split('"ramp":"')[1].split('"')[0].split()) == 14
    assert machine.from_json(text) == breaker.doc

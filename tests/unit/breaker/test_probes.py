"""Probes that hang: how long the breaker is patient with one, when another takes its place, and what a late outcome does."""

from __future__ import annotations

import json

import pytest

from sickbay.breaker import machine as breaker_machine
from sickbay.breaker import probes
from sickbay.breaker.machine import Effect
from sickbay.domain.breaker import Action, BreakerState, PermitKind, Refusal
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.breaker_driver import BAD_DATA, BROKEN_OFF, DOWN, Circuit

TIMED_OUT = Outcome(OutcomeKind.SYSTEMIC, "HANDLER_TIMEOUT", "took longer than 30 s")
TIMEOUT_MS = 30_000
USUAL_MS = 300
PATIENCE_MS = 1_200


def hanging(number=1, **config):
    """A breaker of which so many probes hang, and their permits."""
    breaker = Circuit(**config).open()
    permits = [breaker.probe(TIMEOUT_MS, USUAL_MS) for _ in range(number)]
    return breaker, permits


def pass_time(breaker, until, *running):
    """The clock moves on, and these probes renew their leases meanwhile."""
    while breaker.now < until:
        breaker.now = min(until, breaker.now + 5_000)
        for permit in running:
            assert breaker.renew(permit)


def hang_on(breaker, current):
    """This probe hangs until the next takes its place, and is ended then; returns that one."""
    pass_time(breaker, breaker.doc.probe_at, current)
    following = breaker.admit(longest_ms=TIMEOUT_MS, usual_ms=USUAL_MS)
    assert breaker.settle(current, BROKEN_OFF) is Effect.STALE
    return following


@pytest.mark.parametrize(
    ("usual_ms", "longest_ms", "expected"),
    [
        (0, 0, 15_000),
        (0, 30_000, 15_000),
        (0, 5_000, 5_000),
        (1, 30_000, 1_000),
        (250, 30_000, 1_000),
        (251, 30_000, 1_004),
        (2_000, 30_000, 8_000),
        (20_000, 30_000, 30_000),
        (20_000, 0, 80_000),
        (1, 500, 500),
    ],
)
def test_patience_is_four_times_the_usual_at_least_a_second_and_never_longer_than_the_timeout(usual_ms, longest_ms, expected):
    assert probes.patience(usual_ms, longest_ms) == expected


def test_another_probe_is_granted_when_the_patience_is_over_and_not_before():
    breaker, [first] = hanging()
    breaker.now += PATIENCE_MS - 1
    assert breaker.look().probe_at == breaker.now + 1
    assert isinstance(breaker.admit(), Refusal)
    breaker.now += 1
    shown = breaker.look()
    assert (shown.state, shown.cooldown_elapsed, shown.hanging_probes, shown.trips) == (BreakerState.OPEN, True, 1, 1)
    second = breaker.admit()
    assert second.kind is PermitKind.PROBE
    assert isinstance(breaker.admit(), Refusal)
    assert first.token != second.token
    assert breaker.settle(second, SUCCESS) is Effect.CLOSED
    before = breaker.doc
    assert breaker.settle(first, TIMED_OUT) is Effect.STALE
    assert breaker.doc is before


def test_it_does_not_matter_when_it_is_noticed():
    breaker, _ = hanging()
    due = breaker.now + PATIENCE_MS
    breaker.now += 14_000
    assert breaker.look().probe_at == due
    breaker, _ = hanging()
    breaker.now += 20_000  # its lease has expired meanwhile, too
    assert breaker.look().probe_at == due
    assert breaker.doc.superseded == ()


def test_the_patience_doubles_with_each_probe_that_hangs_up_to_the_cooldown():
    breaker, [current] = hanging()
    gaps = []
    for _ in range(8):
        begun = breaker.now
        current = hang_on(breaker, current)
        gaps.append(breaker.now - begun)
    assert gaps == [1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 60_000, 60_000]


def test_it_doubles_up_to_what_a_cooldown_grows_to():
    breaker, [current] = hanging(max_cooldown_ms=100_000)
    for _ in range(7):
        current = hang_on(breaker, current)
    assert breaker.doc.probe_at == breaker.now + 100_000


def test_a_patience_longer_than_the_cooldown_does_not_grow():
    breaker, [current] = hanging(cooldown_ms=1_000)
    for _ in range(3):
        assert breaker.doc.probe_at == breaker.now + PATIENCE_MS
        current = hang_on(breaker, current)


def test_an_inconclusive_probe_is_not_one_that_hangs():
    breaker, [probe] = hanging()
    probe = hang_on(breaker, probe)
    assert breaker.settle(probe, BROKEN_OFF) is Effect.INCONCLUSIVE
    assert (breaker.doc.probe_at, breaker.doc.hung) == (breaker.now + 1_000, 1)


def test_no_more_than_four_run_at_once_and_the_next_waits_until_one_has_ended():
    breaker, permits = hanging(4)
    for _ in range(4):
        breaker.now += 5_000
        assert all(breaker.renew(permit) for permit in permits)
        assert isinstance(breaker.admit(), Refusal)
    assert breaker.look().hanging_probes == 3
    before = breaker.doc
    assert breaker.settle(permits[0], TIMED_OUT) is Effect.STALE
    assert (breaker.doc.trips, breaker.doc.reason_count, breaker.doc.cooldown_ms) == (before.trips, before.reason_count, before.cooldown_ms)
    fifth = breaker.admit(longest_ms=TIMEOUT_MS, usual_ms=USUAL_MS)
    assert fifth.kind is PermitKind.PROBE
    assert breaker.look().hanging_probes == 3


def test_a_superseded_probe_whose_worker_has_died_makes_room_when_its_lease_ends():
    breaker, permits = hanging(4)
    begun = breaker.doc.superseded[0].since
    pass_time(breaker, begun + 14_999, *permits[1:])
    assert isinstance(breaker.admit(), Refusal)
    breaker.now += 1
    assert not breaker.renew(permits[0])
    assert breaker.look().hanging_probes == 2
    assert breaker.settle(permits[0], SUCCESS) is Effect.STALE
    breaker.now = breaker.doc.probe_at
    assert breaker.admit().kind is PermitKind.PROBE


def test_a_superseded_probe_is_renewed_for_as_long_as_its_run_may_take():
    breaker, [first, *_] = hanging(2)
    begun = breaker.doc.superseded[0].since
    pass_time(breaker, begun + 119_000, first)
    assert breaker.doc.superseded[0].until == begun + 120_000
    breaker.now = begun + 120_000
    assert not breaker.renew(first)


@pytest.mark.parametrize("state", [BreakerState.OPEN, BreakerState.HALF_OPEN])
def test_the_late_success_of_a_superseded_probe_closes_it(state):
    breaker, [first] = hanging()
    breaker.now += PATIENCE_MS
    second = breaker.admit() if state is BreakerState.HALF_OPEN else None
    assert breaker.look().state is state
    assert breaker.settle(first, SUCCESS) is Effect.CLOSED
    assert breaker.look().recovering
    if second is not None:
        before = breaker.doc
        assert breaker.settle(second, DOWN) is Effect.STALE
        assert breaker.doc is before


@pytest.mark.parametrize("outcome", [TIMED_OUT, BAD_DATA, BROKEN_OFF, Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED", "wait", 99_000)])
def test_any_other_end_of_it_changes_nothing_else(outcome):
    breaker, [first, second] = hanging(2)
    before = breaker_machine.snapshot(breaker.doc, breaker.config, breaker.now)
    assert breaker.settle(first, outcome) is Effect.STALE
    after = breaker.look()
    assert (after.state, after.trips, after.probe_at, after.epoch) == (before.state, before.trips, before.probe_at, before.epoch)
    assert (before.hanging_probes, after.hanging_probes) == (1, 0)
    assert breaker.settle(first, SUCCESS) is Effect.STALE
    assert breaker.settle(second, SUCCESS) is Effect.CLOSED


def test_the_cooldown_of_a_probe_that_hung_and_then_failed_counts_from_its_begin():
    breaker, [current] = hanging()
    for _ in range(6):  # from now on a probe is renewed after a cooldown, which is longer than the timeout
        current = hang_on(breaker, current)
    begun = breaker.now
    pass_time(breaker, begun + TIMEOUT_MS, current)
    assert breaker.settle(current, TIMED_OUT) is Effect.REOPENED
    assert (breaker.doc.probe_at, breaker.doc.cooldown_ms, breaker.doc.hung) == (begun + 60_000, 60_000, 7)
    again = breaker.probe(TIMEOUT_MS, USUAL_MS)
    breaker.now += PATIENCE_MS - 1
    assert breaker.settle(again, DOWN) is Effect.REOPENED
    assert (breaker.doc.probe_at, breaker.doc.hung) == (breaker.now + 60_000, 0), "one that fails in time has a whole cooldown"


def test_a_wait_that_the_dependency_asks_for_counts_from_the_answer():
    breaker, [current] = hanging(cooldown_ms=20_000)
    for _ in range(5):
        current = hang_on(breaker, current)
    begun = breaker.now
    breaker.now += 10_000
    assert breaker.settle(current, Outcome(OutcomeKind.SYSTEMIC, "HTTP_503", "wait", 18_000)) is Effect.REOPENED
    assert breaker.doc.probe_at == begun + 10_000 + 18_000


def test_a_clock_that_is_set_back_takes_their_leases_with_it():
    breaker, [first, second] = hanging(2)
    remaining = [one.until - breaker.now for one in breaker.doc.superseded]
    ran = [breaker.now - one.since for one in breaker.doc.superseded]
    breaker.now -= 3_600_000
    assert breaker.renew(second)
    assert [one.until - breaker.now for one in breaker.doc.superseded] == remaining
    assert [breaker.now - one.since for one in breaker.doc.superseded] == ran
    assert breaker.settle(first, SUCCESS) is Effect.CLOSED


@pytest.mark.parametrize("action", [Action.FORCE_OPEN, Action.RESET, Action.DISABLE, Action.METRICS_ONLY])
def test_a_command_forgets_superseded_probes(action):
    breaker, [first, _] = hanging(2)
    breaker.command(action)
    assert (breaker.doc.superseded, breaker.doc.hung) == ((), 0)
    state = breaker.doc.state
    assert breaker.settle(first, SUCCESS) is Effect.STALE
    assert breaker.doc.state is state


def test_a_process_of_before_can_read_what_is_remembered_of_them():
    """It reads the field `run` as failures, five words each, and refuses a document with other fields than it knows."""
    breaker, _ = hanging(3)
    flat = json.loads(breaker_machine.to_json(breaker.doc))
    words = flat["run"].split()
    entries = [words[start : start + 5] for start in range(0, len(words), 5)]
    assert [code for _, _, _, code, _ in entries] == ["PATIENCE", "SUPERSEDED", "SUPERSEDED"]
    assert all(int(seq) > 0 and int(at) > 0 and int(number) == 0 for seq, at, number, _, _ in entries)
    assert set(flat) == {
        "v", "jobType", "state", "epoch", "rev", "seq", "trips", "updatedAt", "openedAt", "probeAt", "cooldownMs", "reasonCode",
        "reasonCount", "reasonMessage", "probeToken", "probeWorker", "probeJob", "probeSince", "probeUntil", "run",
    }  # fmt: skip


def test_a_probe_that_a_process_of_before_granted_has_no_patience():
    breaker = Circuit().open()
    probe = breaker.probe(TIMEOUT_MS, USUAL_MS)
    of_before = breaker_machine.to_json(breaker.doc)
    for field in (f'"probeAt":{breaker.doc.probe_at},', f'"run":"1 1 0 PATIENCE 0/{PATIENCE_MS}",'):
        assert field in of_before
        of_before = of_before.replace(field, "")
    breaker.doc = breaker_machine.from_json(of_before)
    breaker.now += 14_999
    assert breaker.look().state is BreakerState.HALF_OPEN
    assert breaker.look().probe_at is None
    assert breaker.settle(probe, TIMED_OUT) is Effect.REOPENED
    assert breaker.doc.probe_at == breaker.now + 60_000

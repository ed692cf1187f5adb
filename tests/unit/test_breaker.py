"""Each row of the breaker's transition table as an example, and the edges of each rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sickbay import breaker
from sickbay.breaker import Ask, Effect
from sickbay.breaker_document import clean, word
from sickbay.circuit import Action, BreakerConfig, CircuitState, Command, Key, Permit, PermitKind, Refusal
from sickbay.outcome import SUCCESS, Kind, Outcome

KEY = Key("email")
START = 1_700_000_000_000
DOWN = Outcome(Kind.SYSTEMIC, "API_TIMEOUT", "no answer")
BAD_DATA = Outcome(Kind.DATA, "VALIDATION_ERROR", "no address")
BROKEN_OFF = Outcome(Kind.CANCELLED)


class Circuit:
    """One circuit and a clock that only moves when told."""

    def __init__(self, **config) -> None:
        self.config = BreakerConfig(**config)
        self.now = START
        self.doc = breaker.new_document(KEY, START)
        self.asked = 0

    def admit(self, job: str | None = None, jitter: int = 0) -> Permit | Refusal:
        self.asked += 1
        ask = Ask(job or f"job-{self.asked}", f"token-{self.asked}", "worker-1", jitter)
        self.doc, answer = breaker.admit(self.doc, ask, self.config, self.now)
        return answer

    def settle(self, permit: Permit, outcome: Outcome, **more) -> Effect:
        self.doc, effect = breaker.settle(self.doc, permit, outcome, self.config, self.now, **more)
        return effect

    def renew(self, permit: Permit) -> bool:
        self.doc, renewed = breaker.renew(self.doc, permit, self.config, self.now)
        return renewed

    def command(self, action: Action, **more) -> None:
        self.doc = breaker.command(self.doc, Command(action, **more), self.config, self.now)

    def look(self):
        self.doc = breaker.catch_up(self.doc, self.config, self.now)
        return breaker.snapshot(self.doc, self.config, self.now)

    def run(self, outcome: Outcome, times: int = 1, job: str | None = None) -> Effect:
        effect = Effect.NOTHING
        for _ in range(times):
            permit = self.admit(job)
            assert isinstance(permit, Permit)
            effect = self.settle(permit, outcome)
        return effect

    def open(self) -> Circuit:
        assert self.run(DOWN, self.config.failure_threshold) is Effect.TRIPPED
        return self

    def probe(self) -> Permit:
        self.now = max(self.now, self.doc.probe_at)
        permit = self.admit()
        assert isinstance(permit, Permit)
        assert permit.kind is PermitKind.PROBE
        return permit

    def recover(self) -> Circuit:
        assert self.settle(self.open().probe(), SUCCESS) is Effect.CLOSED
        return self


def test_the_fifth_failure_opens_for_exactly_the_cooldown():
    circuit = Circuit()
    assert circuit.run(DOWN, 4) is Effect.COUNTED
    assert circuit.look().failures_in_row == 4
    assert circuit.run(replace(DOWN, message="still no answer")) is Effect.TRIPPED
    seen = circuit.look()
    assert (seen.state, seen.opened_at, seen.probe_at, seen.cooldown_ms) == (CircuitState.OPEN, START, START + 60_000, 60_000)
    assert (seen.reason_code, seen.reason_count, seen.reason_message, seen.trips) == ("API_TIMEOUT", 5, "still no answer", 1)


def test_jitter_does_not_touch_the_first_cooldown():
    circuit = Circuit()
    circuit.run(DOWN, 4)
    assert circuit.settle(circuit.admit(), DOWN, jitter=1000) is Effect.TRIPPED
    assert circuit.doc.cooldown_ms == 60_000


def test_a_success_in_between_starts_the_count_again():
    circuit = Circuit()
    circuit.run(DOWN, 4)
    assert circuit.run(SUCCESS) is Effect.RESET
    assert circuit.run(DOWN, 4) is Effect.COUNTED


def test_codes_are_counted_apart_and_do_not_interrupt_each_other():
    circuit = Circuit()
    other = Outcome(Kind.TRANSIENT, "NETWORK_ERROR")
    for _ in range(4):
        assert circuit.run(DOWN) is Effect.COUNTED
        assert circuit.run(other) is Effect.COUNTED
    assert circuit.run(other) is Effect.TRIPPED
    assert circuit.doc.reason_code == "NETWORK_ERROR"


def test_one_poison_job_alone_cannot_open():
    circuit = Circuit()
    assert circuit.run(DOWN, 50, job="poison") is Effect.COUNTED
    assert circuit.look().failures_in_row == 50
    assert circuit.run(DOWN, job="another") is Effect.TRIPPED
    assert circuit.doc.reason_count == 51


def test_a_threshold_of_one_trips_at_the_first_failure():
    assert Circuit(failure_threshold=1).run(DOWN) is Effect.TRIPPED


@pytest.mark.parametrize(("late_ms", "effect"), [(0, Effect.TRIPPED), (1, Effect.COUNTED)])
def test_the_run_lies_within_the_window(late_ms, effect):
    circuit = Circuit()
    circuit.run(DOWN)
    circuit.now += 599_999
    circuit.run(DOWN, 3)
    circuit.now += 1 + late_ms
    assert circuit.run(DOWN) is effect


def test_a_run_older_than_the_window_is_not_shown():
    circuit = Circuit()
    circuit.run(DOWN, 3)
    circuit.now += 600_001
    assert circuit.look().failures_in_row == 0


def test_a_run_must_have_its_age_to_be_trusted():
    circuit = Circuit(trip_confirm_ms=50)
    assert circuit.run(DOWN, 500) is Effect.COUNTED
    circuit.now += 49
    assert circuit.run(DOWN) is Effect.COUNTED
    circuit.now += 1
    assert circuit.run(DOWN) is Effect.TRIPPED
    assert circuit.doc.reason_count == 502


@pytest.mark.parametrize("outcome", [BAD_DATA, BROKEN_OFF])
def test_blameless_outcomes_neither_count_nor_reset(outcome):
    circuit = Circuit()
    circuit.run(DOWN, 4)
    before = circuit.doc
    assert circuit.run(outcome, 20) is Effect.NOTHING
    assert circuit.doc is before
    assert circuit.run(DOWN) is Effect.TRIPPED


def test_the_healthy_path_never_rewrites_the_document():
    circuit = Circuit()
    before = circuit.doc
    circuit.run(SUCCESS, 10)
    assert circuit.doc is before


def test_a_late_success_removes_only_failures_up_to_its_watermark():
    circuit = Circuit()
    circuit.run(DOWN, 2)
    permit = circuit.admit()
    known = circuit.doc.seq
    circuit.run(DOWN, 2)
    assert circuit.settle(permit, SUCCESS, watermark=known) is Effect.RESET
    assert circuit.look().failures_in_row == 2
    again = circuit.doc
    assert circuit.settle(permit, SUCCESS, watermark=known) is Effect.NOTHING
    assert circuit.doc is again


def test_a_late_success_after_a_very_long_run_leaves_enough_to_trip():
    circuit = Circuit(trip_confirm_ms=50)
    permit = circuit.admit()
    circuit.run(DOWN)
    known = circuit.doc.seq
    circuit.run(DOWN, 100)
    circuit.settle(permit, SUCCESS, watermark=known)
    assert circuit.look().failures_in_row >= 5
    circuit.now += 50
    assert circuit.run(DOWN) is Effect.TRIPPED


def test_retry_after_is_the_least_cooldown_up_to_the_cap():
    circuit = Circuit()
    circuit.run(Outcome(Kind.TRANSIENT, "RATE_LIMITED"), 4)
    circuit.run(Outcome(Kind.TRANSIENT, "RATE_LIMITED", retry_after_ms=300_000))
    assert circuit.doc.cooldown_ms == 300_000
    circuit.settle(circuit.probe(), Outcome(Kind.TRANSIENT, "RATE_LIMITED", retry_after_ms=86_400_000))
    assert circuit.doc.cooldown_ms == 900_000


def test_beyond_64_codes_the_rest_is_other():
    circuit = Circuit()
    for number in range(64):
        circuit.run(Outcome(Kind.UNKNOWN, f"CODE_{number}"))
    for number in range(64, 68):
        assert circuit.run(Outcome(Kind.UNKNOWN, f"CODE_{number}")) is Effect.COUNTED
    assert circuit.look().failures_in_row_code == "OTHER"
    assert circuit.run(Outcome(Kind.UNKNOWN, "CODE_0")) is Effect.COUNTED
    assert circuit.run(Outcome(Kind.UNKNOWN, "not a code")) is Effect.TRIPPED
    assert circuit.doc.reason_code == "OTHER"


def test_open_refuses_with_the_wait_until_the_cooldown_is_over():
    circuit = Circuit().open()
    circuit.now += 59_999
    assert circuit.admit() == Refusal(KEY, CircuitState.OPEN, 1)
    assert not circuit.look().cooldown_elapsed
    circuit.now += 1
    assert circuit.look().cooldown_elapsed
    permit = circuit.admit("job-x")
    assert permit == Permit(KEY, PermitKind.PROBE, circuit.doc.epoch, "job-x", permit.token, 15_000)
    assert circuit.look().probe_job_id == "job-x"


def test_half_open_refuses_everybody_else():
    circuit = Circuit().open()
    circuit.probe()
    assert [circuit.admit() for _ in range(40)] == [Refusal(KEY, CircuitState.HALF_OPEN, 15_000)] * 40


def test_a_probe_that_succeeds_closes_and_starts_the_ramp():
    circuit = Circuit().recover()
    seen = circuit.look()
    assert (seen.state, seen.recovering, seen.opened_at, seen.reason_code) == (CircuitState.CLOSED, True, None, "")
    assert circuit.admit().kind is PermitKind.RAMP


def test_without_ramp_a_close_is_a_close():
    circuit = Circuit(ramp=False).recover()
    assert not circuit.look().recovering
    assert {circuit.admit().kind for _ in range(100)} == {PermitKind.NORMAL}


def test_a_probe_that_fails_doubles_the_cooldown_with_jitter_up_to_the_cap():
    circuit = Circuit().open()
    for expected in (132_000, 290_400, 638_880, 900_000, 900_000):
        permit = circuit.probe()
        assert circuit.settle(permit, DOWN, jitter=1000) is Effect.REOPENED
        assert circuit.doc.cooldown_ms == expected
        assert circuit.doc.probe_at == circuit.now + expected
    assert circuit.doc.trips == 6
    assert (circuit.doc.reason_count, circuit.doc.opened_at) == (10, START)


def test_a_probe_that_fails_otherwise_tells_the_new_reason():
    circuit = Circuit().open()
    circuit.settle(circuit.probe(), Outcome(Kind.SYSTEMIC, "HTTP_503", "busy"))
    assert (circuit.doc.reason_code, circuit.doc.reason_count, circuit.doc.reason_message) == ("HTTP_503", 1, "busy")


@pytest.mark.parametrize("outcome", [BAD_DATA, BROKEN_OFF])
def test_an_inconclusive_probe_is_repeated_soon_and_after_ten_in_a_row_slowly(outcome):
    circuit = Circuit().open()
    waits = []
    for _ in range(11):
        assert circuit.settle(circuit.probe(), outcome) is Effect.INCONCLUSIVE
        waits.append(circuit.doc.probe_at - circuit.now)
    assert waits == [1_000] * 9 + [60_000] * 2
    assert (circuit.doc.trips, circuit.doc.cooldown_ms, circuit.doc.reason_code) == (1, 60_000, "API_TIMEOUT")


def test_a_lost_prober_is_replaced_at_once_and_its_verdict_is_stale():
    circuit = Circuit().open()
    lost = circuit.probe()
    circuit.now += 14_999
    assert isinstance(circuit.admit(), Refusal)
    circuit.now += 1
    heir = circuit.admit()
    assert heir.kind is PermitKind.PROBE
    before = circuit.doc
    assert circuit.settle(lost, SUCCESS) is Effect.STALE
    assert circuit.settle(lost, DOWN) is Effect.STALE
    assert circuit.doc is before
    assert circuit.settle(heir, SUCCESS) is Effect.CLOSED


def test_a_verdict_after_the_lease_is_stale_even_if_nobody_noticed():
    circuit = Circuit().open()
    lost = circuit.probe()
    circuit.now += 15_000
    assert circuit.settle(lost, SUCCESS) is Effect.STALE
    assert circuit.look().state is CircuitState.OPEN


def test_the_third_lost_prober_in_a_row_counts_as_a_failed_probe():
    circuit = Circuit().open()
    for _ in range(2):
        circuit.probe()
        circuit.now += 15_000
        assert circuit.look().cooldown_elapsed
    circuit.probe()
    circuit.now += 15_000
    lost_at = circuit.now
    circuit.now += 7
    assert circuit.look().probe_at == lost_at + 120_000
    assert (circuit.doc.trips, circuit.doc.expiries, circuit.doc.reason_code) == (2, 0, "API_TIMEOUT")


def test_renewal_keeps_a_probe_alive_up_to_its_longest_time():
    circuit = Circuit().open()
    permit = circuit.probe()
    since = circuit.now
    for _ in range(23):
        circuit.now += 5_000
        assert circuit.renew(permit)
    assert circuit.doc.probe_until == since + 120_000
    circuit.now = since + 119_999
    assert circuit.renew(permit)
    circuit.now = since + 120_000
    assert not circuit.renew(permit)
    assert circuit.doc.state is CircuitState.OPEN


def test_only_the_live_token_of_the_live_epoch_counts():
    circuit = Circuit().open()
    permit = circuit.probe()
    before = circuit.doc
    for forged in (replace(permit, token="guessed"), replace(permit, token=""), replace(permit, epoch=permit.epoch - 1)):
        assert circuit.settle(forged, SUCCESS) is Effect.STALE
        assert circuit.settle(forged, DOWN) is Effect.STALE
        assert not circuit.renew(forged)
    assert circuit.doc is before


def test_a_second_verdict_is_stale():
    circuit = Circuit().open()
    permit = circuit.probe()
    assert circuit.settle(permit, DOWN) is Effect.REOPENED
    before = circuit.doc
    assert circuit.settle(permit, SUCCESS) is Effect.STALE
    assert circuit.doc is before


def test_runs_admitted_before_the_trip_are_stale_after_it():
    circuit = Circuit()
    early = [circuit.admit() for _ in range(10)]
    for permit in early[:5]:
        circuit.settle(permit, DOWN)
    before = circuit.doc
    assert [circuit.settle(permit, outcome) for permit, outcome in zip(early[5:7], (DOWN, SUCCESS), strict=True)] == [Effect.STALE] * 2
    assert circuit.settle(replace(early[7], epoch=circuit.doc.epoch), SUCCESS) is Effect.STALE
    assert circuit.doc is before


def test_the_ramp_gives_its_credits_and_then_one_permit_a_second():
    circuit = Circuit().recover()
    assert [type(circuit.admit()) for _ in range(3)] == [Permit, Permit, Refusal]
    assert circuit.admit() == Refusal(KEY, CircuitState.CLOSED, 1_000)
    circuit.now += 1_000
    permit = circuit.admit()
    assert permit.kind is PermitKind.RAMP
    assert isinstance(circuit.admit(), Refusal)
    circuit.settle(permit, SUCCESS)
    assert [type(circuit.admit()) for _ in range(3)] == [Permit, Permit, Refusal]


def test_eight_successes_end_the_ramp():
    circuit = Circuit().recover()
    circuit.run(SUCCESS, 7)
    assert circuit.look().recovering
    circuit.run(SUCCESS)
    assert not circuit.look().recovering
    assert circuit.admit().kind is PermitKind.NORMAL


def test_three_failures_in_a_row_end_the_ramp_with_a_longer_cooldown():
    circuit = Circuit().recover()
    circuit.now += 1_000
    assert circuit.run(DOWN, 2) is Effect.COUNTED
    circuit.now += 1_000
    assert circuit.run(SUCCESS) is Effect.RESET
    assert circuit.run(DOWN, 2) is Effect.COUNTED
    circuit.now += 1_000
    assert circuit.run(DOWN) is Effect.TRIPPED
    assert (circuit.doc.trips, circuit.doc.cooldown_ms, circuit.look().recovering) == (2, 120_000, False)


def test_a_ramp_that_sees_no_verdict_ends_by_time():
    circuit = Circuit().recover()
    circuit.now += 120_000
    assert not circuit.look().recovering


@pytest.mark.parametrize(("closed_ms", "cooldown"), [(119_999, 120_000), (120_000, 60_000)])
def test_growth_is_forgotten_after_two_cooldowns_closed(closed_ms, cooldown):
    circuit = Circuit(ramp=False).recover()
    circuit.now += closed_ms
    circuit.open()
    assert circuit.doc.cooldown_ms == cooldown


@pytest.mark.parametrize("state", ["closed", "open", "half-open", "forced", "disabled"])
def test_reset_closes_whatever_there_was(state):
    circuit = Circuit()
    stale = circuit.admit()
    if state in {"open", "half-open"}:
        circuit.open()
        stale = circuit.probe() if state == "half-open" else stale
    elif state != "closed":
        circuit.command(Action.FORCE_OPEN if state == "forced" else Action.DISABLE)
    epoch = circuit.doc.epoch
    circuit.command(Action.RESET)
    assert (circuit.doc.state, circuit.doc.trips, circuit.doc.cooldown_ms) == (CircuitState.CLOSED, 0, 0)
    assert circuit.doc.epoch > epoch
    assert circuit.settle(stale, DOWN) is Effect.STALE
    assert circuit.admit().kind is PermitKind.NORMAL


def test_a_forced_hold_ends_in_a_probe():
    circuit = Circuit()
    circuit.command(Action.FORCE_OPEN, duration_ms=10_000, by="ada", why="maintenance")
    assert circuit.admit() == Refusal(KEY, CircuitState.FORCED_OPEN, 10_000)
    seen = circuit.look()
    assert (seen.forced_until, seen.forced_by, seen.forced_why, seen.opened_at) == (START + 10_000, "ada", "maintenance", START)
    circuit.now += 10_000
    assert circuit.look().cooldown_elapsed
    permit = circuit.probe()
    assert circuit.settle(permit, DOWN) is Effect.REOPENED
    assert circuit.doc.cooldown_ms == 60_000


def test_a_hold_without_end_lasts_until_auto_which_asks_for_a_probe():
    circuit = Circuit()
    circuit.command(Action.FORCE_OPEN)
    circuit.now += 10**12
    assert circuit.admit() == Refusal(KEY, CircuitState.FORCED_OPEN, None)
    circuit.command(Action.AUTO)
    assert circuit.look().cooldown_elapsed
    assert circuit.admit().kind is PermitKind.PROBE


def test_auto_leaves_an_automatic_circuit_alone():
    circuit = Circuit().open()
    before = circuit.doc
    circuit.command(Action.AUTO)
    assert circuit.doc is before


def test_a_disabled_circuit_admits_everything_and_counts_nothing():
    circuit = Circuit().open()
    circuit.command(Action.DISABLE, by="ada")
    before = circuit.doc
    circuit.run(DOWN, 20)
    assert circuit.doc is before
    circuit.command(Action.AUTO)
    assert circuit.look().state is CircuitState.CLOSED


def test_metrics_only_admits_everything_and_tells_how_often_it_would_have_opened():
    circuit = Circuit()
    circuit.command(Action.METRICS_ONLY)
    assert circuit.run(DOWN, 5) is Effect.WOULD_TRIP
    assert circuit.run(DOWN, 50) is Effect.NOTHING
    circuit.now += 60_000
    assert circuit.run(DOWN, 4) is Effect.COUNTED
    assert circuit.run(SUCCESS) is Effect.RESET
    assert circuit.run(DOWN, 5) is Effect.WOULD_TRIP
    seen = circuit.look()
    assert (seen.state, seen.would_have_tripped, seen.probe_at) == (CircuitState.METRICS_ONLY, 2, None)


def test_a_clock_that_steps_back_prolongs_no_wait():
    circuit = Circuit().open()
    circuit.now -= 3_600_000
    assert circuit.admit() == Refusal(KEY, CircuitState.OPEN, 60_000)
    epoch, rev = circuit.doc.epoch, circuit.doc.rev
    circuit.now += 60_000
    circuit.probe()
    assert circuit.doc.epoch > epoch
    assert circuit.doc.rev > rev


def test_a_clock_that_was_a_year_ahead_sticks_nothing():
    circuit = Circuit().recover()
    circuit.now += 365 * 86_400_000
    circuit.open()
    circuit.now = START
    circuit.command(Action.FORCE_OPEN, duration_ms=5_000)
    circuit.now += 5_000
    assert circuit.probe().kind is PermitKind.PROBE


def test_the_document_is_flat_sorted_json_without_empty_fields():
    circuit = Circuit()
    circuit.run(DOWN, job="job 1/ä")
    at = START
    assert breaker.to_json(circuit.doc) == (
        f'{{"epoch":{at},"jobType":"email","rev":{at + 1},"run":"1 {at} 1 API_TIMEOUT job_1/_","seq":1,"state":"CLOSED","trips":0,'
        f'"updatedAt":{at},"v":1}}'
    )


def test_every_state_survives_its_json():
    for circuit in (Circuit(), Circuit().open(), Circuit().recover()):
        assert breaker.from_json(breaker.to_json(circuit.doc)) == circuit.doc
    circuit = Circuit().open()
    circuit.probe()
    assert breaker.from_json(breaker.to_json(circuit.doc).encode()) == circuit.doc
    tenant = breaker.new_document(Key("email", "acme"), START)
    assert breaker.from_json(breaker.to_json(tenant)) == tenant


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '"x"', "{}", '{"v":2}', '{"v":1,"jobType":"a","state":"ODD"}', '{"v":1,"jobType":"a","state":"OPEN","epoch":"1"}'],
)
def test_what_is_no_document_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        breaker.from_json(text)


def test_a_document_with_an_odd_run_or_field_is_a_value_error():
    good = breaker.to_json(Circuit().doc)
    for more in ('"run":"1 2 3"', '"run":5', '"ramp":"1"', '"unheard":1', '"openedAt":"soon"'):
        with pytest.raises(ValueError, match=r"."):
            breaker.from_json(f"{good[:-1]},{more}}}")


def test_texts_are_cut_and_cleaned():
    assert clean("a\x00b\x7f\ud800c") == "a b  c"
    assert len(clean("x" * 1000)) == 500
    assert word("ä b") == "__b"
    assert word("") == "-"
    assert len(word("x" * 1000)) == 64

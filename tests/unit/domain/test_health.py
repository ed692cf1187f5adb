"""Health through time, with a moved clock: the grace, the way back, flapping, and who may say what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.backend_status import BackendStatus
from sickbay.domain.health import FAILURE_TTL_S, LONGEST_STEP_S, Check, Finding, Health, Mark, Status, Streak, checks_of

GRACE = 10.0


class Patient:
    """A service whose parts are well or ill as they are told; `passes` looks once a second."""

    def __init__(self, *names: str, needed: tuple[str, ...] = (), grace_s: float = GRACE) -> None:
        self.ills = dict.fromkeys(names, "")
        self.time = 1_000.0
        vitals = BackendStatus(troubles={name: lambda name=name: self.ills[name] for name in names})
        self.health = Health(checks_of(vitals, *needed), grace_s=grace_s, now=lambda: self.time)

    def begin(self) -> Patient:
        self.look()
        self.health.begin()
        self.look()
        return self

    def look(self) -> None:
        self.health.look(round(self.time * 1000))

    def passes(self, seconds: int) -> Patient:
        for _ in range(seconds):
            self.time += 1
            self.look()
        return self

    def fails(self, name: str, why: str = "gone") -> Patient:
        self.ills[name] = why
        self.look()
        return self

    def heals(self, name: str) -> Patient:
        self.ills[name] = ""
        self.look()
        return self

    @property
    def status(self) -> Status:
        return self.health.state.status

    def mark(self, name: str) -> Mark:
        return next(finding.mark for finding in self.health.state.findings if finding.name == name)


def test_a_blink_is_told_and_changes_nothing():
    patient = Patient("broker", needed=("broker",)).begin().fails("broker").passes(9)
    assert (patient.status, patient.mark("broker")) == (Status.OK, Mark.FAILING)
    patient.heals("broker")
    assert (patient.status, patient.mark("broker")) == (Status.OK, Mark.UP)


def test_longer_than_the_grace_is_down_since_its_begin_and_says_why():
    patient = Patient("broker", "ledger", needed=("broker",)).begin()
    since = round(patient.time * 1000)
    patient.fails("broker", "RabbitMQ is unavailable").passes(10)
    assert patient.health.state.findings[0] == Finding("broker", Mark.DOWN, True, since, "RabbitMQ is unavailable")
    assert (patient.status, patient.health.state.serving, patient.health.state.ready) == (Status.ERROR, False, True)
    assert patient.mark("ledger") is Mark.UP


def test_without_what_is_not_needed_the_work_goes_on_degraded():
    patient = Patient("broker", "ledger", needed=("broker",)).begin().fails("ledger").passes(10)
    assert (patient.status, patient.health.state.serving) == (Status.DEGRADED, True)


def test_it_is_well_again_only_after_half_the_grace():
    patient = Patient("broker", needed=("broker",)).begin().fails("broker").passes(10)
    patient.heals("broker").passes(4)
    assert (patient.status, patient.mark("broker")) == (Status.ERROR, Mark.DOWN)
    patient.passes(1)
    assert (patient.status, patient.mark("broker")) == (Status.OK, Mark.UP)


def test_who_comes_back_for_moments_only_stays_down():
    patient = Patient("broker", needed=("broker",)).begin().fails("broker").passes(10)
    for _ in range(50):
        patient.heals("broker").passes(3)
        patient.fails("broker").passes(1)
        assert patient.status is Status.ERROR


def test_who_fails_most_of_the_time_is_down_although_never_for_long():
    patient = Patient("broker", needed=("broker",)).begin()
    for _ in range(5):
        patient.fails("broker").passes(4)
        patient.heals("broker").passes(2)
    assert patient.status is Status.ERROR


def test_rare_blinks_do_not_add_up():
    patient = Patient("broker", needed=("broker",)).begin()
    for _ in range(50):
        patient.fails("broker").passes(3)
        patient.heals("broker").passes(8)
        assert patient.status is Status.OK


def test_the_reason_is_the_latest():
    patient = Patient("broker").begin().fails("broker", "does not answer").passes(10).fails("broker", "refuses us")
    assert patient.health.state.findings[0].reason == "refuses us"


def test_before_the_begin_there_is_no_grace_and_no_readiness():
    patient = Patient("broker", needed=("broker",))
    patient.fails("broker")
    assert (patient.status, patient.health.state.ready, patient.mark("broker")) == (Status.ERROR, False, Mark.DOWN)
    patient.heals("broker").passes(1)
    assert (patient.status, patient.mark("broker")) == (Status.ERROR, Mark.UP)
    patient.health.begin()
    assert (patient.status, patient.health.state.ready) == (Status.OK, True)


def test_what_was_missing_at_the_begin_is_told_at_once():
    patient = Patient("breakers")
    patient.fails("breakers")
    patient.begin()
    assert patient.status is Status.DEGRADED


def test_a_service_that_ends_is_neither_ready_nor_serving_for_good():
    patient = Patient("broker").begin()
    patient.health.end()
    assert (patient.status, patient.health.state.ready) == (Status.ERROR, False)
    patient.health.begin()
    assert not patient.health.state.ready


def test_time_in_which_the_process_stood_still_speaks_against_nobody():
    patient = Patient("broker", needed=("broker",)).begin().fails("broker")
    patient.time += 3_600
    patient.look()
    assert (patient.status, patient.mark("broker")) == (Status.OK, Mark.FAILING)
    assert LONGEST_STEP_S < GRACE


def test_without_a_grace_health_is_what_was_seen_last():
    patient = Patient("broker", needed=("broker",), grace_s=0).begin()
    assert patient.fails("broker").status is Status.ERROR
    assert patient.heals("broker").status is Status.OK


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20)), max_size=30))
def test_laws_of_the_grace(story: list[tuple[bool, int]]):
    """A full grace of trouble is down, half a grace of health always up, and who was ill for less than a grace in all is not down."""
    patient = Patient("broker", needed=("broker",)).begin()
    ill_s = 0
    for is_ill, seconds in story:
        (patient.fails if is_ill else patient.heals)("broker")
        patient.passes(seconds)
        ill_s += seconds if is_ill else 0
        if is_ill and seconds >= GRACE:
            assert patient.status is Status.ERROR
        if not is_ill and seconds >= GRACE / 2:
            assert (patient.status, patient.mark("broker")) == (Status.OK, Mark.UP)
        if ill_s < GRACE:
            assert patient.status is Status.OK


def test_one_failed_call_is_no_trouble_a_second_is_and_a_good_one_ends_it():
    streak = Streak(lambda: 5.0)
    streak.fail("full")
    assert not streak.trouble
    streak.fail("full")
    assert streak.trouble == "full"
    streak.succeed()
    assert not streak.trouble


def test_what_failed_long_ago_and_was_not_tried_again_is_forgotten():
    time = [0.0]
    streak = Streak(lambda: time[0])
    streak.fail("full")
    streak.fail("full")
    time[0] = FAILURE_TTL_S - 1
    assert streak.trouble
    time[0] = FAILURE_TTL_S
    assert not streak.trouble


@pytest.mark.parametrize("needed", [True, False])
def test_a_check_may_be_anything_that_answers_from_memory(needed: bool):
    health = Health([Check("keeper", lambda: "stuck", needed)], grace_s=0)
    health.begin()
    health.look(7)
    assert health.state.findings == [Finding("keeper", Mark.DOWN, needed, 7, "stuck")]

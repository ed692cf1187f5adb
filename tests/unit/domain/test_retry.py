"""The routing table, row by row."""

import pytest

from sickbay.domain.breaker import BreakerState
from sickbay.domain.job import Job, JobState, Reason
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from sickbay.domain.retry import Done, GiveBack, Retry, RetryPolicy, SetAside, after_run

POLICY = RetryPolicy(max_retries=3, delay_ms=5_000, retries_by_code={"NEVER": 0})
CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN
FAILING = [OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.UNKNOWN, OutcomeKind.DATA]


def job(attempt=0):
    return Job("id", "email", attempt=attempt, generation=2)


@pytest.mark.parametrize("breaker", list(BreakerState))
def test_success_is_done_whatever_the_circuit_says(breaker):
    assert after_run(job(), SUCCESS, breaker, POLICY, 7) == Done()


@pytest.mark.parametrize("breaker", list(BreakerState))
def test_a_broken_off_run_goes_back_uncharged(breaker):
    assert after_run(job(), Outcome(OutcomeKind.CANCELLED), breaker, POLICY, 7) == GiveBack()


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.parametrize("attempt", [0, 1, 2])
def test_a_failure_before_the_last_attempt_is_retried_and_charged(kind, attempt):
    route = after_run(job(attempt), Outcome(kind, "CODE", "why"), CLOSED, POLICY, 7)
    assert isinstance(route, Retry)
    assert (route.job.attempt, route.delay_ms) == (attempt + 1, 5_000)
    last = route.job.failures[-1]
    assert (last.at, last.generation, last.attempt, last.code, last.message) == (7, 2, attempt, "CODE", "why")
    assert last.retry_ms == 5_000


@pytest.mark.parametrize("kind", FAILING)
def test_the_last_failure_quarantines(kind):
    route = after_run(job(3), Outcome(kind, "CODE"), CLOSED, POLICY, 7)
    assert isinstance(route, SetAside)
    assert (route.reason, route.state, route.job.attempt) == (Reason.RETRIES_EXHAUSTED, JobState.QUARANTINED, 3)


@pytest.mark.parametrize("kind", [OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.UNKNOWN])
@pytest.mark.parametrize("breaker", [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.FORCED_OPEN])
@pytest.mark.parametrize("attempt", [0, 3, 9])
def test_a_failure_on_a_refusing_circuit_parks_blamelessly(kind, breaker, attempt):
    route = after_run(job(attempt), Outcome(kind, "API_TIMEOUT"), breaker, POLICY, 7)
    assert isinstance(route, SetAside)
    assert (route.reason, route.state, route.job.attempt) == (Reason.CIRCUIT_OPEN, JobState.PARKED, attempt)
    assert route.job.failures[-1].code == "API_TIMEOUT"


def test_bad_data_is_charged_even_while_the_circuit_is_open():
    route = after_run(job(3), Outcome(OutcomeKind.DATA, "VALIDATION_ERROR"), OPEN, POLICY, 7)
    assert isinstance(route, SetAside)
    assert route.reason is Reason.RETRIES_EXHAUSTED


def test_retries_can_be_set_for_a_code():
    assert isinstance(after_run(job(0), Outcome(OutcomeKind.DATA, "NEVER"), CLOSED, POLICY, 7), SetAside)


@pytest.mark.parametrize("wait", [0, 120_000])
def test_a_wait_that_was_asked_for_replaces_the_delay(wait):
    route = after_run(job(), Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED", retry_after_ms=wait), CLOSED, POLICY, 7)
    assert isinstance(route, Retry)
    assert route.delay_ms == wait


def test_only_ten_failures_are_remembered():
    tired = job()
    for attempt in range(12):
        route = after_run(tired, Outcome(OutcomeKind.DATA, f"E{attempt}"), CLOSED, RetryPolicy(99), 7)
        assert isinstance(route, Retry)
        tired = route.job
    assert [failure.code for failure in tired.failures] == [f"E{n}" for n in range(2, 12)]

"""The routing table, row by row, and the laws of retries."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.breaker import BreakerState
from sickbay.domain.job import Job, JobState, Reason
from sickbay.domain.outcome import LOST, SUCCESS, Outcome, OutcomeKind
from sickbay.domain.retry import (
    JITTER,
    LONGEST_WAIT_MS,
    NO_OPTIONS,
    SPREAD,
    Done,
    GiveBack,
    HandBack,
    Retry,
    RetryOptions,
    RetryPolicy,
    SetAside,
    after_run,
)

POLICY = RetryPolicy(max_retries=3, delay_ms=5_000, retries_by_code={"NEVER": 0})
CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN
FAILING = [OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.UNKNOWN, OutcomeKind.DATA]
DOWN = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT")
STRANGE = Outcome(OutcomeKind.UNKNOWN, "STRANGE")


def job(attempt=0):
    return Job("id", "email", attempt=attempt, generation=2)


@pytest.mark.parametrize("breaker", list(BreakerState))
def test_success_is_done_whatever_the_circuit_says(breaker):
    assert after_run(job(), SUCCESS, breaker, POLICY, 7) == Done()


@pytest.mark.parametrize("breaker", list(BreakerState))
def test_a_broken_off_run_goes_back_uncharged(breaker):
    assert after_run(job(), Outcome(OutcomeKind.CANCELLED), breaker, POLICY, 7) == GiveBack()


@pytest.mark.parametrize("breaker", list(BreakerState))
def test_the_job_of_a_lost_program_is_handed_back_uncharged(breaker):
    assert after_run(job(2), LOST, breaker, POLICY, 7) == HandBack(job(2))


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.parametrize("attempt", [0, 1, 2])
def test_a_failure_before_the_last_attempt_is_retried_and_charged(kind, attempt):
    route = after_run(job(attempt), Outcome(kind, "CODE", "why"), CLOSED, POLICY, 7)
    assert isinstance(route, Retry)
    assert (route.job.attempt, route.delay_ms) == (attempt + 1, 5_000)
    last = route.job.failures[-1]
    assert (last.at, last.generation, last.attempt, last.code, last.message) == (7, 2, attempt, "CODE", "why")


@pytest.mark.parametrize("kind", [OutcomeKind.UNKNOWN, OutcomeKind.DATA])
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


def test_ten_failures_are_remembered_the_first_three_and_the_newest():
    tired = job()
    for attempt in range(12):
        route = after_run(tired, Outcome(OutcomeKind.DATA, f"E{attempt}"), CLOSED, RetryPolicy(99), 7)
        assert isinstance(route, Retry)
        tired = route.job
    assert [failure.code for failure in tired.failures] == [f"E{n}" for n in (0, 1, 2, 5, 6, 7, 8, 9, 10, 11)]


def life(outcomes, policy=POLICY, spread=0):
    """Each route of a job that fails like this, run after run, until it is set aside."""
    now, ill = 7, job()
    for outcome in outcomes:
        route = after_run(ill, outcome, CLOSED, policy, now, spread=spread)
        yield route
        if isinstance(route, SetAside):
            return
        ill, now = route.job, now + route.delay_ms


def test_an_outage_is_waited_for_without_end_in_growing_pauses():
    """The documented retries first, then 10 s, doubled up to 10 minutes; the last fifth of these is the jitter's."""
    pauses = [route.delay_ms for route in life([DOWN] * 12)]
    assert pauses == [5_000] * 3 + [10_000, 20_000, 40_000, 80_000, 160_000, 320_000] + [500_000] * 3
    assert [route.delay_ms for route in life([DOWN] * 12, spread=SPREAD)][-1] == 600_000
    assert [route.beyond_limit for route in life([DOWN] * 5)] == [False] * 3 + [True] * 2


def test_an_outage_leaves_a_job_the_retries_for_its_own_failures():
    """They are counted apart, in whichever order they come."""
    routes = list(life([DOWN] * 20 + [STRANGE] * 9))
    assert [type(route) for route in routes] == [Retry] * 23 + [SetAside]
    assert [route.delay_ms for route in routes[20:23]] == [5_000] * 3
    assert [type(route) for route in life([STRANGE, DOWN, STRANGE, DOWN, DOWN, STRANGE, DOWN, STRANGE])] == [Retry] * 7 + [SetAside]


def test_a_release_remembers_and_a_resubmit_forgets_what_did_not_count():
    """The one keeps the attempts, the other begins anew."""
    *_, last = life([DOWN] * 20)
    released = replace(last.job, generation=3)
    assert (released.attempt, released.blameless) == (20, 20)
    resubmitted = replace(released, attempt=0)
    assert resubmitted.blameless == 0
    route = after_run(resubmitted, DOWN, CLOSED, POLICY, 7)
    assert (route.job.blameless, route.job.failed_blamelessly) == (1, True)


def test_retries_that_somebody_has_set_for_a_code_end():
    """A person's word goes before the rule for its kind."""
    policy = RetryPolicy(retries_by_code={"API_TIMEOUT": 5})
    assert [type(route) for route in life([DOWN] * 9, policy)] == [Retry] * 5 + [SetAside]


def test_when_it_runs_again_is_part_of_the_failure():
    (route,) = life([Outcome(OutcomeKind.TRANSIENT, "X", retry_after_ms=1_000)], spread=SPREAD)
    assert (route.delay_ms, route.job.failures[-1].retry_at) == (1_200, 7 + 1_200)


policies = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 100),
    delay_ms=st.integers(0, LONGEST_WAIT_MS),
    backoff=st.floats(1, 10),
    max_delay_ms=st.integers(0, LONGEST_WAIT_MS),
    jitter=st.none() | st.floats(0, 1),
)
spreads = st.integers(0, SPREAD)
kinds = st.sampled_from(FAILING)


@given(policies, spreads)
def test_pauses_grow_up_to_their_limit(policy, spread):
    """Law: with the same luck no pause is shorter than the one before, none than the first delay, and none longer than the longest."""
    pauses = [route.delay_ms for route in life([DOWN] * (policy.max_retries + 40), policy, spread)]
    assert pauses == sorted(pauses)
    assert policy.delay_ms <= pauses[0]
    assert pauses[-1] <= max(policy.max_delay_ms, policy.delay_ms)


@given(policies, spreads, st.integers(0, 150))
def test_jitter_extends_a_pause_by_no_more_than_it_says(policy, spread, retries):
    """Law: between the pause without jitter and that with all of it, and it grows with the luck."""
    for beyond_limit in (False, retries >= policy.max_retries):
        least, pause, most = (policy.pause_ms(retries, luck, beyond_limit=beyond_limit) for luck in (0, spread, SPREAD))
        assert least <= pause <= most <= least * (1 + (JITTER if policy.jitter is None else policy.jitter)) + 1


@given(policies, spreads, kinds, st.integers(0, 2 * LONGEST_WAIT_MS), st.integers(0, 300))
def test_no_job_runs_before_the_time_that_was_asked_for(policy, spread, kind, asked, attempt):
    """Law: at least Retry-After, at most a fifth more, and a day at most."""
    outcome = Outcome(kind, "X", retry_after_ms=asked)
    route = after_run(job(attempt), outcome, CLOSED, policy, 7, spread=spread)
    if isinstance(route, Retry):
        assert min(asked, LONGEST_WAIT_MS) <= route.delay_ms
        assert route.beyond_limit or route.delay_ms <= min(asked * (1 + JITTER) + 1, LONGEST_WAIT_MS)


@given(policies, st.lists(st.tuples(kinds, st.booleans()), max_size=60))
def test_only_a_jobs_own_failures_quarantine_it_and_as_many_as_allowed(policy, failures):
    """Law: whatever the breaker does meanwhile, exactly after `max_retries` charged failures that are its own; never for an outage."""
    ill, own = job(), 0
    for kind, refuses in failures:
        route = after_run(ill, Outcome(kind, "X"), OPEN if refuses else CLOSED, policy, 7)
        if isinstance(route, SetAside) and route.reason is Reason.CIRCUIT_OPEN:
            ill = replace(route.job, generation=route.job.generation + 1)  # as it is released
            continue
        own += not kind.is_blameless
        assert isinstance(route, SetAside) == (not kind.is_blameless and own == policy.max_retries + 1)
        assert route.job.failed_blamelessly == kind.is_blameless
        if isinstance(route, SetAside):
            return
        ill = route.job


@given(policies, st.sampled_from([OutcomeKind.DATA, OutcomeKind.UNKNOWN]))
def test_a_job_of_bad_data_always_ends(policy, kind):
    """Law: after its first run and `max_retries` more."""
    routes = list(life([Outcome(kind, "X")] * 200, policy))
    assert len(routes) == policy.max_retries + 1
    assert isinstance(routes[-1], SetAside)


@given(policies, policies)
def test_options_replace_what_they_name(policy, other):
    """Law: all of them, or nothing."""
    assert NO_OPTIONS.over(policy) == policy
    named = {field.name: getattr(other, field.name) for field in fields(other)}
    expected = other if other.jitter is not None else replace(other, jitter=policy.jitter)
    assert RetryOptions(**named).over(policy) == expected

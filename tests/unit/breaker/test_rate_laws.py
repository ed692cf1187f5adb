"""The laws of the breaker with the policy `rate`, beside a process that keeps good runs until a bad one comes (`tally.py`)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from sickbay.domain.breaker import Action, BreakerConfig, Permit
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.breaker_model import CLOSED
from tests.unit.breaker.test_laws import EXAMPLES, Laws, jitters, outcomes, picks

gaps = st.sampled_from([0, 0, 90, 1_000, 7_000])
took = st.sampled_from([0, 0, 999, 1_000, 60_000])


class RateLaws(Laws):
    """One circuit that opens by the share of bad runs."""

    @initialize(
        ramp=st.booleans(),
        rate=st.sampled_from([1, 300, 500, 1_000]),
        calls=st.integers(1, 8),
        window_ms=st.sampled_from([1_000, 60_000, 60_007]),
        slow_ms=st.sampled_from([0, 1_000]),
    )
    def begin(self, ramp: bool, rate: int, calls: int, window_ms: int, slow_ms: int) -> None:
        """Choose the settings."""
        self.start(BreakerConfig(ramp=ramp, rate=rate, calls=calls, window_ms=window_ms, slow_ms=slow_ms))

    @precondition(lambda self: self.outstanding)
    @rule(pick=picks, outcome=outcomes, jitter=jitters, took_ms=took)
    def report(self, pick: int, outcome: Outcome, jitter: int, took_ms: int) -> None:
        """A run ends."""
        permit = self.outstanding.pop(pick % len(self.outstanding))
        self.settle(permit, outcome, jitter, self.doc.seq, took_ms=took_ms)

    @rule(bad=st.lists(st.booleans(), min_size=4, max_size=30), took_ms=took, gap=gaps)
    def traffic(self, bad: list[bool], took_ms: int, gap: int) -> None:
        """Some runs fail, others do not; of a closed breaker, where chance seldom leaves one."""
        if self.doc.state is not CLOSED:
            self.order(Action.RESET, None)
        for is_bad in bad:
            answer = self.admit("job-t", 0)
            if isinstance(answer, Permit):
                outcome = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT") if is_bad else SUCCESS
                self.settle(self.take(answer), outcome, 0, self.doc.seq, took_ms=took_ms)
            self.now += gap

    more_traffic = rule(bad=st.lists(st.sampled_from([False, False, True]), max_size=20), took_ms=st.just(0), gap=gaps)(
        lambda self, bad, took_ms, gap: self.traffic(bad, took_ms, gap)
    )

    def step_back(self, ms: int) -> None:
        """Not here: what a process keeps does not move with the clock."""


pytestmark = pytest.mark.no_cover
TestRateLaws = RateLaws.TestCase
TestRateLaws.settings = settings(
    max_examples=int(EXAMPLES or 150),
    stateful_step_count=30,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

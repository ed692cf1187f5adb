"""The laws of the breaker against random traffic, outages, lost probers, commands and a clock that steps back."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from sickbay.breaker import machine as breaker
from sickbay.breaker.machine import AdmitRequest, Effect
from sickbay.domain.breaker import Action, BreakerConfig, Command, Permit, Refusal
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.breaker_model import CAP, CLOSED, FORCED, HALF_OPEN, LONGER_THAN_EVERY_WAIT, OPEN, PERMISSIVE, Model

EXAMPLES = os.environ.get("LAWS_EXAMPLES", "")
"""For more than the quick look: so many, and others each time."""
jitters = st.integers(0, 1000)
jobs = st.sampled_from(["job-a", "job-b", "job-c"])
codes = st.sampled_from(["API_TIMEOUT", "NETWORK_ERROR"])
picks = st.integers(0, 10**6)
usual = st.sampled_from([0, 0, 20, 2_000])
"""How long a successful run usually takes."""
shares = st.one_of(st.just(0), st.integers(0, 1000))
harmless = st.sampled_from([Outcome(OutcomeKind.DATA, "VALIDATION_ERROR"), Outcome(OutcomeKind.CANCELLED)])
failures = st.builds(
    Outcome, st.sampled_from([OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.UNKNOWN]), codes, st.just("it broke")
)
limited = st.builds(Outcome, st.just(OutcomeKind.TRANSIENT), st.just("RATE_LIMITED"), st.just(""), st.integers(0, 10**7))
outcomes = st.one_of(st.just(SUCCESS), harmless, failures, failures, limited)


class Laws(Model):
    """A fleet that shares one circuit."""

    @initialize(ramp=st.booleans(), threshold=st.integers(2, 5), confirm=st.sampled_from([0, 0, 50]), most=st.sampled_from([0, CAP]))
    def begin(self, ramp: bool, threshold: int, confirm: int, most: int) -> None:
        """Choose the settings."""
        self.start(BreakerConfig(failure_threshold=threshold, ramp=ramp, trip_confirm_ms=confirm, max_cooldown_ms=most))

    # what everybody can do

    @rule(job=jobs, jitter=jitters, longest_ms=st.sampled_from([0, 0, 30_000, 300_000]), released=st.booleans(), usual_ms=usual)
    def ask(self, job: str, jitter: int, longest_ms: int, released: bool, usual_ms: int) -> None:
        """Somebody asks to run a job."""
        self.admit(job, jitter, longest_ms, released=released, usual_ms=usual_ms)

    @rule(wanted=st.integers(1, 600), jitter=jitters, arrivals=st.sampled_from([0, 5_000, 80_000, 10**9]))
    def release(self, wanted: int, jitter: int, arrivals: int) -> None:
        """A healer asks how many of those that wait it may release: none where jobs are refused (3)."""
        self.lose_expired()
        granted = self.apply(lambda: breaker.reserve(self.doc, wanted, self.config, self.now, jitter=jitter, arrivals=arrivals))
        assert 0 <= granted <= wanted
        assert granted == 0 or self.doc.state in PERMISSIVE

    @precondition(lambda self: self.outstanding)
    @rule(pick=picks, outcome=outcomes, jitter=jitters, behind=st.integers(0, 3), share=shares, slow=st.booleans())
    def report(self, *, pick: int, outcome: Outcome, jitter: int, behind: int, share: int, slow: bool) -> None:
        """A run ends; a success may come from someone who does not know the last failures."""
        permit = self.outstanding.pop(pick % len(self.outstanding))
        self.settle(permit, outcome, jitter, max(0, self.doc.seq - behind), share, took_ms=9_000 * slow, usual_ms=100)

    @precondition(lambda self: self.used)
    @rule(pick=picks, outcome=outcomes)
    def report_twice(self, pick: int, outcome: Outcome) -> None:
        """The verdict of a probe arrives again (law 11)."""
        assert self.settle(self.used[pick % len(self.used)], outcome, 0, self.doc.seq) is Effect.STALE

    @precondition(lambda self: self.live is not None)
    @rule(outcome=outcomes, old_epoch=st.booleans())
    def forge(self, outcome: Outcome, old_epoch: bool) -> None:
        """A verdict comes with the right epoch and a wrong token, or the other way round (law 5)."""
        self.lose_expired()
        if self.live is None:
            return  # of a probe that is superseded, or beside a hold, the token alone tells
        wrong = {"epoch": self.live.epoch - 1} if old_epoch else {"token": "guessed"}
        assert self.settle(replace(self.live, **wrong), outcome, 0, self.doc.seq) is Effect.STALE

    @precondition(lambda self: self.live is not None or self.doc.state is OPEN)
    @rule(hold_ms=st.sampled_from([1, 1_000, 14_999, 15_000, 40_000]), ends=st.sampled_from([None, *Action]), end=st.booleans())
    def hold_beside_the_probe(self, hold_ms: int, ends: Action | None, end: bool) -> None:
        """The circuit is held open while a probe runs, and the hold ends, or is ended, before the probe does (1)."""
        if self.live is None:
            self.wait_out_and_hold_the_probe(0)
        prober = self.live
        assert prober is not None
        self.order(Action.FORCE_OPEN, hold_ms)
        self.extend(prober)
        self.now += hold_ms
        if ends is not None:
            self.order(ends, 1_000)
        self.admit("job-b", 0)
        self.extend(prober)
        if end and prober in self.outstanding:
            self.settle(self.take(prober), SUCCESS, 0, self.doc.seq)
            self.admit("job-b", 0)

    @precondition(lambda self: self.live is not None or self.used)
    @rule(pick=picks, late=st.booleans())
    def renew(self, pick: int, late: bool) -> None:
        """A prober asks for more time (law 14)."""
        held = [permit for permit in (*self.used, self.live) if permit is not None]
        permit = held[-1 if late else pick % len(held)]
        self.extend(permit)

    @rule(action=st.sampled_from(Action), duration=st.one_of(st.none(), st.integers(0, 100_000)))
    def order(self, action: Action, duration: int | None) -> None:
        """An admin commands."""
        self.lose_expired()
        before = self.caught_up()
        doc = breaker.command(self.doc, Command(action, duration, "ada", "why"), self.config, self.now)
        self.apply(lambda: (doc, None), admin=action is not Action.PROBE)
        if action is Action.AUTO and before.state is FORCED:
            assert doc.state is OPEN  # law 15
        if action is Action.PROBE:
            due = min(before.probe_at, self.now) if before.state is OPEN else before.probe_at
            assert doc == replace(before, probe_at=due, rev=doc.rev, updated_at=doc.updated_at)  # 1, 2, 4
            self.earliest_probe = due if before.state is OPEN else self.earliest_probe
        if action is Action.RESET:
            assert (doc.state, doc.trips, doc.epoch > before.epoch) == (CLOSED, 0, True)
        if doc.epoch != before.epoch:
            self.held()
            self.losses = self.quick_probes = 0
            self.earliest_probe = doc.probe_at

    @rule(ms=st.one_of(st.integers(0, 100), st.integers(0, 20_000), st.integers(0, 2_000_000)))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.now += ms

    @rule(ms=st.integers(1, 100_000))
    def step_back(self, ms: int) -> None:
        """The clock is corrected; where it falls behind the document, all waits move with it (law 6)."""
        if self.seen_at > self.doc.updated_at:  # what nobody has written down would not be so at an earlier time, and we know it
            self.lose_expired()
            self.apply(lambda: (self.caught_up(), None))
        self.now -= ms
        back = max(0, self.doc.updated_at - self.now)
        if back:
            for name in ("lease_since", "lease_end", "renewal_at", "earliest_probe", "closed_at"):
                setattr(self, name, getattr(self, name) - back)
            self.hanging = [replace(one, since=one.since - back, until=one.until - back) for one in self.hanging]
            self.failed = [(seq, at - back, code, job) for seq, at, code, job in self.failed]
            self.lose_expired()
            self.apply(lambda: (self.caught_up(), None))

    def due(self) -> int:
        """When an open circuit lends its next probe: after its wait, and not beside one that outlasts a hold."""
        return max(self.doc.probe_at if self.doc.state is OPEN else 0, self.lease_end if self.beside else 0)

    # rules that lead on purpose to where chance seldom comes

    @rule(code=codes, gap=st.one_of(st.integers(0, 40), st.sampled_from([150_000, 150_001, 600_001])))
    def outage(self, code: str, gap: int) -> None:
        """The dependency is down: every run fails until the circuit refuses."""
        for number in range(8):
            answer = self.admit(f"job-{number}", 0)
            if isinstance(answer, Refusal) or self.settle(self.take(answer), Outcome(OutcomeKind.SYSTEMIC, code), 500, 0) is Effect.TRIPPED:
                break
            self.now += gap

    @rule(code=codes, times=st.integers(2, 8))
    def poison(self, code: str, times: int) -> None:
        """One job fails again and again: alone it must not open the circuit (8)."""
        for _ in range(times):
            answer = self.admit("poison", 0)
            if isinstance(answer, Refusal) or self.settle(self.take(answer), Outcome(OutcomeKind.UNKNOWN, code), 0, 0) is Effect.TRIPPED:
                break

    @precondition(lambda self: self.doc.state is OPEN)
    @rule(outcome=outcomes, jitter=jitters, early=st.integers(0, 2))
    def wait_out_and_probe(self, outcome: Outcome, jitter: int, early: int) -> None:
        """A cooldown passes, and the probe comes to an end."""
        self.now = max(self.now, self.due() - early)
        answer = self.admit("job-p", jitter)
        assert isinstance(answer, Refusal) == (self.now < self.due() and self.doc.state is OPEN)
        if isinstance(answer, Permit):
            self.settle(self.take(answer), outcome, jitter, self.doc.seq)

    @precondition(lambda self: self.doc.state is OPEN)
    @rule(longest_ms=st.sampled_from([0, 300_000]))
    def wait_out_and_hold_the_probe(self, longest_ms: int) -> None:
        """A cooldown passes, and the probe stays under way."""
        self.now = max(self.now, self.due())
        assert isinstance(self.admit("job-h", 0, longest_ms), Permit)

    @precondition(lambda self: self.doc.state in {OPEN, HALF_OPEN})
    @rule(times=st.integers(1, 6), usual_ms=usual, early=st.sampled_from([0, 0, 1]), renews=st.booleans(), pick=picks, outcome=outcomes)
    def hang(self, *, times: int, usual_ms: int, early: int, renews: bool, pick: int, outcome: Outcome) -> None:
        """The dependency hangs: probe after probe is superseded, and in the end one of them comes to an end (1, 4, 5, 23)."""
        for _ in range(times):
            self.now = max(self.now, self.due(), self.renewal_at - early if self.live else 0)
            self.admit("job-s", 0, 30_000, usual_ms=usual_ms)
            for prober in [one.permit for one in self.hanging if renews]:
                self.extend(prober)
        ending = [permit for permit in self.outstanding if permit is self.live or self.hangs(permit)]
        if ending:
            self.settle(self.take(ending[pick % len(ending)]), outcome, 0, self.doc.seq)

    @precondition(lambda self: self.live is not None)
    @rule(times=st.integers(1, 30), every=st.integers(4_000, 16_000))
    def renew_for_long(self, times: int, every: int) -> None:
        """A slow prober renews on and on, in time or a little late (14)."""
        prober = self.live
        assert prober is not None
        for _ in range(times):
            self.now += every
            self.extend(prober)

    @precondition(lambda self: self.doc.state in {OPEN, HALF_OPEN})
    @rule(times=st.integers(1, 4), jitter=jitters)
    def lose_probers(self, times: int, jitter: int) -> None:
        """Probers vanish; the circuit must lend the probe again (law 7)."""
        for _ in range(times):
            self.now = max(self.now, self.due(), self.lease_end if self.live else 0)
            answer = self.admit("job-l", jitter)
            assert isinstance(answer, Permit) or self.doc.state is OPEN
            self.now = max(self.now, self.lease_end)

    @precondition(lambda self: self.doc.ramp is not None)
    @rule(good=st.lists(st.booleans(), min_size=8, max_size=14), slow=st.booleans())
    def ramp_up(self, good: list[bool], slow: bool) -> None:
        """The ramp is driven to one of its ends, also by runs that take longer than usual (law 17)."""
        for is_good in good:
            answer = self.admit("job-r", 0)
            if isinstance(answer, Permit):
                outcome = SUCCESS if is_good else Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT")
                self.settle(self.take(answer), outcome, 0, self.doc.seq, took_ms=9_000 * slow, usual_ms=100)
            self.now += 1_000 // (1 + 9 * slow)

    # the laws

    @invariant()
    def never_stuck(self) -> None:
        """From every automatic state, and from a hold with an end, time alone leads to a grant, and a ramp to its end (7, 17)."""
        if self.doc.state is FORCED and not self.doc.until:
            return
        later = max(self.now, self.doc.updated_at, self.doc.until) + LONGER_THAN_EVERY_WAIT
        doc, answer = breaker.admit(self.doc, AdmitRequest("later", "t"), self.config, later)
        assert isinstance(answer, Permit)
        assert breaker.catch_up(self.doc, self.config, self.now + 3 * CAP).ramp is None
        assert doc.epoch >= self.doc.epoch


pytestmark = pytest.mark.no_cover  # the examples cover the machine; tracing would make the laws four times as slow
TestLaws = Laws.TestCase
TestLaws.settings = settings(
    max_examples=int(EXAMPLES or 150),
    stateful_step_count=40,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

"""The laws of the breaker, held by Hypothesis against random traffic, outages, lost probers, commands and a clock that steps back.

The model beside the machine is deliberately naive: it remembers everything and knows each law by its own words.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sickbay import breaker
from sickbay.breaker import Ask, Document, Effect
from sickbay.circuit import Action, BreakerConfig, CircuitState, Command, Key, Permit, PermitKind, Refusal
from sickbay.outcome import SUCCESS, Kind, Outcome

KEY = Key("email")
START = 1_700_000_000_000
CAP = 900_000
LONGER_THAN_EVERY_WAIT = CAP + 120_000
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED = CircuitState.FORCED_OPEN
PERMISSIVE = {CLOSED, CircuitState.DISABLED, CircuitState.METRICS_ONLY}

jitters = st.integers(0, 1000)
jobs = st.sampled_from(["job-a", "job-b", "job-c"])
codes = st.sampled_from(["API_TIMEOUT", "NETWORK_ERROR"])
picks = st.integers(0, 10**6)
harmless = st.sampled_from([Outcome(Kind.DATA, "VALIDATION_ERROR"), Outcome(Kind.CANCELLED)])
failures = st.builds(Outcome, st.sampled_from([Kind.SYSTEMIC, Kind.TRANSIENT, Kind.UNKNOWN]), codes, st.just("it broke"))
limited = st.builds(Outcome, st.just(Kind.TRANSIENT), st.just("RATE_LIMITED"), st.just(""), st.integers(0, 10**7))
outcomes = st.one_of(st.just(SUCCESS), harmless, failures, failures, limited)


class Laws(RuleBasedStateMachine):
    """A fleet that shares one circuit."""

    @initialize(ramp=st.booleans(), threshold=st.integers(2, 5), confirm=st.sampled_from([0, 0, 50]))
    def begin(self, ramp: bool, threshold: int, confirm: int) -> None:
        """Choose the settings."""
        self.config = BreakerConfig(failure_threshold=threshold, ramp=ramp, trip_confirm_ms=confirm)
        self.now = START
        self.doc = breaker.new_document(KEY, START)
        self.asked = 0
        self.outstanding: list[Permit] = []
        self.used: list[Permit] = []
        self.live: Permit | None = None
        self.lease_since = self.lease_end = self.earliest_probe = 0
        self.losses = self.quick_probes = self.ramp_failures = 0
        self.closed_at = 0
        self.failed: list[tuple[int, int, str, str]] = []

    # what everybody can do

    @rule(job=jobs, jitter=jitters)
    def ask(self, job: str, jitter: int) -> None:
        """Somebody asks to run a job."""
        self.admit(job, jitter)

    @precondition(lambda self: self.outstanding)
    @rule(pick=picks, outcome=outcomes, jitter=jitters, behind=st.integers(0, 3))
    def report(self, pick: int, outcome: Outcome, jitter: int, behind: int) -> None:
        """A run ends; a success may come from someone who does not know the last failures."""
        permit = self.outstanding.pop(pick % len(self.outstanding))
        self.settle(permit, outcome, jitter, max(0, self.doc.seq - behind))

    @precondition(lambda self: self.used)
    @rule(pick=picks, outcome=outcomes)
    def report_twice(self, pick: int, outcome: Outcome) -> None:
        """The verdict of a probe arrives again (law 11)."""
        assert self.settle(self.used[pick % len(self.used)], outcome, 0, self.doc.seq) is Effect.STALE

    @precondition(lambda self: self.live is not None)
    @rule(outcome=outcomes, old_epoch=st.booleans())
    def forge(self, outcome: Outcome, old_epoch: bool) -> None:
        """A verdict comes with the right epoch and a wrong token, or the other way round (law 5)."""
        assert self.live is not None
        wrong = {"epoch": self.live.epoch - 1} if old_epoch else {"token": "guessed"}
        assert self.settle(replace(self.live, **wrong), outcome, 0, self.doc.seq) is Effect.STALE

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
        self.apply(lambda: (doc, None), admin=True)
        if action is Action.AUTO and before.state is FORCED:
            assert doc.state is OPEN  # law 15
        if action is Action.RESET:
            assert (doc.state, doc.trips, doc.epoch > before.epoch) == (CLOSED, 0, True)
        if doc.epoch != before.epoch:
            self.forget()
            self.losses = self.quick_probes = 0
            self.earliest_probe = doc.probe_at

    @rule(ms=st.one_of(st.integers(0, 100), st.integers(0, 20_000), st.integers(0, 2_000_000)))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.now += ms

    @rule(ms=st.integers(1, 100_000))
    def step_back(self, ms: int) -> None:
        """The clock is corrected; where it falls behind the document, all waits move with it (law 6)."""
        self.now -= ms
        back = max(0, self.doc.updated_at - self.now)
        if back:
            for name in ("lease_since", "lease_end", "earliest_probe", "closed_at"):
                setattr(self, name, getattr(self, name) - back)
            self.failed = [(seq, at - back, code, job) for seq, at, code, job in self.failed]
            self.lose_expired()
            self.apply(lambda: (self.caught_up(), None))

    # rules that lead on purpose to where chance seldom comes

    @rule(code=codes, gap=st.one_of(st.integers(0, 40), st.sampled_from([150_000, 150_001, 600_001])))
    def outage(self, code: str, gap: int) -> None:
        """The dependency is down: every run fails until the circuit refuses."""
        for number in range(8):
            answer = self.admit(f"job-{number}", 0)
            if isinstance(answer, Refusal) or self.settle(self.take(answer), Outcome(Kind.SYSTEMIC, code), 500, 0) is Effect.TRIPPED:
                break
            self.now += gap

    @precondition(lambda self: self.doc.state is OPEN)
    @rule(outcome=outcomes, jitter=jitters, early=st.integers(0, 2))
    def wait_out_and_probe(self, outcome: Outcome, jitter: int, early: int) -> None:
        """A cooldown passes, and the probe comes to an end."""
        self.now = max(self.now, self.doc.probe_at - early)
        answer = self.admit("job-p", jitter)
        assert isinstance(answer, Refusal) == (self.now < self.doc.probe_at and self.doc.state is OPEN)
        if isinstance(answer, Permit):
            self.settle(self.take(answer), outcome, jitter, self.doc.seq)

    @precondition(lambda self: self.doc.state is OPEN)
    @rule()
    def wait_out_and_hold_the_probe(self) -> None:
        """A cooldown passes, and the probe stays under way."""
        self.now = max(self.now, self.doc.probe_at)
        assert isinstance(self.admit("job-h", 0), Permit)

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
            self.now = max(self.now, self.doc.probe_at, self.lease_end if self.live else 0)
            answer = self.admit("job-l", jitter)
            assert isinstance(answer, Permit) or self.doc.state is OPEN
            self.now = max(self.now, self.lease_end)

    @precondition(lambda self: self.doc.ramp is not None)
    @rule(good=st.lists(st.booleans(), min_size=8, max_size=14))
    def ramp_up(self, good: list[bool]) -> None:
        """The ramp is driven to one of its ends (law 17)."""
        for is_good in good:
            answer = self.admit("job-r", 0)
            if isinstance(answer, Permit):
                self.settle(self.take(answer), SUCCESS if is_good else Outcome(Kind.SYSTEMIC, "API_TIMEOUT"), 0, self.doc.seq)
            self.now += 1_000

    # the laws

    @invariant()
    def never_stuck(self) -> None:
        """From every automatic state, and from a hold with an end, time alone leads to a grant, and a ramp to its end (7, 17)."""
        if self.doc.state is FORCED and not self.doc.until:
            return
        later = max(self.now, self.doc.updated_at, self.doc.until) + LONGER_THAN_EVERY_WAIT
        doc, answer = breaker.admit(self.doc, Ask("later", "t"), self.config, later)
        assert isinstance(answer, Permit)
        assert breaker.catch_up(self.doc, self.config, self.now + 3 * CAP).ramp is None
        assert doc.epoch >= self.doc.epoch

    def admit(self, job: str, jitter: int) -> Permit | Refusal:
        """Ask, and hold what the answer must keep to."""
        self.asked += 1
        ask = Ask(job, f"token-{self.asked}", "worker", jitter)
        self.lose_expired()
        before = self.caught_up(jitter)
        answer = self.apply(lambda: breaker.admit(self.doc, ask, self.config, self.now))
        if isinstance(answer, Refusal):
            assert before.state not in PERMISSIVE or before.ramp is not None  # 16
            return answer
        assert answer.epoch == self.doc.epoch
        if answer.kind is PermitKind.PROBE:
            assert before.state is OPEN
            assert self.live is None, "two live probes"  # 1
            assert self.now >= self.earliest_probe  # 2
            assert self.doc.state is HALF_OPEN
            self.live, self.lease_since, self.lease_end = answer, self.now, self.now + answer.lease_ms
        else:
            assert self.doc.state in PERMISSIVE  # 3
            assert (answer.kind is PermitKind.RAMP) == (self.doc.ramp is not None)
        self.outstanding.append(answer)
        return answer

    def extend(self, permit: Permit) -> None:
        """Renew, and hold what a renewal may do."""
        alive = permit is self.live and self.now < self.lease_end
        self.lose_expired()
        assert self.apply(lambda: breaker.renew(self.doc, permit, self.config, self.now)) is alive
        if alive:
            longest = self.lease_since + self.config.probe_max_ms
            self.lease_end = max(self.lease_end, min(self.now + self.config.probe_lease_ms, longest))
            assert self.doc.probe_until == self.lease_end

    def settle(self, permit: Permit, outcome: Outcome, jitter: int, watermark: int) -> Effect:
        """Report, and hold what the verdict may move."""
        self.lose_expired()
        before = self.caught_up(jitter)
        owner = permit is self.live
        done = breaker.settle(self.doc, permit, outcome, self.config, self.now, jitter=jitter, watermark=watermark)
        effect = self.apply(lambda: done, probe_success=owner and outcome.kind is Kind.SUCCESS)
        after = self.doc
        if permit.kind is PermitKind.PROBE:
            assert (effect is Effect.STALE) is not owner  # 5, 11
            if permit not in self.used:
                self.used.append(permit)
        elif permit.epoch < before.epoch:
            assert effect is Effect.STALE
        if effect is Effect.STALE:
            assert after == before  # 5
        elif owner:
            self.judged(before, outcome, effect)
        elif outcome.kind is Kind.SUCCESS:
            self.reset(watermark)
        elif outcome.kind.counts:
            self.counted(before, permit, outcome, effect)
        else:
            assert after == before  # 9
        return effect

    def judged(self, before: Document, outcome: Outcome, effect: Effect) -> None:
        """The probe's own verdict."""
        self.forget()
        after = self.doc
        if outcome.kind is Kind.SUCCESS:
            assert (effect, after.state) == (Effect.CLOSED, CLOSED)
            self.closed_at, self.losses, self.quick_probes = self.now, 0, 0
        elif outcome.kind.counts:
            assert (effect, after.state, after.trips) == (Effect.REOPENED, OPEN, before.trips + 1)
            self.cooled(before, outcome)
            self.losses = self.quick_probes = 0
        else:
            assert (effect, after.state) == (Effect.INCONCLUSIVE, OPEN)
            assert breaker_facts(after) == breaker_facts(before)  # 9
            self.quick_probes += 1
            wait = 1_000 if self.quick_probes < 10 else self.config.cooldown_ms
            self.earliest_probe = self.now + wait
            assert after.probe_at == self.earliest_probe

    def reset(self, watermark: int) -> None:
        """A success drops what it knew and nothing later (10)."""
        self.ramp_failures = 0
        if self.doc.state is CircuitState.DISABLED:
            return
        self.failed = [failure for failure in self.failed if failure[0] > watermark]
        assert all(failed.seq > watermark for failed in self.doc.run)
        kept = Counter(failed.code for failed in self.doc.run)
        for code, number in Counter(code for _, at, code, _ in self.failed if self.now - at <= self.config.failure_window_ms).items():
            assert kept[code] >= min(number, self.config.failure_threshold)

    def counted(self, before: Document, permit: Permit, outcome: Outcome, effect: Effect) -> None:
        """A failure counts; a trip has its evidence, and evidence has its trip (8)."""
        if before.state is CircuitState.DISABLED or effect is Effect.NOTHING:
            assert before.state is not CLOSED
            return
        self.failed.append((before.seq + 1, self.now, outcome.code, permit.job_id))
        self.ramp_failures = self.ramp_failures + 1 if before.ramp is not None else 0
        mine = [failure for failure in self.failed if failure[2] == outcome.code and self.now - failure[1] <= self.config.failure_window_ms]
        enough = len(mine) >= self.config.failure_threshold and len({job for *_, job in mine}) >= 2
        old = self.now - mine[0][1] >= self.config.trip_confirm_ms
        trips = effect in {Effect.TRIPPED, Effect.WOULD_TRIP}
        if trips:
            assert (enough and old) or self.ramp_failures >= 3
            self.failed = []
        elif self.config.trip_confirm_ms == 0:
            assert not enough
        assert trips or self.ramp_failures < 3
        if effect is Effect.TRIPPED:
            assert before.state is CLOSED
            self.cooled(before, outcome)
            self.forget()

    def cooled(self, before: Document, outcome: Outcome) -> None:
        """A cooldown is exact at first, grows after, and keeps within its cap (12, 13)."""
        base, least = self.config.cooldown_ms, outcome.retry_after_ms or 0
        cooldown = self.doc.cooldown_ms
        if before.trips == 0:
            assert cooldown == min(CAP, max(base, least))
        else:
            assert min(CAP, max(2 * before.cooldown_ms, least)) <= cooldown <= min(CAP, max(before.cooldown_ms * 22 // 10, least))
        self.earliest_probe = self.now + cooldown
        assert self.doc.probe_at == self.earliest_probe

    def apply(self, operation, *, admin: bool = False, probe_success: bool = False):
        """Carry out one operation and hold what is true of every one."""
        before = self.doc
        doc, reply = operation()
        if doc is not before:
            assert doc.rev > before.rev  # 6
            assert doc.epoch >= before.epoch
            assert (doc.state is before.state) or doc.epoch > before.epoch
            assert breaker.from_json(breaker.to_json(doc)) == doc  # 18
        if doc.state is CLOSED and before.state is not CLOSED:
            assert admin or probe_success  # 4, 15
        if doc.trips < before.trips and not admin:
            assert self.now - self.closed_at >= 2 * before.cooldown_ms  # 13
        assert doc.cooldown_ms <= CAP  # 12
        assert (doc.probe_token != "") == (doc.state is HALF_OPEN)
        assert doc.probe_until <= doc.probe_since + self.config.probe_max_ms  # 14
        self.doc = doc
        return reply

    def lose_expired(self) -> None:
        """The model's side of a lease that ran out: at once for two probers in a row, a failed probe for the third."""
        if self.live is None or self.now < self.lease_end:
            return
        self.forget()
        self.losses += 1
        self.earliest_probe = self.lease_end
        if self.losses == 3:
            self.losses = self.quick_probes = 0
            self.earliest_probe += min(CAP, 2 * self.doc.cooldown_ms if self.doc.trips else self.config.cooldown_ms)

    def forget(self) -> None:
        """A new regime: nobody probes, no failures in a row."""
        if self.live is not None and self.live not in self.used:
            self.used.append(self.live)
        self.live, self.ramp_failures, self.failed = None, 0, []

    def caught_up(self, jitter: int = 0) -> Document:
        """The document as time alone has made it."""
        return breaker.catch_up(self.doc, self.config, self.now, jitter=jitter)

    def take(self, permit: Permit) -> Permit:
        """The permit is in nobody's hands any more."""
        self.outstanding.remove(permit)
        return permit


def breaker_facts(doc: Document) -> tuple[object, ...]:
    """What an inconclusive probe must leave alone."""
    return doc.trips, doc.cooldown_ms, doc.reason_code, doc.reason_count, doc.reason_message, doc.opened_at, doc.expiries


TestLaws = Laws.TestCase
TestLaws.settings = settings(
    max_examples=200, stateful_step_count=40, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

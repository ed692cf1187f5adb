"""The model beside the breaker: it remembers everything, is deliberately naive, and holds each law by its own words.

The numbers in the comments are those of the laws: 1 at most one current probe, and three beside it that hang; 2 none before
its time, unless an admin asks for it; 3 no normal permit unless permissive; 4 only a probe's success or an admin closes; 5 stale
outcomes change nothing; 6 epoch and rev never decrease; 7 never stuck; 8 a trip has its evidence; 9 inconclusive outcomes move
nothing; 10 a reset removes nothing above its watermark; 11 a second verdict is stale; 12 cooldown within its cap; 13 first exact,
then growing until stable; 14 renewal for the live tokens alone, and bounded; 15 forced never becomes CLOSED by itself; 16
permissive states never refuse; 17 a ramp ends; 18 the document parses; 23 a probe is superseded when its time has come, and only
then. With the policy `rate`, 8 is: it opens exactly if enough of the last runs were bad.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from hypothesis.stateful import RuleBasedStateMachine

from sickbay.breaker import machine as breaker
from sickbay.breaker.machine import AdmitRequest, Document, Effect
from sickbay.breaker.probes import NO_PROBE
from sickbay.breaker.ramp import CONFIRM_MS
from sickbay.breaker.tally import Tally
from sickbay.breaker.trip_rule import needed
from sickbay.domain.breaker import BreakerConfig, BreakerKey, BreakerState, Permit, PermitKind, Refusal
from sickbay.domain.outcome import Outcome, OutcomeKind

KEY = BreakerKey("email")
START = 1_700_000_000_000
CAP = 900_000
HOUR = 3_600_000
"""The longest Retry-After that counts."""
LONGER_THAN_EVERY_WAIT = HOUR + 120_000
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
FORCED = BreakerState.FORCED_OPEN
METRICS_ONLY = BreakerState.METRICS_ONLY
PERMISSIVE = {CLOSED, BreakerState.DISABLED, BreakerState.METRICS_ONLY}


@dataclass
class Hanging:
    """A superseded probe, when it began, and the end of its lease."""

    permit: Permit
    since: int
    until: int


class Model(RuleBasedStateMachine):
    """One circuit, the clock, and what everybody was told. Its operations are the machine's, each followed by its laws."""

    def start(self, config: BreakerConfig) -> None:
        """A healthy circuit under these settings, and nothing to remember."""
        self.config = config
        self.now = START
        self.doc = breaker.new_document(KEY, START)
        self.asked = 0
        self.outstanding: list[Permit] = []
        self.used: list[Permit] = []
        self.live: Permit | None = None
        self.beside: Permit | None = None
        self.lease_since = self.lease_end = self.earliest_probe = self.patience = self.renewal_at = self.hung = 0
        self.hanging: list[Hanging] = []
        self.losses = self.quick_probes = 0
        self.seen_at = 0
        """The latest time up to which we know which leases have run out."""
        self.closed_at = self.share = 0
        self.failed: list[tuple[int, int, str, str]] = []
        self.tally = Tally()
        self.ran: list[tuple[int, bool]] = []
        """When each run of this regime ended, and whether it was bad (policy `rate`)."""

    def admit(self, job: str, jitter: int, longest_ms: int = 0, *, released: bool = False, usual_ms: int = 0) -> Permit | Refusal:
        """Ask, and hold what the answer must keep to."""
        self.asked += 1
        ask = AdmitRequest(job, f"token-{self.asked}", "worker", jitter, longest_ms, released, usual_ms)
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
            assert self.beside is None, "a probe beside one that outlasted a hold"  # 1
            assert self.now >= self.earliest_probe  # 2
            assert self.doc.state is HALF_OPEN
            self.live, self.lease_since, self.lease_end = answer, self.now, self.now + answer.lease_ms
            known = max(1_000, 4 * usual_ms) if usual_ms else 15_000
            self.patience = min(known, longest_ms or known)
            self.renewal_at = self.now + min(self.patience * 2 ** min(self.hung, 20), max(self.patience, self.cap))
            assert self.doc.probe_at == self.renewal_at  # 23
        else:
            assert self.doc.state in PERMISSIVE  # 3
            assert (answer.kind is PermitKind.RAMP) == (before.ramp is not None)
        self.outstanding.append(answer)
        return answer

    def extend(self, permit: Permit) -> None:
        """Renew, and hold what a renewal may do."""
        self.lose_expired()
        alive, hanging = permit is self.live or self.is_beside(permit), self.hangs(permit)
        assert self.apply(lambda: breaker.renew(self.doc, permit, self.config, self.now)) is (alive or hanging is not None)
        if hanging is not None:
            hanging.until = max(hanging.until, min(self.now + self.config.probe_lease_ms, hanging.since + self.longest(permit)))
            assert [one.until for one in self.doc.superseded] == [one.until for one in self.hanging]  # 14
        if alive:
            longest = self.lease_since + self.longest(permit)
            self.lease_end = max(self.lease_end, min(self.now + self.config.probe_lease_ms, longest))
            assert self.doc.probe_until == self.lease_end

    def settle(self, permit: Permit, outcome: Outcome, jitter: int, watermark: int, share: int = 0, **more: int) -> Effect:
        """Report, and hold what the verdict may move; `more` may be how long the run took, `took_ms`."""
        self.share = share
        self.lose_expired()
        before, took_ms = self.caught_up(jitter), more.get("took_ms", 0)
        owner, by_window, hanging = permit is self.live, self.is_by_window(before, permit), self.hangs(permit)
        closes = (owner or hanging is not None) and outcome.kind is OutcomeKind.SUCCESS
        earlier = self.tally.record(before, permit, outcome, took_ms, config=self.config, now=self.now) if by_window else ()
        if earlier is None and outcome.kind is OutcomeKind.SUCCESS and permit.epoch == before.epoch and not before.run:
            self.ran.append((self.now, False))
            return Effect.NOTHING
        more["watermark"] = watermark
        done = breaker.settle(
            self.doc, permit, outcome, self.config, self.now, jitter=jitter, share=share, earlier=earlier or (), **more
        )  # fmt: skip
        effect = self.apply(lambda: done, probe_success=closes)
        after = self.doc
        if permit.kind is PermitKind.PROBE:
            assert (effect is Effect.STALE) is not (owner or closes)  # 5, 11
            if permit not in self.used:
                self.used.append(permit)
        elif permit.epoch < before.epoch:
            assert effect is Effect.STALE
        if hanging is not None:
            self.ended_late(before, hanging, closes=closes)
        elif self.is_beside(permit):
            assert after == replace(before, rev=after.rev, updated_at=self.now, **NO_PROBE)  # 1, 5
            self.beside = None
        elif effect is Effect.STALE:
            assert after == before  # 5
        elif owner:
            self.judged(before, outcome, effect)
        elif by_window:
            self.weighed(before, outcome, took_ms, effect)
        else:
            self.counted_in_row(before, permit, outcome, watermark, effect)
        return effect

    def counted_in_row(self, before: Document, permit: Permit, outcome: Outcome, watermark: int, effect: Effect) -> None:
        """A run whose failures count if they are in a row."""
        if outcome.kind is OutcomeKind.SUCCESS:
            self.reset(watermark)
        elif outcome.kind.is_breaker_failure:
            self.counted(before, permit, outcome, effect)
        else:
            after = self.doc
            assert replace(after, ramp=before.ramp, rev=before.rev, updated_at=before.updated_at) == before  # 9

    def ended_late(self, before: Document, hanging: Hanging, *, closes: bool) -> None:
        """A superseded probe has ended: its success closes (4), anything else only makes room (5)."""
        after = self.doc
        if closes:
            assert after.state is CLOSED
            return self.closed()
        rest = tuple(one for one in before.superseded if one.token != hanging.permit.token)
        assert after == replace(before, rev=after.rev, updated_at=self.now, superseded=rest)
        return self.hanging.remove(hanging)

    def closed(self) -> None:
        """A probe has succeeded."""
        self.forget()
        self.forget_hanging()
        self.closed_at, self.losses, self.quick_probes = self.now, 0, 0

    def judged(self, before: Document, outcome: Outcome, effect: Effect) -> None:
        """The current probe's own verdict."""
        self.forget()
        after = self.doc
        if outcome.kind is OutcomeKind.SUCCESS:
            assert (effect, after.state) == (Effect.CLOSED, CLOSED)
            self.closed()
        elif outcome.kind.is_breaker_failure:
            assert (effect, after.state, after.trips) == (Effect.REOPENED, OPEN, before.trips + 1)
            has_hung = self.now - self.lease_since >= self.patience
            self.hung = self.hung + 1 if has_hung else 0
            self.cooled(before, outcome, since=self.lease_since if has_hung else self.now)
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
        if self.doc.state is BreakerState.DISABLED:
            return
        self.failed = [failure for failure in self.failed if failure[0] > watermark]
        assert all(failed.seq > watermark for failed in self.doc.run)
        kept = Counter(failed.code for failed in self.doc.run)
        for code, number in Counter(code for _, at, code, _ in self.failed if self.now - at <= self.config.failure_window_ms).items():
            assert kept[code] >= min(number, self.config.failure_threshold)

    def counted(self, before: Document, permit: Permit, outcome: Outcome, effect: Effect) -> None:
        """A failure counts; a trip has its evidence, and evidence has its trip (8)."""
        if before.state is BreakerState.DISABLED or effect is Effect.NOTHING:
            assert before.state is not CLOSED
            return
        self.failed.append((before.seq + 1, self.now, outcome.code, permit.job_id))
        mine = [failure for failure in self.failed if failure[2] == outcome.code and self.now - failure[1] <= self.config.failure_window_ms]
        enough = len(mine) >= needed(self.config.failure_threshold, self.share) and len({job for *_, job in mine}) >= 2
        confirm_ms = max(self.config.trip_confirm_ms, CONFIRM_MS if before.ramp is not None else 0)
        old = self.now - mine[0][1] >= confirm_ms
        trips = effect in {Effect.TRIPPED, Effect.WOULD_TRIP}
        if trips:
            assert (enough and old) or limits(outcome)
            self.failed = []
        elif confirm_ms == 0:
            assert not enough
        assert trips or not limits(outcome)
        if effect is Effect.TRIPPED:
            assert before.state is CLOSED
            self.cooled(before, outcome)
            self.forget()

    def weighed(self, before: Document, outcome: Outcome, took_ms: int, effect: Effect) -> None:
        """It opens at a bad run if there were enough runs, and enough of them bad, and never otherwise (8)."""
        watched = before.state is METRICS_ONLY and self.now < before.probe_at
        if watched or outcome.kind is OutcomeKind.CANCELLED:
            assert self.doc == before  # 9
            self.ran = [] if watched else self.ran
            return
        failed, config = outcome.kind.is_breaker_failure, self.config
        bad = failed or bool(config.slow_ms and took_ms >= config.slow_ms)
        self.ran.append((self.now, bad))
        width = config.window_ms // 10
        recent = [one for at, one in self.ran if self.now - at // width * width < config.window_ms]
        enough = len(recent) >= config.calls and 1_000 * sum(recent) >= config.rate * len(recent)
        trips = effect in {Effect.TRIPPED, Effect.WOULD_TRIP}
        assert trips is (bad and (enough or (failed and limits(outcome))))
        if trips:
            self.ran = []
            assert self.doc.calls == ()
        if effect is Effect.TRIPPED:
            assert (self.doc.reason_code, self.doc.reason_count) == (outcome.code if failed else "SLOW_CALLS", sum(recent))
            self.cooled(before, outcome if failed else Outcome(outcome.kind))
            self.forget()

    def cooled(self, before: Document, outcome: Outcome, since: int = 0) -> None:
        """A cooldown is exact at first, grows after within its cap, and is never shorter than asked for (12, 13).

        That of a probe which hung before it failed counts `since` its begin.
        """
        grown, asked = self.grown(before), min(outcome.retry_after_ms or 0, HOUR)
        cooldown = self.doc.cooldown_ms
        if limits(outcome):
            assert cooldown == asked
        elif before.trips == 0:
            assert cooldown == max(self.config.cooldown_ms, asked)
        else:
            assert max(grown, asked) <= cooldown <= max(min(self.cap, grown * 11 // 10), asked)
        self.earliest_probe = max(self.now + asked, (since or self.now) + cooldown)
        assert self.doc.probe_at == self.earliest_probe

    @property
    def cap(self) -> int:
        """A cooldown's longest."""
        return max(self.config.max_cooldown_ms, self.config.cooldown_ms)

    def grown(self, doc: Document) -> int:
        """The cooldown after so many trips, before jitter."""
        return min(self.cap, self.config.cooldown_ms << doc.trips)

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
            assert self.now - self.closed_at >= 2 * min(self.cap, before.cooldown_ms)  # 13
        assert doc.cooldown_ms <= max(self.cap, HOUR)  # 12
        assert (doc.probe_token != "") == (doc.state is HALF_OPEN or (doc.state in {OPEN, FORCED} and doc.probe_until > doc.updated_at))
        assert len(doc.superseded) <= 3  # 1
        assert not doc.superseded or doc.state in {OPEN, HALF_OPEN}
        prober = self.live or self.beside
        assert prober is None or doc.probe_until <= doc.probe_since + self.longest(prober)  # 14
        self.doc = doc
        return reply

    def lose_expired(self) -> None:
        """A probe whose time is over (23), or whose lease ran out: another at once after two in a row, the third is a failed probe."""
        self.seen_at = max(self.seen_at, self.now)
        self.forget_hanging(until=self.now)
        if self.now >= self.lease_end:
            self.beside = None
        if self.live is None:
            return
        if self.renewal_at <= self.now and self.renewal_at < self.lease_end and len(self.hanging) < 3:
            self.hanging.append(Hanging(self.live, self.lease_since, self.lease_end))
            self.live, self.failed, self.ran = None, [], []
            self.earliest_probe, self.hung = self.renewal_at, self.hung + 1
            self.forget_hanging(until=self.now)
        elif self.now >= self.lease_end:
            self.lose()

    def lose(self) -> None:
        """A prober has vanished."""
        self.forget()
        self.losses += 1
        self.earliest_probe = self.lease_end
        if self.losses == 3:
            self.losses = self.quick_probes = 0
            self.earliest_probe += self.grown(self.doc)

    def forget(self) -> None:
        """A new regime: nobody probes, no failures in a row."""
        if self.live is not None and self.live not in self.used:
            self.used.append(self.live)
        self.live, self.failed, self.ran = None, [], []

    def forget_hanging(self, until: int | None = None) -> None:
        """Superseded probes do not count any more: all, or those whose leases ended by then."""
        ended = [one for one in self.hanging if until is None or one.until <= until]
        self.used += [one.permit for one in ended]
        self.hanging = [one for one in self.hanging if one not in ended]
        self.hung = 0 if until is None else self.hung

    def hangs(self, permit: Permit) -> Hanging | None:
        """The superseded probe with this permit."""
        return next((one for one in self.hanging if one.permit.token == permit.token), None)

    def held(self) -> None:
        """An admin began a new regime: a probe under way is remembered where jobs are refused, and forgotten where all may run."""
        prober = self.live or self.beside
        self.forget()
        self.forget_hanging()
        self.beside = prober if self.doc.state in {OPEN, FORCED} else None

    def is_by_window(self, before: Document, permit: Permit) -> bool:
        """Whether the policy `rate` decides about this run."""
        return self.config.rate > 0 and before.ramp is None and not permit.token and before.state in {CLOSED, METRICS_ONLY}

    def is_beside(self, permit: Permit) -> bool:
        """Whether this is the probe that outlasts a hold. Its epoch is over, so its token alone tells."""
        return self.beside is not None and permit.token == self.beside.token

    def longest(self, prober: Permit) -> int:
        """How long this one may keep its lease (14)."""
        return max(self.config.probe_max_ms, prober.longest_ms + 30_000)

    def caught_up(self, jitter: int = 0) -> Document:
        """The document as time alone has made it, which knows the same probes as we do (23)."""
        doc = breaker.catch_up(self.doc, self.config, self.now, jitter=jitter)
        assert [(one.token, one.until) for one in doc.superseded] == [(one.permit.token, one.until) for one in self.hanging]
        return doc

    def take(self, permit: Permit) -> Permit:
        """The permit is in nobody's hands any more."""
        self.outstanding.remove(permit)
        return permit


def limits(outcome: Outcome) -> bool:
    """A rate limit that says until when: it opens at once, and for just so long."""
    return outcome.code == "RATE_LIMITED" and bool(outcome.retry_after_ms)


def breaker_facts(doc: Document) -> tuple[object, ...]:
    """What an inconclusive probe must leave alone."""
    return doc.trips, doc.cooldown_ms, doc.reason_code, doc.reason_count, doc.reason_message, doc.opened_at, doc.expiries

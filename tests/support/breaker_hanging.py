"""A life of a breaker whose probes hang, step by step through both machines (`Twin`)."""

from __future__ import annotations

from sickbay.breaker import machine as breaker
from sickbay.breaker.machine import AdmitRequest, Document, Effect
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, Command, Permit, Refusal
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.breaker_driver import DOWN, START
from tests.support.differential import Twin

TIMED_OUT = Outcome(OutcomeKind.SYSTEMIC, "HANDLER_TIMEOUT", "took longer than 30 s")
ASKS = Outcome(OutcomeKind.SYSTEMIC, "HTTP_503", "wait", 99_000)
CONFIG = BreakerConfig(max_cooldown_ms=100_000)


class Life:
    """One breaker, opened by a command and set to auto, so that it waits for a probe."""

    def __init__(self, twin: Twin) -> None:
        self.twin, self.now, self.asked = twin, START, 0
        self.doc: Document = breaker.new_document(BreakerKey("sms"), START)
        for action in (Action.FORCE_OPEN, Action.AUTO):
            self.doc = twin.command(self.doc, Command(action), CONFIG, START)

    def admit(self, usual_ms: int = 300, longest_ms: int = 30_000) -> Permit | Refusal:
        """Somebody asks."""
        self.asked += 1
        ask = AdmitRequest(f"job-{self.asked}", f"token-{self.asked}", "worker", longest_ms=longest_ms, usual_ms=usual_ms)
        self.doc, answer = self.twin.admit(self.doc, ask, CONFIG, self.now)
        return answer

    def settle(self, permit: Permit, outcome: Outcome) -> Effect:
        """A run has ended."""
        self.doc, effect = self.twin.settle(self.doc, permit, outcome, CONFIG, self.now)
        return effect

    def renew(self, *permits: Permit) -> list[bool]:
        """They still run."""
        renewed = []
        for permit in permits:
            self.doc, done = self.twin.renew(self.doc, permit, CONFIG, self.now)
            renewed.append(done)
        return renewed

    def probe(self, **more: int) -> Permit:
        """The next probe, when it is due."""
        self.now = max(self.now, self.doc.probe_at)
        answer = self.admit(**more)
        assert isinstance(answer, Permit)
        return answer


def check_hanging_probes(twin: Twin) -> None:
    """Four hang, and make room for others by failing, by a lost lease, and at the end of the longest time; then one succeeds late."""
    for more in ({"usual_ms": 0}, {"usual_ms": 0, "longest_ms": 0}, {"usual_ms": 20_000}, {"usual_ms": 1}):
        Life(twin).probe(**more)
    life = Life(twin)
    permits = [life.probe() for _ in range(4)]
    for now in (START + 14_000, life.doc.probe_at):
        life.now = now
        assert life.renew(*permits) == [True] * 4
    assert isinstance(life.admit(), Refusal)
    assert life.settle(permits[1], TIMED_OUT) is Effect.STALE
    permits[1] = life.probe()
    life.doc = twin.catch_up(life.doc, CONFIG, life.doc.updated_at - 5_000)
    life.now = life.doc.updated_at + 14_000
    assert life.renew(*permits[1:]) == [True] * 3
    life.now += 1_000
    assert life.renew(permits[0]) == [False]
    permits[0] = life.probe()
    for _ in range(12):
        life.now += 14_000
        life.renew(*permits)
    current = life.probe()
    while life.now < life.doc.probe_at:
        life.now = min(life.now + 14_000, life.doc.probe_at)
        assert life.renew(current) == [True]
    following = life.probe()
    assert life.settle(current, SUCCESS) is Effect.CLOSED
    assert life.settle(following, DOWN) is Effect.STALE
    check_their_other_ends(twin)


def check_their_other_ends(twin: Twin) -> None:
    """A current probe fails after its patience, is asked to wait, proves nothing, is lost, and is noticed late; then it is reset."""
    life = Life(twin)
    for outcome, after_ms in (
        (TIMED_OUT, 1_199),
        (TIMED_OUT, 1_200),
        (TIMED_OUT, 2_000),
        (ASKS, 4_000),
        (Outcome(OutcomeKind.CANCELLED), 9),
    ):
        current = life.probe()
        life.now += after_ms
        life.settle(current, outcome)
    for late_ms in (15_000, 15_000, 15_000, 40_000):
        life.probe(usual_ms=9_000)
        life.now += late_ms
        life.doc = twin.catch_up(life.doc, CONFIG, life.now, jitter=500)
    permits = [life.probe() for _ in range(2)]
    life.doc = twin.command(life.doc, Command(Action.RESET), CONFIG, life.now)
    assert life.settle(permits[0], SUCCESS) is Effect.STALE

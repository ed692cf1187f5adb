"""One circuit under test, with a clock that only moves when told; shared by the tests of the breaker."""

from __future__ import annotations

from sickbay.breaker import machine as breaker
from sickbay.breaker.machine import AdmitRequest, Effect
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, Command, Permit, PermitKind, Refusal
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind

KEY = BreakerKey("email")
START = 1_700_000_000_000
DOWN = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "no answer")
BAD_DATA = Outcome(OutcomeKind.DATA, "VALIDATION_ERROR", "no address")
BROKEN_OFF = Outcome(OutcomeKind.CANCELLED)


class Circuit:
    """One circuit and a clock that only moves when told."""

    def __init__(self, **config) -> None:
        self.config = BreakerConfig(**config)
        self.now = START
        self.doc = breaker.new_document(KEY, START)
        self.asked = 0

    def admit(self, job: str | None = None, jitter: int = 0, longest_ms: int = 0, usual_ms: int = 0) -> Permit | Refusal:
        """Ask to run a job, a new one unless named."""
        self.asked += 1
        ask = AdmitRequest(job or f"job-{self.asked}", f"token-{self.asked}", "worker-1", jitter, longest_ms, usual_ms=usual_ms)
        self.doc, answer = breaker.admit(self.doc, ask, self.config, self.now)
        return answer

    def settle(self, permit: Permit, outcome: Outcome, **more) -> Effect:
        """Report what a run came to."""
        self.doc, effect = breaker.settle(self.doc, permit, outcome, self.config, self.now, **more)
        return effect

    def renew(self, permit: Permit) -> bool:
        """Ask for more time."""
        self.doc, renewed = breaker.renew(self.doc, permit, self.config, self.now)
        return renewed

    def command(self, action: Action, **more) -> None:
        """Order as an admin."""
        self.doc = breaker.command(self.doc, Command(action, **more), self.config, self.now)

    def look(self):
        """The circuit as it is now."""
        self.doc = breaker.catch_up(self.doc, self.config, self.now)
        return breaker.snapshot(self.doc, self.config, self.now)

    def run(self, outcome: Outcome, times: int = 1, job: str | None = None, **more) -> Effect:
        """Admit and settle a number of times; each time another job unless named."""
        effect = Effect.NOTHING
        for _ in range(times):
            permit = self.admit(job)
            assert isinstance(permit, Permit)
            effect = self.settle(permit, outcome, **more)
        return effect

    def open(self) -> Circuit:
        """Let it trip."""
        assert self.run(DOWN, self.config.failure_threshold) is Effect.TRIPPED
        return self

    def probe(self, longest_ms: int = 0, usual_ms: int = 0) -> Permit:
        """Wait until a probe is due and take it."""
        self.now = max(self.now, self.doc.probe_at)
        permit = self.admit(longest_ms=longest_ms, usual_ms=usual_ms)
        assert isinstance(permit, Permit)
        assert permit.kind is PermitKind.PROBE
        return permit

    def recover(self) -> Circuit:
        """Let it trip and close again."""
        assert self.settle(self.open().probe(), SUCCESS) is Effect.CLOSED
        return self

"""Snapshots of a breaker for tests of incidents: what the real machine shows of one outage after another."""

from dataclasses import replace

from sickbay.breaker import machine
from sickbay.breaker.machine import AdmitRequest, Document
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, Command, Permit
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.clock import START

CONFIG = BreakerConfig(failure_threshold=3, cooldown_ms=10_000)
TIMEOUT = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "no answer in 30 s")


class Patient:
    """One breaker that a test makes fail and heal; `seen` is what an attentive observer was shown, in order."""

    def __init__(self, job_type="email", tenant="default", config=CONFIG):
        self.now = START
        self.config = config
        self.doc: Document = machine.new_document(BreakerKey(job_type, tenant), START)
        self.seen = []
        self._probe: Permit | None = None
        self._numbers = iter(range(10**6))

    def snapshot(self):
        return machine.snapshot(self.doc, self.config, self.now)

    def wait(self, ms):
        self.now += ms
        self._keep(machine.catch_up(self.doc, self.config, self.now))

    def trip(self):
        """Failures of distinct jobs, until it is open; returns what it shows then."""
        while not self.doc.state.refuses:
            self.now += 10
            permit = self._admit()
            if isinstance(permit, Permit):
                self._keep(machine.settle(self.doc, permit, TIMEOUT, self.config, self.now)[0])
            else:
                self.now += 1_000  # its ramp lets few in
        return self.snapshot()

    def probe(self, outcome=SUCCESS):
        """Let the cooldown pass, and one probe with this outcome run."""
        self.now = max(self.now, machine.snapshot(self.doc, self.config, self.now).probe_at or 0) + 1
        permit = self._admit()
        assert permit.token
        self.now += 100
        self._keep(machine.settle(self.doc, permit, outcome, self.config, self.now)[0])
        return self.snapshot()

    def command(self, action, **fields):
        self.now += 5
        self._keep(machine.command(self.doc, Command(action, **fields), self.config, self.now))
        return self.snapshot()

    def force_open(self, by="ada", why="they move", duration_ms=None):
        return self.command(Action.FORCE_OPEN, by=by, why=why, duration_ms=duration_ms)

    def _admit(self):
        job_id = f"job-{next(self._numbers)}"
        doc, answer = machine.admit(self.doc, AdmitRequest(job_id, f"token-{job_id}"), self.config, self.now)
        self._keep(doc)
        return answer

    def _keep(self, doc):
        if doc is not self.doc:
            self.doc = doc
            self.seen.append(self.snapshot())


def degraded(snapshot):
    return replace(snapshot, degraded=True)

"""The life of a ramp before a dependency at which calls queue, step by step through both machines (`Twin`)."""

from __future__ import annotations

from dataclasses import replace

from sickbay.breaker import machine as breaker
from sickbay.breaker import ramp as ramps
from sickbay.breaker.machine import AdmitRequest
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, Command, Permit, PermitKind
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.breaker_driver import START
from tests.support.differential import Twin

CONFIG = BreakerConfig()
REFUSED = Outcome(OutcomeKind.TRANSIENT, "NETWORK_ERROR", "busy")
USUAL_MS = 100
PHASES = (
    ("fast", 40),  # it doubles,
    ("slow", 60),  # is cut early, and again and again,
    ("fast slow slow", 30),
    ("fast", 80),  # returns, and grows on
    ("almost", 20),
    ("slow fast", 20),  # half of them are not most of them
    ("slow slow fast", 20),
    ("slow refused refused", 20),  # and what drains is cut by refusals
    ("fast", 20),
)
JUDGED = (
    (100_000, 0, ["fast", "slow"] * 10),  # half of them are not most of them
    (50_000, 0, [*["fast"] * 9, *["slow"] * 10]),  # what was served is measured
    (60_000, 90_000, ["refused"] * 20),  # refusals while it drains take half at most
    (90_000, 90_000, ["refused"] * 20),
)
"""The rate, the rate it returns to, and what comes in 0.6 s."""
ASKING = 4
"""So many jobs ask each 50 ms, so that permits are scarce."""
TOOK_MS = {"fast": 100, "almost": 349, "slow": 350}


def check_a_crowded_ramp(twin: Twin) -> None:
    """Every line of what slow runs do to it, from one that doubles to one that is at its least rate."""
    for first, phases in (("slow", PHASES), ("fast", PHASES[:3])):
        doc = twin.command(breaker.new_document(BreakerKey("sms"), START), Command(Action.FORCE_OPEN), CONFIG, START)
        doc, now, number, rates, slow = twin.command(doc, Command(Action.RESET), CONFIG, START), START, 0, set[int](), 0
        for pattern, steps in ((first, 20), *phases):
            words, settled = pattern.split(), 0
            for step in range(ASKING * steps):
                number, word = number + 1, words[settled % len(words)]
                doc, permit = twin.admit(doc, AdmitRequest(f"job-{number}", "t"), CONFIG, now)
                if isinstance(permit, Permit):
                    outcome = SUCCESS if word in TOOK_MS else REFUSED
                    doc, _ = twin.settle(doc, permit, outcome, CONFIG, now, took_ms=TOOK_MS.get(word, 5), usual_ms=USUAL_MS)
                    settled += 1
                assert doc.ramp is not None
                rates.add(doc.ramp.rate)
                slow, now = max(slow, doc.ramp.slow), now + 50 * (step % ASKING == 0)
        assert len(rates) > 50
        assert slow > 9
    for rate, target, words in JUDGED:
        ramp = replace(ramps.begin(START), rate=rate, target=target, cut_at=START if target else 0)
        doc = replace(breaker.new_document(BreakerKey("sms"), START), ramp=ramp)
        for number, word in enumerate(words):
            permit, outcome = Permit(doc.key, PermitKind.RAMP, doc.epoch, f"job-{number}"), SUCCESS if word in TOOK_MS else REFUSED
            doc, _ = twin.settle(doc, permit, outcome, CONFIG, START + 600, took_ms=TOOK_MS.get(word, 5), usual_ms=USUAL_MS)

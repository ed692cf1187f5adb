"""The transitions of the breaker but for those of its probe: how it opens and closes, and what happens by time alone.

Pure. Each takes a document and returns the next one; `machine.py` decides which transition is due.
"""

from __future__ import annotations

from typing import Final

from sickbay.breaker import probes, window
from sickbay.breaker import ramp as ramps
from sickbay.breaker.cooldown import Context, longest_cooldown, next_wait
from sickbay.breaker.document import Document, after_clock_step, enter_state, outage_fields, sanitize, with_changes
from sickbay.domain.breaker import BreakerState
from sickbay.domain.outcome import Outcome

STABLE_COOLDOWNS: Final = 2


def advance_clock(doc: Document, context: Context) -> Document:
    """Apply what is due by time alone; returns the same document if nothing is. There are no timers: every operation calls this first."""
    if context.now < doc.updated_at:
        doc = after_clock_step(doc, context.now)
    if doc.superseded:
        doc = probes.forget_ended(doc, context.now)
    if doc.state is BreakerState.HALF_OPEN:
        return probes.advance_probe(doc, context)
    if doc.state is BreakerState.FORCED_OPEN and doc.until and context.now >= doc.until:
        doc = end_hold(doc, context.now, doc.until)
    if doc.probe_token and context.now >= doc.probe_until:
        return with_changes(doc, context.now, **probes.NO_PROBE)
    if doc.ramp is not None and ramps.has_ended(doc.ramp, context.now):
        doc = with_changes(doc, context.now, ramp=None)
    if doc.calls and (calls := window.recent(doc.calls, context.config, context.now)) != doc.calls:
        doc = with_changes(doc, context.now, calls=calls)
    if doc.stable_at and context.now >= doc.stable_at:
        return with_changes(doc, context.now, trips=0, cooldown_ms=0, stable_at=0)
    return doc


def trip(doc: Document, context: Context, outcome: Outcome, code: str, number: int) -> Document:
    """OPEN after a run of failures, a share of bad runs, or a rate limit."""
    cooldown = next_wait(doc, context, outcome)
    return enter_state(
        doc,
        BreakerState.OPEN,
        context.now,
        trips=doc.trips + 1,
        opened_at=context.now,
        probe_at=context.now + cooldown,
        cooldown_ms=cooldown,
        reason_code=code,
        reason_count=number,
        reason_message=sanitize(outcome.message),
    )


def end_hold(doc: Document, now: int, since: int) -> Document:
    """OPEN after a forced hold: the next job is the probe, once a probe from before the hold has ended."""
    return enter_state(doc, BreakerState.OPEN, now, probe_at=since, **probes.probe_fields(doc), **outage_fields(doc))


def close(doc: Document, context: Context) -> Document:
    """CLOSED by a successful probe; the grown cooldown stays until the breaker has been closed for two cooldowns (not Retry-Afters)."""
    ramp = ramps.begin(context.now) if context.config.ramp else None
    stable_at = context.now + STABLE_COOLDOWNS * min(longest_cooldown(context.config), max(doc.cooldown_ms, context.config.cooldown_ms))
    return enter_state(doc, BreakerState.CLOSED, context.now, trips=doc.trips, cooldown_ms=doc.cooldown_ms, stable_at=stable_at, ramp=ramp)

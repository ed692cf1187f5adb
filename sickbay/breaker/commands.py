"""The commands of admins to a breaker: reset, force open, disable, metrics only, auto, probe.

Pure, like the rest of the machine (`machine.py`).
"""

from __future__ import annotations

from typing import Final

from sickbay.breaker import probes, transitions
from sickbay.breaker import ramp as ramps
from sickbay.breaker.cooldown import Context
from sickbay.breaker.document import Document, enter_state, sanitize, with_changes
from sickbay.domain.breaker import Action, BreakerConfig, BreakerState, Command
from sickbay.domain.job import DEFAULT_TENANT

MAX_ACTOR_CHARS: Final = 128


def command(doc: Document, order: Command, config: BreakerConfig, now: int, *, jitter: int = 0) -> Document:
    """Carry out an admin's command. Only RESET closes a breaker that is forced open; AUTO and the end of the hold lead to a probe.

    PROBE changes nothing but an OPEN breaker.
    """
    doc = transitions.advance_clock(doc, Context(config, now, jitter))
    by, why = sanitize(order.by, MAX_ACTOR_CHARS), sanitize(order.why)
    if order.action is Action.RESET:
        # Jobs wait. A tenant's own breaker is deleted instead: resets are how made-up ones are got rid of.
        ramps_up = config.ramp and doc.state.refuses and doc.key.tenant == DEFAULT_TENANT
        return enter_state(doc, BreakerState.CLOSED, now, ramp=ramps.begin(now) if ramps_up else None)
    if order.action is Action.AUTO:
        return _return_to_auto(doc, now)
    if order.action is Action.PROBE:
        return _make_probe_due(doc, now)
    if order.action is Action.FORCE_OPEN:
        until = 0 if order.duration_ms is None else now + order.duration_ms
        return enter_state(
            doc,
            BreakerState.FORCED_OPEN,
            now,
            trips=doc.trips,
            opened_at=doc.opened_at or now,
            cooldown_ms=doc.cooldown_ms,
            until=until,
            by=by,
            why=why,
            **probes.probe_fields(doc),
        )
    state = BreakerState.DISABLED if order.action is Action.DISABLE else BreakerState.METRICS_ONLY
    return enter_state(doc, state, now, would_trip=doc.would_trip, by=by, why=why)


def _make_probe_due(doc: Document, now: int) -> Document:
    """End the cooldown of an OPEN breaker. A probe that is due, or runs, stays the only one, and other states have none."""
    if doc.state is BreakerState.OPEN and doc.probe_at > now:
        return with_changes(doc, now, probe_at=now)
    return doc


def _return_to_auto(doc: Document, now: int) -> Document:
    if doc.state is BreakerState.FORCED_OPEN:
        return transitions.end_hold(doc, now, now)
    if doc.state in {BreakerState.DISABLED, BreakerState.METRICS_ONLY}:
        return enter_state(doc, BreakerState.CLOSED, now)
    return doc

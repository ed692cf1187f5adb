"""The transitions of the breaker: how it opens, grants its probe, closes, and what happens by time alone.

Pure. Each takes a document and returns the next one; `machine.py` decides which transition is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sickbay.breaker import ramp as ramps
from sickbay.breaker import window
from sickbay.breaker.document import (
    Document,
    OutageFields,
    ProbeFields,
    after_clock_step,
    enter_state,
    outage_fields,
    sanitize,
    with_changes,
)
from sickbay.domain.breaker import BreakerConfig, BreakerState
from sickbay.domain.outcome import Outcome

INCONCLUSIVE_WAIT_MS: Final = 1_000
MAX_QUICK_PROBES: Final = 10
"""Consecutive inconclusive probes before the next waits a whole cooldown."""
MAX_EXPIRIES: Final = 3
"""Consecutive expired probe leases that count as a failed probe."""
STABLE_COOLDOWNS: Final = 2
JITTER_SCALE: Final = 10_000
NO_PROBE: Final[ProbeFields] = {"probe_token": "", "probe_worker": "", "probe_job": "", "probe_since": 0, "probe_until": 0}
"""The fields of a document whose probe has ended."""
MAX_JITTER: Final = 1_000
"""`jitter` is drawn by the caller from 0 to this, in parts of JITTER_SCALE: up to 10 % on top of a grown cooldown."""
MAX_DOUBLINGS: Final = 20
MAX_RETRY_AFTER_MS: Final = 3_600_000
"""The longest Retry-After that is taken at its word: an hour."""


@dataclass(frozen=True, slots=True)
class Context:
    """Constant during one operation: the settings, the time and the jitter that the caller drew."""

    config: BreakerConfig
    now: int
    jitter: int


def advance_clock(doc: Document, context: Context) -> Document:
    """Apply what is due by time alone; returns the same document if nothing is. There are no timers: every operation calls this first."""
    if context.now < doc.updated_at:
        doc = after_clock_step(doc, context.now)
    if doc.state is BreakerState.HALF_OPEN and context.now >= doc.probe_until:
        return _expire_probe(doc, context)
    if doc.state is BreakerState.FORCED_OPEN and doc.until and context.now >= doc.until:
        doc = end_hold(doc, context.now, doc.until)
    if doc.probe_token and doc.state is not BreakerState.HALF_OPEN and context.now >= doc.probe_until:
        return with_changes(doc, context.now, **NO_PROBE)
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


def reopen(doc: Document, context: Context, outcome: Outcome, code: str) -> Document:
    """OPEN again for another cooldown, because the probe failed."""
    cooldown = next_wait(doc, context, outcome)
    outage: OutageFields = outage_fields(doc) | {
        "trips": doc.trips + 1,
        "cooldown_ms": cooldown,
        "reason_code": code,
        "reason_count": doc.reason_count + 1 if code == doc.reason_code else 1,
        "reason_message": sanitize(outcome.message),
    }
    return enter_state(doc, BreakerState.OPEN, context.now, probe_at=context.now + cooldown, **outage)


def grant_probe(doc: Document, context: Context, token: str, worker: str, job_id: str) -> Document:
    """HALF_OPEN: the probe belongs to the holder of the token until its lease expires."""
    return enter_state(
        doc,
        BreakerState.HALF_OPEN,
        context.now,
        probe_token=token,
        probe_worker=sanitize(worker),
        probe_job=sanitize(job_id),
        probe_since=context.now,
        probe_until=context.now + min(context.config.probe_lease_ms, context.config.probe_max_ms),
        expiries=doc.expiries,
        inconclusive=doc.inconclusive,
        **outage_fields(doc),
    )


def retry_probe(doc: Document, context: Context) -> Document:
    """OPEN with another probe soon, because this one was inconclusive."""
    times = doc.inconclusive + 1
    wait = INCONCLUSIVE_WAIT_MS if times < MAX_QUICK_PROBES else context.config.cooldown_ms
    return enter_state(
        doc, BreakerState.OPEN, context.now, probe_at=context.now + wait, expiries=doc.expiries, inconclusive=times, **outage_fields(doc)
    )


def end_hold(doc: Document, now: int, since: int) -> Document:
    """OPEN after a forced hold: the next job is the probe, once a probe from before the hold has ended."""
    return enter_state(doc, BreakerState.OPEN, now, probe_at=since, **probe_fields(doc), **outage_fields(doc))


def probe_fields(doc: Document) -> ProbeFields:
    """The fields of a running probe, kept through a forced hold so that no second one runs beside it; empty if none runs."""
    if not doc.probe_token:
        return {}
    return {
        "probe_token": doc.probe_token,
        "probe_worker": doc.probe_worker,
        "probe_job": doc.probe_job,
        "probe_since": doc.probe_since,
        "probe_until": doc.probe_until,
    }


def next_probe_at(doc: Document) -> int:
    """When an OPEN breaker grants its next probe: after the wait, and after a probe from before a hold."""
    return max(doc.probe_at, doc.probe_until)


def longest_cooldown(config: BreakerConfig) -> int:
    """What a cooldown grows to, ms."""
    return max(config.max_cooldown_ms, config.cooldown_ms)


def max_probe_ms(config: BreakerConfig, run_ms: int) -> int:
    """How long a probe's lease may be extended: for the longest run, plus a little for its outcome to arrive."""
    return max(config.probe_max_ms, run_ms + 2 * config.probe_lease_ms)


def close(doc: Document, context: Context) -> Document:
    """CLOSED by a successful probe; the grown cooldown stays until the breaker has been closed for two cooldowns (not Retry-Afters)."""
    ramp = ramps.begin(context.now) if context.config.ramp else None
    stable_at = context.now + STABLE_COOLDOWNS * min(longest_cooldown(context.config), max(doc.cooldown_ms, context.config.cooldown_ms))
    return enter_state(doc, BreakerState.CLOSED, context.now, trips=doc.trips, cooldown_ms=doc.cooldown_ms, stable_at=stable_at, ramp=ramp)


def _expire_probe(doc: Document, context: Context) -> Document:
    # The wait counts from the end of the lease, so it does not matter when this is noticed.
    times = doc.expiries + 1
    if times < MAX_EXPIRIES:
        lost_at = doc.probe_until
        return enter_state(
            doc, BreakerState.OPEN, context.now, probe_at=lost_at, expiries=times, inconclusive=doc.inconclusive, **outage_fields(doc)
        )
    cooldown = _next_cooldown(doc, context)
    outage: OutageFields = outage_fields(doc) | {"trips": doc.trips + 1, "cooldown_ms": cooldown}
    return enter_state(doc, BreakerState.OPEN, context.now, probe_at=doc.probe_until + cooldown, **outage)


def next_wait(doc: Document, context: Context, outcome: Outcome) -> int:
    """How long until the probe: the cooldown, or longer if the dependency asked for that. A rate limit's own wait counts alone."""
    asked = min(outcome.retry_after_ms or 0, MAX_RETRY_AFTER_MS)
    return asked if outcome.is_rate_limit else max(_next_cooldown(doc, context), asked)


def _next_cooldown(doc: Document, context: Context) -> int:
    """The cooldown, doubled with each trip up to its maximum; by default the maximum is the cooldown itself."""
    longest = longest_cooldown(context.config)
    grown = min(longest, context.config.cooldown_ms << min(doc.trips, MAX_DOUBLINGS))
    return min(longest, grown + grown * context.jitter // JITTER_SCALE) if doc.trips else grown

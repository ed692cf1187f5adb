"""The moves of the breaker from one state to another: how it opens, lends its probe, closes, and what time alone does to it.

Pure. Each move takes a document and gives the next one; which move is due is decided in `machine.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sickbay.breaker.document import (
    Document,
    OutageFields,
    ProbeFields,
    Ramp,
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
"""Inconclusive probes after each other before the next waits a whole cooldown."""
MAX_EXPIRIES: Final = 3
"""Lost probers after each other that count as a failed probe."""
RAMP_START: Final = 2
RAMP_PER_SUCCESS: Final = 2
RAMP_SUCCESSES: Final = 8
RAMP_FAILURES: Final = 3
RAMP_EVERY_MS: Final = 1_000
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
class Turn:
    """What holds for one whole operation: the settings, the time and the caller's draw for the jitter."""

    config: BreakerConfig
    now: int
    jitter: int


def advance_clock(doc: Document, turn: Turn) -> Document:
    """What time alone has made of the document; the same document if nothing. No state waits for a timer: any operation sees this."""
    if turn.now < doc.updated_at:
        doc = after_clock_step(doc, turn.now)
    if doc.state is BreakerState.HALF_OPEN and turn.now >= doc.probe_until:
        return _expired(doc, turn)
    if doc.state is BreakerState.FORCED_OPEN and doc.until and turn.now >= doc.until:
        doc = probe_due(doc, turn.now, doc.until)
    if doc.probe_token and doc.state is not BreakerState.HALF_OPEN and turn.now >= doc.probe_until:
        return with_changes(doc, turn.now, **NO_PROBE)
    if doc.stable_at and turn.now >= doc.stable_at:
        # The growth is forgotten, and a ramp that saw neither enough successes nor failures has lasted long enough.
        return with_changes(doc, turn.now, trips=0, cooldown_ms=0, stable_at=0, ramp=None)
    return doc


def tripped(doc: Document, turn: Turn, outcome: Outcome, code: str, number: int) -> Document:
    """OPEN after a run of failures, a failed ramp, or a rate limit."""
    cooldown = next_wait(doc, turn, outcome)
    return enter_state(
        doc,
        BreakerState.OPEN,
        turn.now,
        trips=doc.trips + 1,
        opened_at=turn.now,
        probe_at=turn.now + cooldown,
        cooldown_ms=cooldown,
        reason_code=code,
        reason_count=number,
        reason_message=sanitize(outcome.message),
    )


def reopened(doc: Document, turn: Turn, outcome: Outcome, code: str) -> Document:
    """OPEN for another cooldown, because the probe failed."""
    cooldown = next_wait(doc, turn, outcome)
    outage: OutageFields = outage_fields(doc) | {
        "trips": doc.trips + 1,
        "cooldown_ms": cooldown,
        "reason_code": code,
        "reason_count": doc.reason_count + 1 if code == doc.reason_code else 1,
        "reason_message": sanitize(outcome.message),
    }
    return enter_state(doc, BreakerState.OPEN, turn.now, probe_at=turn.now + cooldown, **outage)


def grant_probe(doc: Document, turn: Turn, token: str, worker: str, job_id: str) -> Document:
    """HALF_OPEN: the one probe belongs to whoever has the token, until its lease ends."""
    return enter_state(
        doc,
        BreakerState.HALF_OPEN,
        turn.now,
        probe_token=token,
        probe_worker=sanitize(worker),
        probe_job=sanitize(job_id),
        probe_since=turn.now,
        probe_until=turn.now + min(turn.config.probe_lease_ms, turn.config.probe_max_ms),
        expiries=doc.expiries,
        inconclusive=doc.inconclusive,
        **outage_fields(doc),
    )


def probe_inconclusive(doc: Document, turn: Turn) -> Document:
    """OPEN with another probe soon: this one said nothing about the dependency."""
    times = doc.inconclusive + 1
    wait = INCONCLUSIVE_WAIT_MS if times < MAX_QUICK_PROBES else turn.config.cooldown_ms
    return enter_state(
        doc, BreakerState.OPEN, turn.now, probe_at=turn.now + wait, expiries=doc.expiries, inconclusive=times, **outage_fields(doc)
    )


def probe_due(doc: Document, now: int, since: int) -> Document:
    """OPEN after a forced hold: the next job is the probe, as soon as one that was under way before the hold has ended."""
    return enter_state(doc, BreakerState.OPEN, now, probe_at=since, **under_way(doc), **outage_fields(doc))


def under_way(doc: Document) -> ProbeFields:
    """What a hold must remember of a probe, so that no other runs beside it; nothing where none runs."""
    if not doc.probe_token:
        return {}
    return {
        "probe_token": doc.probe_token,
        "probe_worker": doc.probe_worker,
        "probe_job": doc.probe_job,
        "probe_since": doc.probe_since,
        "probe_until": doc.probe_until,
    }


def free_at(doc: Document) -> int:
    """When an OPEN circuit lends its next probe: after the wait, and not beside one that outlasted a hold."""
    return max(doc.probe_at, doc.probe_until)


def longest_cooldown(config: BreakerConfig) -> int:
    """What a cooldown grows to, ms."""
    return max(config.max_cooldown_ms, config.cooldown_ms)


def longest(config: BreakerConfig, run_ms: int) -> int:
    """For how long a probe's lease may be extended: for as long as its run may take, and a little for its verdict to arrive."""
    return max(config.probe_max_ms, run_ms + 2 * config.probe_lease_ms)


def closed(doc: Document, turn: Turn) -> Document:
    """CLOSED by its probe; the growth stays until it has been closed for two cooldowns, whatever a Retry-After has asked for."""
    ramp = Ramp(RAMP_START, 0, 0, turn.now) if turn.config.ramp else None
    stable_at = turn.now + STABLE_COOLDOWNS * min(longest_cooldown(turn.config), max(doc.cooldown_ms, turn.config.cooldown_ms))
    return enter_state(doc, BreakerState.CLOSED, turn.now, trips=doc.trips, cooldown_ms=doc.cooldown_ms, stable_at=stable_at, ramp=ramp)


def ramp_granted(ramp: Ramp, now: int) -> Ramp | None:
    """The ramp after one more permit: one that it has in hand, else one a second; None if it must wait."""
    if ramp.permits > 0:
        return replace(ramp, permits=ramp.permits - 1, granted_at=now)
    return replace(ramp, granted_at=now) if now - ramp.granted_at >= RAMP_EVERY_MS else None


def ramp_succeeded(ramp: Ramp | None) -> Ramp | None:
    """The ramp after a success; None when it is over."""
    if ramp is None or ramp.successes + 1 >= RAMP_SUCCESSES:
        return None
    return replace(ramp, permits=ramp.permits + RAMP_PER_SUCCESS, successes=ramp.successes + 1, failures=0)


def _expired(doc: Document, turn: Turn) -> Document:
    # The wait counts from the end of the lease, so it does not matter who looks when.
    times = doc.expiries + 1
    if times < MAX_EXPIRIES:
        lost_at = doc.probe_until
        return enter_state(
            doc, BreakerState.OPEN, turn.now, probe_at=lost_at, expiries=times, inconclusive=doc.inconclusive, **outage_fields(doc)
        )
    cooldown = _next_cooldown(doc, turn)
    outage: OutageFields = outage_fields(doc) | {"trips": doc.trips + 1, "cooldown_ms": cooldown}
    return enter_state(doc, BreakerState.OPEN, turn.now, probe_at=doc.probe_until + cooldown, **outage)


def next_wait(doc: Document, turn: Turn, outcome: Outcome) -> int:
    """How long until the probe: the cooldown, or longer if the dependency asked for that. A rate limit's own wait counts alone."""
    asked = min(outcome.retry_after_ms or 0, MAX_RETRY_AFTER_MS)
    return asked if outcome.is_rate_limit else max(_next_cooldown(doc, turn), asked)


def _next_cooldown(doc: Document, turn: Turn) -> int:
    """The cooldown, doubled with each trip up to its maximum; by default the maximum is the cooldown itself."""
    longest = longest_cooldown(turn.config)
    grown = min(longest, turn.config.cooldown_ms * 2 ** min(doc.trips, MAX_DOUBLINGS))
    return min(longest, grown + grown * turn.jitter // JITTER_SCALE) if doc.trips else grown

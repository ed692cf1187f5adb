"""The probe of an open breaker: how it is granted and what becomes of it if it fails, proves nothing, is lost, or hangs.

Pure. At most one probe is *current*: the next is granted only after it has ended, or its lease has expired, or it has hung. A probe hangs
if it takes longer than its *patience*, which follows from how long a successful run usually takes. Then another is due: soon at first,
later once per cooldown. The one that hangs is *superseded*. It may run on: its success closes the breaker, any other end changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sickbay.breaker.cooldown import MAX_DOUBLINGS, Context, asked_wait, longest_cooldown, next_cooldown, next_wait
from sickbay.breaker.document import (
    Document,
    HangingFields,
    OutageFields,
    ProbeFields,
    enter_state,
    hanging_fields,
    outage_fields,
    sanitize,
    with_changes,
)
from sickbay.breaker.packed_run import Superseded
from sickbay.domain.breaker import BreakerConfig, BreakerState, Permit
from sickbay.domain.outcome import Outcome

INCONCLUSIVE_WAIT_MS: Final = 1_000
MAX_QUICK_PROBES: Final = 10
"""Consecutive inconclusive probes before the next waits a whole cooldown."""
MAX_EXPIRIES: Final = 3
"""Consecutive expired probe leases that count as a failed probe."""
LEAST_PATIENCE_MS: Final = 1_000
PATIENCE_PARTS: Final = 4
"""A probe may take four times as long as a successful run usually does."""
UNKNOWN_PATIENCE_MS: Final = 15_000
"""If it is not known how long that is."""
MAX_SUPERSEDED: Final = 3
"""So many superseded probes may run beside the current one; the next waits until one of them has ended."""
NO_PROBE: Final[ProbeFields] = {"probe_token": "", "probe_worker": "", "probe_job": "", "probe_since": 0, "probe_until": 0}
"""The fields of a document whose probe has ended."""


def patience(usual_ms: int, longest_ms: int) -> int:
    """How long a probe may take, ms, if a successful run usually takes `usual_ms` and never longer than `longest_ms` (0: unknown)."""
    most = max(LEAST_PATIENCE_MS, PATIENCE_PARTS * usual_ms) if usual_ms else UNKNOWN_PATIENCE_MS
    return min(most, longest_ms) if longest_ms else most


def grant_probe(doc: Document, context: Context, token: str, worker: str, job_id: str, *, patience_ms: int) -> Document:
    """HALF_OPEN: the probe belongs to the holder of the token until its lease expires."""
    return enter_state(
        doc,
        BreakerState.HALF_OPEN,
        context.now,
        probe_at=context.now + _renewal_ms(doc, context.config, patience_ms),
        probe_token=token,
        probe_worker=sanitize(worker),
        probe_job=sanitize(job_id),
        probe_since=context.now,
        probe_until=context.now + min(context.config.probe_lease_ms, context.config.probe_max_ms),
        expiries=doc.expiries,
        inconclusive=doc.inconclusive,
        patience_ms=patience_ms,
        **hanging_fields(doc),
        **outage_fields(doc),
    )


def _renewal_ms(doc: Document, config: BreakerConfig, patience_ms: int) -> int:
    """When after its begin a probe is superseded: after its patience, doubled with each that has hung, but within a cooldown."""
    return min(patience_ms << min(doc.hung, MAX_DOUBLINGS), max(patience_ms, longest_cooldown(config)))


def reopen(doc: Document, context: Context, outcome: Outcome, code: str) -> Document:
    """OPEN again for another cooldown, because the probe failed. The cooldown of one that hung first counts from its begin."""
    now, cooldown = context.now, next_wait(doc, context, outcome)
    has_hung = 0 < doc.patience_ms <= now - doc.probe_since
    probe_at = max(now + asked_wait(outcome), doc.probe_since + cooldown) if has_hung else now + cooldown
    hanging: HangingFields = {"hung": doc.hung + 1 if has_hung else 0, "superseded": doc.superseded}
    outage: OutageFields = outage_fields(doc) | {
        "trips": doc.trips + 1,
        "cooldown_ms": cooldown,
        "reason_code": code,
        "reason_count": doc.reason_count + 1 if code == doc.reason_code else 1,
        "reason_message": sanitize(outcome.message),
    }
    return enter_state(doc, BreakerState.OPEN, now, probe_at=probe_at, **hanging, **outage)


def retry_probe(doc: Document, context: Context) -> Document:
    """OPEN with another probe soon, because this one was inconclusive."""
    times = doc.inconclusive + 1
    wait = INCONCLUSIVE_WAIT_MS if times < MAX_QUICK_PROBES else context.config.cooldown_ms
    return _open(doc, context, probe_at=context.now + wait, expiries=doc.expiries, inconclusive=times)


def advance_probe(doc: Document, context: Context) -> Document:
    """HALF_OPEN: the probe is superseded, or lost, if its time has come; whichever would have been first, so it does not matter when."""
    if doc.probe_at <= context.now and 0 < doc.probe_at < doc.probe_until and len(doc.superseded) < MAX_SUPERSEDED:
        return _supersede(doc, context)
    return _expire_probe(doc, context) if context.now >= doc.probe_until else doc


def forget_ended(doc: Document, now: int) -> Document:
    """Without the superseded probes whose leases have expired."""
    running = _running(doc.superseded, now)
    return doc if running == doc.superseded else with_changes(doc, now, superseded=running)


def superseded(doc: Document, token: str) -> Superseded | None:
    """The superseded probe with this token."""
    return next((one for one in doc.superseded if one.token == token), None)


def lease_end(doc: Document, permit: Permit) -> int:
    """When the lease of this probe ends, which is the current one or a superseded one; 0 if it has none."""
    if hanging := superseded(doc, permit.token):
        return hanging.until
    return doc.probe_until if permit.token == doc.probe_token else 0


def end_superseded(doc: Document, ended: Superseded, now: int) -> Document:
    """It has ended without a success: that only makes room for another."""
    return with_changes(doc, now, superseded=tuple(one for one in doc.superseded if one is not ended))


def renew_superseded(doc: Document, renewed: Superseded, config: BreakerConfig, now: int, longest_ms: int) -> Document:
    """It still runs, so it takes the place of another."""
    until = _renewed_until(renewed.since, config, now, longest_ms)
    if until <= renewed.until:
        return doc
    return with_changes(doc, now, superseded=tuple(replace(one, until=until) if one is renewed else one for one in doc.superseded))


def renew_probe(doc: Document, config: BreakerConfig, now: int, longest_ms: int) -> Document:
    """Extend the lease of the current probe, or of one that was running when a hold began."""
    until = _renewed_until(doc.probe_since, config, now, longest_ms)
    return with_changes(doc, now, probe_until=until) if until > doc.probe_until else doc


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


def _supersede(doc: Document, context: Context) -> Document:
    """OPEN, and another probe is due: this one hangs. Nothing is proven by that, so nothing else changes."""
    running = _running((*doc.superseded, Superseded(doc.probe_token, doc.probe_since, doc.probe_until)), context.now)
    hung = replace(doc, hung=doc.hung + 1, superseded=running)
    return _open(hung, context, probe_at=doc.probe_at, expiries=doc.expiries, inconclusive=doc.inconclusive)


def _expire_probe(doc: Document, context: Context) -> Document:
    # The wait counts from the end of the lease, so it does not matter when this is noticed.
    times = doc.expiries + 1
    if times < MAX_EXPIRIES:
        return _open(doc, context, probe_at=doc.probe_until, expiries=times, inconclusive=doc.inconclusive)
    cooldown = next_cooldown(doc, context)
    outage: OutageFields = outage_fields(doc) | {"trips": doc.trips + 1, "cooldown_ms": cooldown}
    return enter_state(doc, BreakerState.OPEN, context.now, probe_at=doc.probe_until + cooldown, **hanging_fields(doc), **outage)


def _open(doc: Document, context: Context, *, probe_at: int, expiries: int, inconclusive: int) -> Document:
    """OPEN without anything proven."""
    return enter_state(
        doc,
        BreakerState.OPEN,
        context.now,
        probe_at=probe_at,
        expiries=expiries,
        inconclusive=inconclusive,
        **hanging_fields(doc),
        **outage_fields(doc),
    )


def _running(probes: tuple[Superseded, ...], now: int) -> tuple[Superseded, ...]:
    return tuple(one for one in probes if one.until > now)


def _renewed_until(since: int, config: BreakerConfig, now: int, longest_ms: int) -> int:
    """The end of a renewed lease: at most that of the longest run, plus a little for its outcome to arrive."""
    longest = max(config.probe_max_ms, longest_ms + 2 * config.probe_lease_ms)
    return min(now + config.probe_lease_ms, since + longest)

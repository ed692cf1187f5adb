"""A breaker as it is shown to people."""

from __future__ import annotations

from sickbay.breaker import probes, trip_rule, window
from sickbay.breaker.document import Document
from sickbay.breaker.ramp_state import is_measuring
from sickbay.domain.breaker import BreakerConfig, BreakerState, Snapshot


def snapshot(doc: Document, config: BreakerConfig, now: int, *, total_failures: int = 0, degraded: bool = False) -> Snapshot:
    """The breaker as shown to people; call `machine.catch_up` first for its current state."""
    probe_at = _probe_at(doc)
    limited = doc.ramp if doc.ramp is not None and not is_measuring(doc.ramp) else None
    code, number = trip_rule.most_frequent(trip_rule.within_window(doc.run, config.failure_window_ms, now))
    runs, bad = window.totals(window.recent(doc.calls, config, now)) if config.rate else (0, 0)
    return Snapshot(
        key=doc.key,
        state=doc.state,
        epoch=doc.epoch,
        rev=doc.rev,
        updated_at=doc.updated_at,
        trips=doc.trips,
        opened_at=doc.opened_at or None,
        probe_at=probe_at or None,
        cooldown_elapsed=doc.state is BreakerState.OPEN and now >= probe_at,
        cooldown_ms=doc.cooldown_ms,
        reason_code=doc.reason_code,
        reason_count=doc.reason_count,
        reason_message=doc.reason_message,
        failures_in_row=number,
        failures_in_row_code=code,
        total_failures=total_failures,
        recent_runs=runs if bad else 0,
        recent_failure_rate=bad / runs if bad else None,
        by_rate=config.rate > 0,
        recovering=limited is not None,
        rate=limited.rate / 1_000 if limited is not None else None,
        probe_job_id=doc.probe_job,
        hanging_probes=len(doc.superseded),
        forced_until=doc.until or None,
        forced_by=doc.by,
        forced_why=doc.why,
        would_have_tripped=doc.would_trip,
        degraded=degraded,
        now=now,
    )


def _probe_at(doc: Document) -> int:
    """When the next probe is due: while one runs, it is due if that one hangs; 0 if none is."""
    match doc.state:
        case BreakerState.OPEN:
            return probes.next_probe_at(doc)
        case BreakerState.HALF_OPEN:
            return doc.probe_at
        case _:
            return 0

"""What a producer is told about a breaker that is not CLOSED when it submits a job, and when its job is rejected. Pure."""

from __future__ import annotations

from typing import Final

from sickbay.domain.breaker import BreakerState, Snapshot
from sickbay.domain.errors import ErrorReason, Refused
from sickbay.domain.explain_breaker import sentences_of

LEAST_WAIT_S: Final = 1.0
PROBE_WAIT_S: Final = 5.0
"""While a probe runs nobody knows when it ends."""
HOLD_WAIT_S: Final = 60.0
"""A hold without an end."""
LONGEST_WAIT_S: Final = 3_600.0
"""A hold may be ended before its time, and a cooldown be cut short."""


_LATER: Final = "the job will be parked and run when the circuit closes"
_PROBE_DUE: Final = "the circuit is open and a probe is due: the job may be the probe; otherwise it is parked until the circuit closes"
_NOTES: Final = {
    BreakerState.OPEN: f"the circuit is open: {_LATER}",
    BreakerState.HALF_OPEN: f"the circuit is open and a probe runs: unless that succeeds first, {_LATER}",
    BreakerState.FORCED_OPEN: f"an admin holds the circuit open: {_LATER} after the hold",
    BreakerState.DISABLED: "an admin has disabled the breaker: the job runs, and its failures are not counted",
    BreakerState.METRICS_ONLY: "the breaker only counts: the job runs whatever happens to others",
}


def note_of(breaker: Snapshot) -> str:
    """What happens to a job that is submitted while the breaker is in this state; empty for CLOSED."""
    return _PROBE_DUE if breaker.state is BreakerState.OPEN and breaker.cooldown_elapsed else _NOTES.get(breaker.state, "")


def wait_s(breaker: Snapshot) -> float | None:
    """For how many seconds a job would certainly be parked; None if it may run.

    It may run when a probe is due: if all producers were turned away then, and no job was parked, the circuit would never close. While the
    shared store is unavailable nobody probes.
    """
    match breaker.state:
        case BreakerState.OPEN if breaker.cooldown_elapsed or breaker.probe_at is None:
            return PROBE_WAIT_S if breaker.degraded else None
        case BreakerState.OPEN:
            return _bounded((breaker.probe_at or 0) - breaker.now)
        case BreakerState.HALF_OPEN:
            return PROBE_WAIT_S
        case BreakerState.FORCED_OPEN:
            return HOLD_WAIT_S if breaker.forced_until is None else _bounded(breaker.forced_until - breaker.now)
        case _:
            return None


def rejection_of(breaker: Snapshot) -> Refused | None:
    """The error for a job that is to be rejected rather than parked; None if it may run. The error has the wait until the next probe."""
    wait = wait_s(breaker)
    if wait is None:
        return None
    why = sentences_of(breaker)[0].rstrip(".")
    lower = why[0].lower() + why[1:] if why.startswith("The ") else why
    return Refused(
        f"{lower}; the job was not accepted, because it is to be rejected while its circuit is open",
        ErrorReason.CIRCUIT_OPEN,
        retry_after=wait,
    )


def _bounded(ms: int) -> float:
    """Whole seconds, so that the job is not rejected again at their end."""
    return min(max(float(-(-ms // 1_000)), LEAST_WAIT_S), LONGEST_WAIT_S)

"""What producers are told about a breaker that is not CLOSED, and which jobs are rejected for whom that is wanted."""

from dataclasses import replace

import pytest
from hypothesis import given

from sickbay.domain.breaker import BreakerState
from sickbay.domain.errors import ErrorReason
from sickbay.domain.on_open import note_of, rejection_of, wait_s
from tests.support.explained import OPEN, T0, breaker, snapshots

DUE = replace(OPEN, probe_at=T0, cooldown_elapsed=True)


@pytest.mark.parametrize(
    ("seen", "note"),
    [
        (OPEN, "the circuit is open: the job will be parked and run when the circuit closes"),
        (DUE, "the circuit is open and a probe is due: the job may be the probe; otherwise it is parked until the circuit closes"),
        (
            breaker("HALF_OPEN"),
            "the circuit is open and a probe runs: unless that succeeds first, the job will be parked and run when the circuit closes",
        ),
        (
            breaker("FORCED_OPEN"),
            "an admin holds the circuit open: the job will be parked and run when the circuit closes after the hold",
        ),
        (breaker("DISABLED"), "an admin has disabled the breaker: the job runs, and its failures are not counted"),
        (breaker("METRICS_ONLY"), "the breaker only counts: the job runs whatever happens to others"),
        (breaker("CLOSED"), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else value.state.value,
)
def test_what_happens_to_the_job(seen, note):
    assert note_of(seen) == note


@pytest.mark.parametrize(
    ("seen", "wait"),
    [
        (OPEN, 42.0),
        (replace(OPEN, probe_at=T0 + 10), 1.0),
        (replace(OPEN, probe_at=T0 + 10**9), 3_600.0),
        (DUE, None),
        (replace(DUE, degraded=True), 5.0),
        (breaker("HALF_OPEN"), 5.0),
        (breaker("FORCED_OPEN"), 60.0),
        (breaker("FORCED_OPEN", forced_until=T0 + 7_001), 8.0),
        (breaker("DISABLED"), None),
        (breaker("METRICS_ONLY"), None),
        (breaker("CLOSED", recovering=True), None),
    ],
)
def test_how_long_a_rejected_job_has_to_wait(seen, wait):
    """When a probe is due no job is rejected: without parked jobs there would be nothing to probe with."""
    assert wait_s(seen) == wait
    rejection = rejection_of(seen)
    assert (rejection is None) == (wait is None)
    assert rejection is None or (rejection.retry_after, rejection.reason) == (wait, ErrorReason.CIRCUIT_OPEN)


def test_a_rejection_says_why():
    assert str(rejection_of(breaker("FORCED_OPEN", forced_by="ada", forced_why="maintenance"))) == (
        "the circuit of email is held open by ada (maintenance); the job was not accepted, because it is to be rejected while its "
        "circuit is open"
    )


@given(snapshots)
def test_only_what_would_be_parked_is_rejected(seen):
    wait = wait_s(seen)
    assert wait is None or (seen.state.refuses and 1 <= wait <= 3_600)
    assert bool(note_of(seen)) == (seen.state is not BreakerState.CLOSED)

"""Breakers to explain, and what is said of them."""

from hypothesis import strategies as st

from sickbay.domain.breaker import BreakerKey, BreakerState, Snapshot

T0 = 1_704_067_200_000  # 2024-01-01T00:00:00Z
VERDICT = "If the probe succeeds, the circuit closes and parked jobs come back; if it fails, the circuit waits for another cooldown."
THEN = "then a probe decides whether the circuit closes."
RECOVERING = [
    "The circuit of email is closed and lets jobs in at 12.5 per second at most, because it has just closed again or many runs fail.",
    "Jobs beyond that are parked and released at this rate, which follows what succeeds.",
]
OPENED = "The circuit of email has been open since 23:55:00 UTC (5 m ago), because of 5 failures in a row with API_TIMEOUT: it is silent."
EMAIL = BreakerKey("email")


def breaker(state, key=EMAIL, **fields):
    known = {"opened_at": T0 - 300_000, "reason_code": "API_TIMEOUT", "reason_count": 5, "reason_message": "it is\nsilent."}
    return Snapshot(key, BreakerState(state), 1, 1, T0 - 5_000, now=T0, **((known if "OPEN" in state else {}) | fields))


OPEN = breaker("OPEN", probe_at=T0 + 42_000, cooldown_ms=60_000)


times = st.none() | st.integers(-(2**53), 2**53)
snapshots = st.builds(
    Snapshot,
    key=st.builds(BreakerKey, st.sampled_from(["email", "a"]), st.sampled_from(["default", "acme"])),
    state=st.sampled_from(BreakerState),
    epoch=st.integers(0, 2**53),
    rev=st.integers(0, 2**53),
    updated_at=st.integers(-(2**53), 2**53),
    opened_at=times,
    probe_at=times,
    cooldown_elapsed=st.booleans(),
    cooldown_ms=st.integers(0, 2**40),
    reason_code=st.text(),
    reason_count=st.integers(-1, 2**40),
    reason_message=st.text(),
    failures_in_row=st.integers(0, 2**20),
    failures_in_row_code=st.text(),
    recent_runs=st.integers(0, 2**40),
    recent_failure_rate=st.none() | st.floats(0, 1),
    by_rate=st.booleans(),
    recovering=st.booleans(),
    rate=st.none() | st.floats(0, 1e6),
    probe_job_id=st.text(),
    forced_until=times,
    forced_by=st.text(),
    forced_why=st.text(),
    would_have_tripped=st.integers(0, 2**32),
    degraded=st.booleans(),
    now=st.integers(-(2**53), 2**53),
)

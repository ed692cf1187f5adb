"""Output of breakers for people: a table, the details of one, and one line for each change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.domain.breaker import DEPENDENCY
from sickbay_cli.durations import clock, relative, span
from sickbay_cli.format import REDACTED, breaker_state, join_nonempty, ms, other_tenant, when
from sickbay_cli.output import Cell, Column, details, line, table

_BREAKERS: Final = (
    Column("TYPE"),
    Column("STATE"),
    Column("SINCE", least=50, right=True),
    Column("FAILURES", least=70, right=True),
    Column("", least=60, loose=True),
)


def show_breakers(breakers: Sequence[Breaker], now: int) -> None:
    """Print a table of breakers."""
    table(_BREAKERS, [_row(breaker, now) for breaker in breakers])


def _row(breaker: Breaker, now: int) -> list[Cell]:
    since = relative(ms(breaker, "open_time"), now)
    return [_type_and_tenant(breaker), breaker_state(breaker.state), since, f"{breaker.total_failures:,}", situation(breaker, now)]


def show_breaker(breaker: Breaker, now: int) -> None:
    """Print the details of one breaker."""
    cause = f"{breaker.reason_count} x {breaker.reason_code}" if breaker.reason_code else ""
    details(
        [
            ("type", breaker.job_type),
            ("dependency", breaker.dependency),
            ("shared by", ", ".join(breaker.job_types)),
            ("tenant", other_tenant(breaker.tenant)),
            ("state", breaker_state(breaker.state)),
            ("now", situation(breaker, now)),
            ("opened", when(ms(breaker, "open_time"), now)),
            ("opened by", join_nonempty(": ", cause, breaker.reason_message)),
            ("cooldown", span(breaker.cooldown.ToMilliseconds()) if breaker.HasField("cooldown") else ""),
            ("trips", str(breaker.trips or "")),
            ("failures", f"{breaker.total_failures:,}"),
            ("left out", REDACTED if breaker.redacted else ""),
            ("changed", when(ms(breaker, "update_time"), now)),
        ]
    )


def show_change(breaker: Breaker, now: int) -> None:
    """Print one line of a watch."""
    time = ms(breaker, "update_time") or now
    line((clock(time), "dim"), _type_and_tenant(breaker), breaker_state(breaker.state), situation(breaker, now))


def name_of(breaker: Breaker) -> str:
    """The job type, or those that share the breaker of a dependency: `dependency:smtp (email, sms)`."""
    return f"{DEPENDENCY}{breaker.dependency} ({', '.join(breaker.job_types)})" if breaker.dependency else breaker.job_type


def situation(breaker: Breaker, now: int) -> str:
    """What a breaker is doing, in words; empty for a healthy one."""
    worker = "no live worker handles it" if breaker.waiting_for == "worker" else ""
    return join_nonempty("; ", worker, _activity(breaker, now), "Redis unavailable: local state" if breaker.degraded else "")


def _activity(breaker: Breaker, now: int) -> str:
    match breaker.state:
        case Breaker.STATE_OPEN:
            return _open(breaker, now)
        case Breaker.STATE_HALF_OPEN:
            return _probing(breaker, now)
        case Breaker.STATE_FORCED_OPEN | Breaker.STATE_DISABLED:
            return _held(breaker, now)
        case Breaker.STATE_METRICS_ONLY:
            return join_nonempty(", ", f"would have opened {breaker.would_have_tripped} x", _recent(breaker), _held(breaker, now))
        case _:
            return _running(breaker)


def _open(breaker: Breaker, now: int) -> str:
    cause = f"{breaker.reason_count} x {breaker.reason_code}" if breaker.reason_code else ""
    probe = ms(breaker, "probe_time")
    due = breaker.cooldown_elapsed or probe <= now
    return join_nonempty(", ", cause, "the next job is the probe" if due else f"probe {relative(probe, now)}")


def _probing(breaker: Breaker, now: int) -> str:
    following = ms(breaker, "probe_time")
    hangs = f"the next {relative(following, now)} if it hangs" if following > now else "it hangs" if following else ""
    return join_nonempty(", ", f"probe {breaker.probe_job_id} runs", hangs)


def _held(breaker: Breaker, now: int) -> str:
    by = f"by {breaker.forced_by}" if breaker.forced_by else ""
    until = ms(breaker, "forced_until_time")
    return join_nonempty(": ", join_nonempty(", ", by, f"ends {relative(until, now)}" if until else ""), breaker.forced_why)


def _running(breaker: Breaker) -> str:
    row = f"{breaker.failures_in_row} x {breaker.failures_in_row_code} in a row" if breaker.failures_in_row else ""
    return join_nonempty(", ", _recovering(breaker) if breaker.recovering else "", row, _recent(breaker))


def _recent(breaker: Breaker) -> str:
    rate = breaker.recent_failure_rate
    return f"{rate * 100:.3g} % of {breaker.recent_runs:,} recent runs failed or were slow" if breaker.recent_runs else ""


def _recovering(breaker: Breaker) -> str:
    rate = f", {breaker.admitted_per_second:,.1f} per second" if breaker.admitted_per_second else ""
    return f"recovering: lets jobs in gradually{rate}"


def _type_and_tenant(breaker: Breaker) -> str:
    other = other_tenant(breaker.tenant)
    return f"{name_of(breaker)} ({other})" if other else name_of(breaker)

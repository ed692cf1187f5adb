"""Explains a breaker: why jobs of its type run or do not, since when, and what happens next.

One pure, total function; `sentences_of` is also what the explanation of a job says about its breaker.
"""

from __future__ import annotations

from collections.abc import Sequence

from sickbay.domain.breaker import BreakerState, Snapshot
from sickbay.domain.explanation import BreakerExplanation, BreakerReason, BreakerStep, Explanation, command, owner, quoted, sharers
from sickbay.domain.spans import ago, ahead, span, utc

DEGRADED = (
    "This is the last known state: the shared store (Redis) is unavailable here or to a worker, and until it is back nothing is probed or "
    "released."
)


def explain_breaker(
    breaker: Snapshot, parked: int | None, job_types: Sequence[str] = (), *, lacks_worker: bool = False
) -> BreakerExplanation:
    """Explain a breaker for which `parked` jobs wait (None: unknown), at the time of the snapshot.

    `job_types` are those that share the breaker of a dependency. `lacks_worker`: no live worker handles any of its types.
    """
    reason, step, next_at = _situation(breaker)
    if lacks_worker and (parked or step in {BreakerStep.PROBE, BreakerStep.RELEASE}):
        step, next_at = BreakerStep.WORKER_COMES, None
    sentences = [*sentences_of(breaker, lacks_worker=lacks_worker), *sharers(breaker.key, job_types)]
    if parked:
        fate = f"{'waits' if parked == 1 else 'wait'} for a worker" if lacks_worker else _fate(breaker, parked)
        sentences.append(f"{_count(parked, 'job is', 'jobs are')} parked and {fate}.")
    return Explanation(reason, _since(breaker), step, next_at, tuple(sentences), _commands(breaker))


def sentences_of(breaker: Snapshot, *, lacks_worker: bool = False) -> list[str]:
    """What a breaker does now, why, and what it does next, in sentences; `lacks_worker` as for `explain_breaker`."""
    said = _sentences(breaker)
    if lacks_worker:
        none = f"No live worker handles {owner(breaker.key)}: until one does, nothing of it is probed or released."
        said = [said[0], none, *([_verdict()] if breaker.state is BreakerState.OPEN else said[1:])]
    return [*said, *([DEGRADED] if breaker.degraded else [])]


def _sentences(breaker: Snapshot) -> list[str]:
    circuit = f"The circuit of {owner(breaker.key)}"
    match breaker.state:
        case BreakerState.OPEN:
            return [_opened(breaker, circuit), *_next_probe(breaker)]
        case BreakerState.HALF_OPEN:
            probe = f"Job {breaker.probe_job_id}" if breaker.probe_job_id else "One job"
            runs = f"{probe} runs as the probe now, and other jobs are parked."
            return [_opened(breaker, circuit), runs, *_renewal(breaker), *_hanging(breaker), _verdict()]
        case BreakerState.FORCED_OPEN:
            return [f"{circuit} is held open by {_by(breaker)}{_why(breaker)}.", _end_of_hold(breaker)]
        case BreakerState.DISABLED:
            return [
                f"The breaker of {owner(breaker.key)} was disabled by {_by(breaker)}{_why(breaker)}.",
                "Every job runs until it is set to auto.",
            ]
        case BreakerState.METRICS_ONLY:
            would = f"It would have opened {_count(breaker.would_have_tripped, 'time', 'times')} so far."
            switched = f"The breaker of {owner(breaker.key)} was switched to metrics only by {_by(breaker)}{_why(breaker)}."
            return [switched, "Every job runs until it is set to auto.", would]
        case BreakerState.CLOSED:
            return _closed(breaker, circuit)


def _closed(breaker: Snapshot, circuit: str) -> list[str]:
    said = [f"{circuit} is closed: its jobs run."]
    if breaker.recovering:
        most = "gradually" if breaker.rate is None else f"at {breaker.rate:,.1f} per second at most"
        said = [
            f"{circuit} is closed and lets jobs in {most}, because it has just closed again or many runs fail.",
            "Jobs beyond that are parked and released at this rate, which follows what succeeds.",
        ]
    if breaker.failures_in_row:
        failed = f"{_count(breaker.failures_in_row, 'job has', 'jobs have')} failed in a row with {breaker.failures_in_row_code}"
        said.append(f"{failed}; if more do, it opens.")
    if breaker.recent_failure_rate is not None:
        share = f"{breaker.recent_failure_rate * 100:.3g} % of the {breaker.recent_runs:,} recent runs"
        said.append(f"{share} failed or were slow; if it becomes more, the circuit may open.")
    return said


def _opened(breaker: Snapshot, circuit: str) -> str:
    at, now = breaker.opened_at, breaker.now
    is_open = f"has been open since {utc(at, now)} ({ago(at, now)})" if at else "is open"
    return f"{circuit} {is_open}{_cause(breaker)}."


def _cause(breaker: Snapshot) -> str:
    if not breaker.reason_code:
        return ""
    if breaker.by_rate:
        bad = _count(breaker.reason_count, "recent run that failed or was slow", "recent runs that failed or were slow")
        return f", because of {bad}, the last with {quoted(breaker.reason_code, breaker.reason_message)}"
    failed = _count(breaker.reason_count, "failure", "failures in a row")
    return f", because of {failed} with {quoted(breaker.reason_code, breaker.reason_message)}"


def _next_probe(breaker: Snapshot) -> list[str]:
    if breaker.cooldown_elapsed or breaker.probe_at is None:
        how = (
            "it is sent when the store is back"
            if breaker.degraded
            else "the oldest parked job is sent as the probe, or the next new one is"
        )
        return [f"A probe is due: {how}.", *_hanging(breaker), _verdict()]
    again = f" after a cooldown of {span(breaker.cooldown_ms)}" if breaker.cooldown_ms else ""
    when = ahead(breaker.probe_at, breaker.now)
    return [f"The next probe is {when}{again}: the oldest parked job, or the next new one.", *_hanging(breaker), _verdict()]


def _renewal(breaker: Snapshot) -> list[str]:
    """When a probe that runs is taken to hang."""
    if breaker.probe_at is None:
        return []
    if breaker.probe_at <= breaker.now:
        return ["It takes too long; another job becomes the probe when one of those that run has ended."]
    return [f"If it has not ended {ahead(breaker.probe_at, breaker.now)}, it is taken to hang, and another job becomes the probe."]


def _hanging(breaker: Snapshot) -> list[str]:
    """Earlier probes that another has taken the place of."""
    if not breaker.hanging_probes:
        return []
    one, many = "earlier probe has not ended yet, and its success", "earlier probes have not ended yet, and the success of one"
    return [f"{_count(breaker.hanging_probes, one, many)} still counts."]


def _verdict() -> str:
    return "If the probe succeeds, the circuit closes and parked jobs come back; if it fails, the circuit waits for another cooldown."


def _by(breaker: Snapshot) -> str:
    return breaker.forced_by or "an admin"


def _why(breaker: Snapshot) -> str:
    return f" ({quoted('', breaker.forced_why)})" if breaker.forced_why.strip() else ""


def _end_of_hold(breaker: Snapshot) -> str:
    auto = f"`{command('auto', breaker.key)}`"
    if breaker.forced_until is None:
        return f"It stays open until somebody ends the hold ({auto}); then a probe decides whether it closes."
    end = f"{ahead(breaker.forced_until, breaker.now)}, at {utc(breaker.forced_until, breaker.now)}"
    return f"The hold ends {end}, or earlier with {auto}; then a probe decides whether the circuit closes."


def _situation(breaker: Snapshot) -> tuple[BreakerReason, BreakerStep, int | None]:  # noqa: PLR0911 - one for each case
    match breaker.state:
        case BreakerState.OPEN if breaker.cooldown_elapsed or breaker.probe_at is None:
            return BreakerReason.PROBE_DUE, BreakerStep.PROBE, breaker.probe_at
        case BreakerState.OPEN:
            return BreakerReason.COOLDOWN, BreakerStep.PROBE, breaker.probe_at
        case BreakerState.HALF_OPEN:
            return BreakerReason.PROBE_RUNNING, BreakerStep.PROBE_ENDS, None
        case BreakerState.FORCED_OPEN:
            return BreakerReason.FORCED_OPEN, BreakerStep.HOLD_ENDS, breaker.forced_until
        case BreakerState.DISABLED:
            return BreakerReason.DISABLED, BreakerStep.PERSON_DECIDES, None
        case BreakerState.METRICS_ONLY:
            return BreakerReason.METRICS_ONLY, BreakerStep.PERSON_DECIDES, None
        case BreakerState.CLOSED if breaker.recovering:
            return BreakerReason.RECOVERING, BreakerStep.RELEASE, None
        case BreakerState.CLOSED if breaker.failures_in_row or breaker.recent_runs:
            return BreakerReason.FAILING, BreakerStep.MAY_OPEN, None
        case BreakerState.CLOSED:
            return BreakerReason.HEALTHY, BreakerStep.NONE, None


def _since(breaker: Snapshot) -> int | None:
    """An outage lasts from its opening, whatever the breaker did since; other states from the last change."""
    return (breaker.opened_at if breaker.state.refuses else None) or breaker.updated_at or None


def _fate(breaker: Snapshot, parked: int) -> str:
    if not breaker.state.refuses:
        return f"{'is' if parked == 1 else 'are'} being released, oldest first, tenants in turn"
    return f"{'waits' if parked == 1 else 'wait'} until the circuit closes"


def _commands(breaker: Snapshot) -> tuple[str, ...]:
    match breaker.state:
        case BreakerState.OPEN if not breaker.cooldown_elapsed:
            return command("probe", breaker.key), command("reset", breaker.key)
        case BreakerState.OPEN | BreakerState.HALF_OPEN:
            return (command("reset", breaker.key),)
        case BreakerState.FORCED_OPEN | BreakerState.DISABLED | BreakerState.METRICS_ONLY:
            return (command("auto", breaker.key),)
        case BreakerState.CLOSED:
            return ()


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"

"""The circuit breaker as a pure state machine: each operation takes the document and the time, and returns the next document and a reply.

    CLOSED --a run of failures--> OPEN --cooldown over: one probe--> HALF_OPEN --probe succeeded--> CLOSED (ramp)
                                   ^-- failed, inconclusive, lost or hanging --'

A probe that is running when an admin forces the breaker open is remembered: no other is granted before it has ended or its lease has
expired. Its outcome changes nothing any more. Where every job may run (CLOSED, DISABLED, METRICS_ONLY) it is forgotten: there it is one
of many.

An operation that changes nothing returns the same object, so `new is old` shows that there is nothing to store.
The document is in `document.py`, the trip rules in `trip_rule.py` (`consecutive`) and `window.py` (`rate`), the transitions between states
in `transitions.py`, and those of the probe in `probes.py`.
Randomness comes from the caller: `jitter` is a number from 0 to 1000, and the caller draws a probe's token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Unpack

from sickbay.breaker import durations, probes, transitions, trip_rule, window
from sickbay.breaker import ramp as ramps
from sickbay.breaker.commands import command
from sickbay.breaker.cooldown import Context, next_wait
from sickbay.breaker.document import Changes, Document, new_document, sanitize_job_id, with_changes
from sickbay.breaker.document_json import from_json, to_json
from sickbay.breaker.probes import lease_end
from sickbay.breaker.snapshot import snapshot
from sickbay.breaker.window import Calls
from sickbay.domain.breaker import BreakerConfig, BreakerState, Permit, PermitKind, Refusal
from sickbay.domain.outcome import Outcome, OutcomeKind

__all__ = [
    "AdmitRequest",
    "Document",
    "Effect",
    "admit",
    "catch_up",
    "command",
    "from_json",
    "lease_end",
    "needs_settling",
    "new_document",
    "normal_permit",
    "renew",
    "reserve",
    "settle",
    "snapshot",
    "to_json",
]

LIMITED_SHARE: Final = 100
"""If usually at least this share of the runs fails (thousandths), a closed breaker limits them to what succeeds, if that helps."""


class Effect(StrEnum):
    """The effect of an outcome on the breaker."""

    NOTHING = "nothing"
    STALE = "stale"
    """The permit is of an old epoch or has the wrong token: nothing changed."""
    COUNTED = "counted"
    RESET = "reset"
    """A success ended the run, or advanced the ramp."""
    TRIPPED = "tripped"
    WOULD_TRIP = "would-trip"
    CLOSED = "closed"
    REOPENED = "reopened"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class AdmitRequest:
    """A worker's request to run a job; `token` becomes the probe's token if the probe is granted, and must be unique."""

    job_id: str
    token: str
    worker: str = ""
    jitter: int = 0
    longest_ms: int = 0
    """How long the run may take; 0 if unknown."""
    released: bool = False
    """Whether it was parked and has been released."""
    usual_ms: int = 0
    """How long a successful run usually takes; 0 if unknown."""


def catch_up(doc: Document, config: BreakerConfig, now: int, *, jitter: int = 0) -> Document:
    """Apply what is due by time alone: an expired probe lease, the end of a forced hold, the reset of a grown cooldown.

    Every operation does this first.
    """
    if doc.is_at_rest and now >= doc.updated_at:
        return doc
    return transitions.advance_clock(doc, Context(config, now, jitter))


def admit(doc: Document, request: AdmitRequest, config: BreakerConfig, now: int) -> tuple[Document, Permit | Refusal]:
    """Admit or refuse a job. Once a cooldown is over exactly one caller gets the probe, until its lease expires."""
    if doc.admits_all:
        return doc, normal_permit(doc, request.job_id)
    context = Context(config, now, request.jitter)
    doc = transitions.advance_clock(doc, context)
    if doc.admits_all:
        return doc, normal_permit(doc, request.job_id)
    if doc.ramp is not None:
        ramp, granted = ramps.take(doc.ramp, now, released=request.released)
        if ramp is not doc.ramp:
            doc = with_changes(doc, now, ramp=ramp)
        if granted:
            return doc, Permit(doc.key, PermitKind.RAMP, doc.epoch, request.job_id)
    elif doc.state is BreakerState.OPEN and now >= probes.next_probe_at(doc):
        patience_ms = probes.patience(request.usual_ms, request.longest_ms)
        doc = probes.grant_probe(doc, context, request.token, request.worker, request.job_id, patience_ms=patience_ms)
        return doc, Permit(doc.key, PermitKind.PROBE, doc.epoch, request.job_id, request.token, doc.probe_until - now, request.longest_ms)
    return doc, Refusal(doc.key, doc.state)


def reserve(doc: Document, wanted: int, config: BreakerConfig, now: int, *, jitter: int = 0, arrivals: int = 0) -> tuple[Document, int]:
    """How many of `wanted` parked jobs may be released now; what is reserved is offered to nobody else for a second.

    `arrivals`: how many jobs came while it was open, in thousandths per second; 0 if unknown.
    """
    doc = transitions.advance_clock(doc, Context(config, now, jitter))
    if doc.ramp is None:
        return doc, wanted if doc.admits_all else 0
    ramp, granted = ramps.reserve(doc.ramp, now, wanted, arrivals)
    return (with_changes(doc, now, ramp=ramp) if ramp is not doc.ramp else doc), granted


def normal_permit(doc: Document, job_id: str) -> Permit:
    """The permit of a breaker that `admits_all`; the healthy path is this line and nothing else."""
    return Permit(doc.key, PermitKind.NORMAL, doc.epoch, job_id)


def needs_settling(doc: Document, permit: Permit, outcome: Outcome) -> bool:
    """Whether an outcome must be settled at all; a success of a quiet breaker need not be."""
    return not doc.is_quiet or outcome.kind is not OutcomeKind.SUCCESS or permit.epoch != doc.epoch


def settle(
    doc: Document,
    permit: Permit,
    outcome: Outcome,
    config: BreakerConfig,
    now: int,
    *,
    jitter: int = 0,
    watermark: int | None = None,
    share: int = 0,
    took_ms: int = 0,
    earlier: Calls = (),
    usual_ms: int = 0,
) -> tuple[Document, Effect]:
    """Apply the outcome of a run.

    `watermark` is the `seq` that the reporter knew when the run succeeded: later failures stay. None means that it knew all of them.
    `share` of its runs usually fails, in thousandths (`usual.py`). With the policy `rate`, the run took `took_ms`, and `earlier` are those
    of the same epoch that the reporter has not reported yet (`tally.py`); without a bad run among them all or this one, it keeps them.
    A successful run usually takes `usual_ms` (0: unknown): a ramp does not grow while most take much longer.
    """
    if not (needs_settling(doc, permit, outcome) or earlier or window.is_bad(outcome, took_ms, config)):
        return doc, Effect.NOTHING
    context = Context(config, now, jitter)
    doc = transitions.advance_clock(doc, context)
    if _is_stale(doc, permit):
        return _settle_stale(doc, permit, outcome, context)
    if doc.state is BreakerState.HALF_OPEN:
        return _settle_probe(doc, outcome, context)
    if config.rate and doc.ramp is None and doc.state is not BreakerState.DISABLED:
        return _record_run(doc, outcome, took_ms, earlier, context)
    if outcome.kind is OutcomeKind.SUCCESS:
        slow = durations.is_slow(took_ms, usual_ms)
        return _record_success(doc, doc.seq if watermark is None else watermark, share, context, slow=slow)
    return _record_in_row(doc, permit, outcome, context, share=share)


def _record_in_row(doc: Document, permit: Permit, outcome: Outcome, context: Context, *, share: int) -> tuple[Document, Effect]:
    """The policy `consecutive`; also while there is a ramp."""
    if outcome.kind.is_breaker_failure and doc.state is not BreakerState.DISABLED:
        return _record_failure(doc, permit, outcome, share, context)
    now = context.now
    return (with_changes(doc, now, ramp=ramps.pass_over(doc.ramp, now)) if doc.ramp is not None else doc), Effect.NOTHING


def renew(doc: Document, permit: Permit, config: BreakerConfig, now: int, *, jitter: int = 0) -> tuple[Document, bool]:
    """Extend a probe's lease, at most to its maximum; False if the probe is not (or no longer) this permit's. A superseded one goes on."""
    doc = transitions.advance_clock(doc, Context(config, now, jitter))
    if superseded := probes.superseded(doc, permit.token):
        return probes.renew_superseded(doc, superseded, config, now, permit.longest_ms), True
    is_mine = doc.state is BreakerState.HALF_OPEN and not _is_stale(doc, permit)
    if not is_mine and not _is_probe_under_hold(doc, permit):
        return doc, False
    return probes.renew_probe(doc, config, now, permit.longest_ms), True


def _is_stale(doc: Document, permit: Permit) -> bool:
    if permit.epoch != doc.epoch or permit.token != doc.probe_token:
        return True
    return doc.state is BreakerState.OPEN or doc.state is BreakerState.FORCED_OPEN  # no job was admitted in this epoch


def _is_probe_under_hold(doc: Document, permit: Permit) -> bool:
    """Whether this is the probe that was running when an admin forced the breaker open."""
    return doc.state is not BreakerState.HALF_OPEN and permit.token != "" and permit.token == doc.probe_token


def _settle_stale(doc: Document, permit: Permit, outcome: Outcome, context: Context) -> tuple[Document, Effect]:
    """The success of a superseded probe closes the breaker as that of the current one does; nothing else counts."""
    if superseded := probes.superseded(doc, permit.token):
        if outcome.kind is OutcomeKind.SUCCESS:
            return transitions.close(doc, context), Effect.CLOSED
        return probes.end_superseded(doc, superseded, context.now), Effect.STALE
    return (with_changes(doc, context.now, **probes.NO_PROBE) if _is_probe_under_hold(doc, permit) else doc), Effect.STALE


def _settle_probe(doc: Document, outcome: Outcome, context: Context) -> tuple[Document, Effect]:
    if outcome.kind is OutcomeKind.SUCCESS:
        return transitions.close(doc, context), Effect.CLOSED
    if outcome.kind.is_breaker_failure:
        return probes.reopen(doc, context, outcome, trip_rule.fold_code((), outcome.code)), Effect.REOPENED
    return probes.retry_probe(doc, context), Effect.INCONCLUSIVE


def _record_success(doc: Document, watermark: int, share: int, context: Context, *, slow: bool) -> tuple[Document, Effect]:
    run, now = trip_rule.after_watermark(doc.run, watermark), context.now
    if len(run) == len(doc.run) and doc.ramp is None:
        return doc, Effect.NOTHING
    if doc.ramp is None and share >= LIMITED_SHARE and context.config.ramp and doc.state is BreakerState.CLOSED:
        return with_changes(doc, now, run=run, ramp=ramps.measure(now)), Effect.RESET
    return _with_new_rate(doc, now, ramp=doc.ramp and ramps.succeed(doc.ramp, now, slow=slow), run=run), Effect.RESET


def _record_failure(doc: Document, permit: Permit, outcome: Outcome, share: int, context: Context) -> tuple[Document, Effect]:
    config, now, metrics_only = context.config, context.now, doc.state is BreakerState.METRICS_ONLY
    if metrics_only and now < doc.probe_at:
        return doc, Effect.NOTHING  # had the breaker really opened, this job would not have run
    recent = trip_rule.within_window(doc.run, config.failure_window_ms, now)
    code, seq = trip_rule.fold_code(recent, outcome.code), doc.seq + 1
    run = trip_rule.add_failure(recent, code, config.failure_threshold, seq=seq, at=now, job=sanitize_job_id(permit.job_id))
    confirm_ms = config.trip_confirm_ms if doc.ramp is None else max(config.trip_confirm_ms, ramps.CONFIRM_MS)
    if not trip_rule.should_trip(run, code, config, now, confirm_ms=confirm_ms, share=share) and not outcome.is_rate_limit:
        return _with_new_rate(doc, now, ramp=doc.ramp and ramps.fail(doc.ramp, now), seq=seq, run=run), Effect.COUNTED
    if metrics_only:
        shadow_until = now + next_wait(doc, context, outcome)
        return with_changes(doc, now, seq=seq, run=(), would_trip=doc.would_trip + 1, probe_at=shadow_until), Effect.WOULD_TRIP
    return transitions.trip(replace(doc, seq=seq), context, outcome, code, trip_rule.count(run, code)), Effect.TRIPPED


def _record_run(doc: Document, outcome: Outcome, took_ms: int, earlier: Calls, context: Context) -> tuple[Document, Effect]:
    """The policy `rate`: a run that is good, or says nothing, never opens the breaker."""
    config, now, metrics_only = context.config, context.now, doc.state is BreakerState.METRICS_ONLY
    if outcome.kind is OutcomeKind.CANCELLED or (metrics_only and now < doc.probe_at):
        return doc, Effect.NOTHING
    bad = window.is_bad(outcome, took_ms, config)
    if not bad and not earlier and not window.has_bad(doc.calls):
        return (with_changes(doc, now, run=()), Effect.COUNTED) if doc.run else (doc, Effect.NOTHING)
    calls = window.merged((*doc.calls, *earlier, window.one(now, bad=bad)), config, now)
    if not outcome.kind.is_breaker_failure:
        outcome = Outcome(outcome.kind, window.SLOW_CALLS, f"a run took {took_ms} ms")
    if not (bad and (window.is_reached(calls, config) or outcome.is_rate_limit)):
        return with_changes(doc, now, calls=calls, run=()), Effect.COUNTED
    if metrics_only:
        shadow_until = now + next_wait(doc, context, outcome)
        return with_changes(doc, now, calls=(), run=(), would_trip=doc.would_trip + 1, probe_at=shadow_until), Effect.WOULD_TRIP
    code, number = trip_rule.fold_code((), outcome.code), window.totals(calls)[1]
    return transitions.trip(doc, context, outcome, code, number), Effect.TRIPPED


def _with_new_rate(doc: Document, now: int, **changes: Unpack[Changes]) -> Document:
    """After a cut, permits from before it are stale: their outcomes say nothing about the new rate."""
    changed = with_changes(doc, now, **changes)
    is_cut = doc.ramp is not None and changed.ramp is not None and changed.ramp.cut_at != doc.ramp.cut_at
    return replace(changed, epoch=max(doc.epoch + 1, now)) if is_cut else changed

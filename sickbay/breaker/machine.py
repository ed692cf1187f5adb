"""The circuit breaker as a pure machine: each operation takes the document and the time, and gives the next document and a reply.

    CLOSED --a run of failures--> OPEN --cooldown over: one probe--> HALF_OPEN --probe succeeded--> CLOSED (ramp)
                                   ^------ failed, inconclusive or lost -------'

A probe that is under way when an admin holds the circuit open is remembered through the hold: no other goes out before it has come to
its end, or its lease has. Its verdict moves nothing any more. Where every job may run (CLOSED, DISABLED, METRICS_ONLY) it is forgotten:
there it is one of many.

An operation that changes nothing returns the very same document, so `new is old` tells whether there is anything to store.
The document is `document.py`, the trip rule `trip_rule.py`, the transitions between states `transitions.py`.
Chance comes in from the caller: `jitter` is a number from 0 to 1000, and a probe's token is drawn by whoever asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from sickbay.breaker import transitions, trip_rule
from sickbay.breaker.document import Document, Ramp, enter_state, from_json, new_document, sanitize, sanitize_job_id, to_json, with_changes
from sickbay.breaker.transitions import Turn
from sickbay.domain.breaker import Action, BreakerConfig, BreakerState, Command, Permit, PermitKind, Refusal, Snapshot
from sickbay.domain.outcome import Outcome, OutcomeKind

__all__ = [
    "Ask",
    "Document",
    "Effect",
    "admit",
    "catch_up",
    "command",
    "from_json",
    "is_news",
    "new_document",
    "normal_permit",
    "renew",
    "settle",
    "snapshot",
    "to_json",
]

MAX_ACTOR_CHARS: Final = 128


class Effect(StrEnum):
    """What an outcome did to the circuit."""

    NOTHING = "nothing"
    STALE = "stale"
    """The permit is of an old epoch or has the wrong token: nothing moved."""
    COUNTED = "counted"
    RESET = "reset"
    """A success ended the run, or brought the ramp forward."""
    TRIPPED = "tripped"
    WOULD_TRIP = "would-trip"
    CLOSED = "closed"
    REOPENED = "reopened"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks to run which job; `token` becomes the probe's if this asker gets it, and must be unique."""

    job_id: str
    token: str
    worker: str = ""
    jitter: int = 0
    longest_ms: int = 0
    """How long the run may take; 0 if nobody knows."""


def catch_up(doc: Document, config: BreakerConfig, now: int, *, jitter: int = 0) -> Document:
    """See what time alone has done: a lost prober, the end of a forced hold, forgotten growth. Every operation begins so."""
    return transitions.advance_clock(doc, Turn(config, now, jitter))


def admit(doc: Document, ask: Ask, config: BreakerConfig, now: int) -> tuple[Document, Permit | Refusal]:
    """Let a job run or not. Once a cooldown is over exactly one asker gets the probe, as long as its lease lives."""
    if doc.admits_all:
        return doc, normal_permit(doc, ask.job_id)
    turn = Turn(config, now, ask.jitter)
    doc = transitions.advance_clock(doc, turn)
    if doc.admits_all:
        return doc, normal_permit(doc, ask.job_id)
    if doc.ramp is not None:
        ramp = transitions.ramp_granted(doc.ramp, now)
        if ramp is not None:
            return with_changes(doc, now, ramp=ramp), Permit(doc.key, PermitKind.RAMP, doc.epoch, ask.job_id)
    elif doc.state is BreakerState.OPEN and now >= transitions.free_at(doc):
        doc = transitions.grant_probe(doc, turn, ask.token, ask.worker, ask.job_id)
        return doc, Permit(doc.key, PermitKind.PROBE, doc.epoch, ask.job_id, ask.token, doc.probe_until - now, ask.longest_ms)
    return doc, Refusal(doc.key, doc.state)


def normal_permit(doc: Document, job_id: str) -> Permit:
    """The permit that a circuit which `admits_all` gives without being asked; the healthy path is this line and nothing else."""
    return Permit(doc.key, PermitKind.NORMAL, doc.epoch, job_id)


def is_news(doc: Document, permit: Permit, outcome: Outcome) -> bool:
    """Whether an outcome must be settled at all; not so a success of a circuit that has nothing to forget."""
    return not doc.is_quiet or outcome.kind is not OutcomeKind.SUCCESS or permit.epoch != doc.epoch


def settle(
    doc: Document, permit: Permit, outcome: Outcome, config: BreakerConfig, now: int, *, jitter: int = 0, watermark: int | None = None
) -> tuple[Document, Effect]:
    """Take in what a run came to.

    `watermark` is the `seq` its reporter knew when the run succeeded: later failures stay. None means all of them were known.
    """
    if not is_news(doc, permit, outcome):
        return doc, Effect.NOTHING
    turn = Turn(config, now, jitter)
    doc = transitions.advance_clock(doc, turn)
    if _is_stale(doc, permit):
        return (with_changes(doc, now, **transitions.NO_PROBE) if _outlasts_a_hold(doc, permit) else doc), Effect.STALE
    if doc.state is BreakerState.HALF_OPEN:
        return _judged(doc, outcome, turn)
    if outcome.kind is OutcomeKind.SUCCESS:
        return _succeeded(doc, now, doc.seq if watermark is None else watermark)
    if outcome.kind.counts and doc.state is not BreakerState.DISABLED:
        return _failed(doc, permit, outcome, turn)
    return doc, Effect.NOTHING


def renew(doc: Document, permit: Permit, config: BreakerConfig, now: int, *, jitter: int = 0) -> tuple[Document, bool]:
    """Extend a probe's lease, never beyond its longest time; False if the probe is not (or no longer) this permit's."""
    doc = transitions.advance_clock(doc, Turn(config, now, jitter))
    is_mine = doc.state is BreakerState.HALF_OPEN and not _is_stale(doc, permit)
    if not is_mine and not _outlasts_a_hold(doc, permit):
        return doc, False
    until = min(now + config.probe_lease_ms, doc.probe_since + transitions.longest(config, permit.longest_ms))
    return (with_changes(doc, now, probe_until=until) if until > doc.probe_until else doc), True


def command(doc: Document, order: Command, config: BreakerConfig, now: int, *, jitter: int = 0) -> Document:
    """Carry out an admin's command. Only RESET closes a circuit that is held open; AUTO and the hold's end lead to a probe."""
    doc = transitions.advance_clock(doc, Turn(config, now, jitter))
    by, why = sanitize(order.by, MAX_ACTOR_CHARS), sanitize(order.why)
    if order.action is Action.RESET:
        return enter_state(doc, BreakerState.CLOSED, now)
    if order.action is Action.AUTO:
        return _automatic(doc, now)
    if order.action is Action.FORCE_OPEN:
        until = 0 if order.duration_ms is None else now + order.duration_ms
        return enter_state(
            doc,
            BreakerState.FORCED_OPEN,
            now,
            trips=doc.trips,
            opened_at=doc.opened_at or now,
            cooldown_ms=doc.cooldown_ms,
            until=until,
            by=by,
            why=why,
            **transitions.under_way(doc),
        )
    state = BreakerState.DISABLED if order.action is Action.DISABLE else BreakerState.METRICS_ONLY
    return enter_state(doc, state, now, would_trip=doc.would_trip, by=by, why=why)


def snapshot(doc: Document, config: BreakerConfig, now: int, *, total_failures: int = 0, degraded: bool = False) -> Snapshot:
    """The circuit as people see it; `catch_up` first to see it as it is now."""
    is_open = doc.state is BreakerState.OPEN
    code, number = trip_rule.longest(trip_rule.within(doc.run, config.failure_window_ms, now))
    return Snapshot(
        key=doc.key,
        state=doc.state,
        epoch=doc.epoch,
        rev=doc.rev,
        updated_at=doc.updated_at,
        trips=doc.trips,
        opened_at=doc.opened_at or None,
        probe_at=transitions.free_at(doc) if is_open else None,
        cooldown_elapsed=is_open and now >= transitions.free_at(doc),
        cooldown_ms=doc.cooldown_ms,
        reason_code=doc.reason_code,
        reason_count=doc.reason_count,
        reason_message=doc.reason_message,
        failures_in_row=number,
        failures_in_row_code=code,
        total_failures=total_failures,
        recovering=doc.ramp is not None,
        probe_job_id=doc.probe_job,
        forced_until=doc.until or None,
        forced_by=doc.by,
        forced_why=doc.why,
        would_have_tripped=doc.would_trip,
        degraded=degraded,
        now=now,
    )


def _is_stale(doc: Document, permit: Permit) -> bool:
    if permit.epoch != doc.epoch or permit.token != doc.probe_token:
        return True
    return doc.state is BreakerState.OPEN or doc.state is BreakerState.FORCED_OPEN  # nobody was let in in this epoch


def _outlasts_a_hold(doc: Document, permit: Permit) -> bool:
    """Whether this is the probe that was under way when an admin held the circuit open."""
    return doc.state is not BreakerState.HALF_OPEN and permit.token != "" and permit.token == doc.probe_token


def _judged(doc: Document, outcome: Outcome, turn: Turn) -> tuple[Document, Effect]:
    if outcome.kind is OutcomeKind.SUCCESS:
        return transitions.closed(doc, turn), Effect.CLOSED
    if outcome.kind.counts:
        return transitions.reopened(doc, turn, outcome, trip_rule.folded((), outcome.code)), Effect.REOPENED
    return transitions.probe_inconclusive(doc, turn), Effect.INCONCLUSIVE


def _succeeded(doc: Document, now: int, watermark: int) -> tuple[Document, Effect]:
    run, ramp = trip_rule.above(doc.run, watermark), transitions.ramp_succeeded(doc.ramp)
    if len(run) == len(doc.run) and ramp == doc.ramp:
        return doc, Effect.NOTHING
    return with_changes(doc, now, run=run, ramp=ramp), Effect.RESET


def _failed(doc: Document, permit: Permit, outcome: Outcome, turn: Turn) -> tuple[Document, Effect]:
    config, now, watching = turn.config, turn.now, doc.state is BreakerState.METRICS_ONLY
    if watching and now < doc.probe_at:
        return doc, Effect.NOTHING  # had it opened as it would have, this job would not have run
    recent = trip_rule.within(doc.run, config.failure_window_ms, now)
    code, seq = trip_rule.folded(recent, outcome.code), doc.seq + 1
    run = trip_rule.added(recent, code, config.failure_threshold, seq=seq, at=now, job=sanitize_job_id(permit.job_id))
    ramp = doc.ramp and replace(doc.ramp, failures=doc.ramp.failures + 1)
    if not trip_rule.is_complete(run, code, config, now) and not _ramp_failed(ramp) and not outcome.is_rate_limit:
        return with_changes(doc, now, seq=seq, run=run, ramp=ramp), Effect.COUNTED
    if watching:
        shadow_until = now + transitions.next_wait(doc, turn, outcome)
        return with_changes(doc, now, seq=seq, run=(), would_trip=doc.would_trip + 1, probe_at=shadow_until), Effect.WOULD_TRIP
    return transitions.tripped(replace(doc, seq=seq), turn, outcome, code, trip_rule.count(run, code)), Effect.TRIPPED


def _ramp_failed(ramp: Ramp | None) -> bool:
    return ramp is not None and ramp.failures >= transitions.RAMP_FAILURES


def _automatic(doc: Document, now: int) -> Document:
    if doc.state is BreakerState.FORCED_OPEN:
        return transitions.probe_due(doc, now, now)
    if doc.state in {BreakerState.DISABLED, BreakerState.METRICS_ONLY}:
        return enter_state(doc, BreakerState.CLOSED, now)
    return doc

"""Classifies an exception of a handler: error code, kind, and the wait it asks for. Total: it never raises, whatever the exception does.

- The handler's own mapping comes first, then JobError, then well-known exceptions (`known`); else the code is derived from the class's
  name and the kind is unknown.
- An unclassified exception raised `from` another is classified by that one. `__context__` is ignored: an error while handling a failure is
  a failure of its own.
- A group is classified by its leaves: explicit ones (the handler's mapping, a JobError) before inferred ones, then the worse kind
  (systemic, transient, unknown, data), then the first. Its wait is the longest of its leaves'.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from sickbay.domain.errors import JobError
from sickbay.domain.failure import MAX_MESSAGE_CHARS
from sickbay.domain.job import Job, is_code
from sickbay.domain.outcome import Outcome, OutcomeKind, kind_of
from sickbay.domain.raised import (
    Redact,
    attribute,
    causes,
    class_name,
    classes,
    clean,
    is_a,
    leaves,
    message_of,
    parts,
    plain,
    short,
    text_of,
    unchanged,
    wait_ms,
)
from sickbay.handlers.known import asked_wait_ms, known_of
from sickbay.handlers.registry import HandlerSpec

T = TypeVar("T")
_MAX_NESTED: Final = 3
"""How deep groups that are causes of leaves of groups are followed."""
_WORST: Final = {
    kind: rank for rank, kind in enumerate((OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.UNKNOWN, OutcomeKind.DATA))
}
_CANCELLATIONS: Final = (asyncio.CancelledError, GeneratorExit)
"""Raised in tasks beside the one that failed; decides only if there is nothing else."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The classification of `error`: `explicit` by the handler itself, `known` in general, or neither; `others`: how many other leaves."""

    error: BaseException
    code: str
    kind: OutcomeKind
    wait_ms: int | None = None
    explicit: bool = False
    known: bool = True
    sure: bool = True
    message: str | None = None
    others: int = 0

    @property
    def order(self) -> tuple[bool, bool, int]:
        """The least of a group's leaves decides for it."""
        return (any(is_a(self.error, cls) for cls in _CANCELLATIONS), not self.explicit, _WORST[self.kind])


def classify(error: BaseException, spec: HandlerSpec, redact: Redact = unchanged) -> Outcome:
    """The outcome for `error`: its code is valid, its message is text of at most 500 characters, without secrets."""
    try:
        verdict = _judge(error, spec)
        message = message_of(verdict.error) if verdict.message is None else verdict.message
        more = f" (and {verdict.others} more)" if verdict.others else ""
        return Outcome(verdict.kind, verdict.code, short(message, redact, MAX_MESSAGE_CHARS - len(more)) + more, verdict.wait_ms)
    except BaseException as broken:  # noqa: BLE001 - a job must end whatever its handler raises
        return Outcome(OutcomeKind.UNKNOWN, "ERROR", clean(f"{class_name(type(error))} (cannot be read: {class_name(type(broken))})"))


def timed_out(seconds: float, spec: HandlerSpec, more: str = "") -> Outcome:
    """The outcome of a run that took longer than its timeout."""
    code = "HANDLER_TIMEOUT"
    text = f"the handler timed out after {seconds:g} s" + (f"; {more}" if more else "")
    return Outcome(spec.kinds.get(code, kind_of(code)), code, text[:MAX_MESSAGE_CHARS])


def blame_unreadable_payload(outcome: Outcome, job: Job, spec: HandlerSpec) -> Outcome:
    """The outcome; if the run failed after its payload could not be read, the outcome PAYLOAD_UNREADABLE, which is the job's own fault."""
    if not job.unreadable or outcome.kind in {OutcomeKind.SUCCESS, OutcomeKind.CANCELLED}:
        return outcome
    code = "PAYLOAD_UNREADABLE"
    return replace(outcome, kind=spec.kinds.get(code, kind_of(code)), code=code, message=job.unreadable, retry_after_ms=None)


def _judge(error: BaseException, spec: HandlerSpec, nested: int = 0) -> _Verdict:
    if parts(error) is None or is_a(error, JobError) or _is_mapped(error, spec):
        return _judge_one(error, spec, nested)
    verdicts = [_judge_one(leaf, spec, nested) for leaf in leaves(error)]
    if not verdicts:  # nested without end
        return _unknown(error, spec)
    waits = [verdict.wait_ms for verdict in verdicts if verdict.wait_ms is not None]
    worst = min(verdicts, key=lambda verdict: verdict.order)
    return replace(worst, wait_ms=max(waits, default=None), others=len(verdicts) - 1)


def _judge_one(error: BaseException, spec: HandlerSpec, nested: int) -> _Verdict:
    """Classify by the first known one among the exception and its causes; the message is the exception's own."""
    unsure: _Verdict | None = None
    for cause in causes(error):
        if parts(cause) is None or cause is error:
            verdict = _judge_class(cause, spec)
        else:
            verdict = _judge(cause, spec, nested + 1) if nested < _MAX_NESTED else None
        if verdict is not None and verdict.known and verdict.sure:
            return verdict if cause is error else replace(verdict, message=_with_cause(error, cause))
        if cause is error:
            unsure = verdict
    if unsure is not None:
        return unsure
    return _unknown(error, spec)


def _judge_class(error: BaseException, spec: HandlerSpec) -> _Verdict | None:
    own = _nearest(error, spec.codes)
    if own:
        return _Verdict(error, own, _kind(error, own, kind_of(own), spec), asked_wait_ms(error), explicit=True)
    if is_a(error, JobError):
        return _judge_job_error(error, spec)
    known = known_of(error)
    explicit = _nearest(error, spec.class_kinds) is not None
    if known is None and not explicit:
        return None
    code = (known and known.code) or _class_code(error)
    kind = _kind(error, code, known.kind if known else kind_of(code), spec)
    return _Verdict(error, code, kind, asked_wait_ms(error), explicit=explicit, sure=explicit or known is None or known.sure)


def _judge_job_error(error: BaseException, spec: HandlerSpec) -> _Verdict:
    """Classify a JobError; its class or the handler may have changed the fields since they were checked."""
    code = plain(attribute(error, "code"))
    code = code if is_code(code) else _class_code(error)
    kind = attribute(error, "kind")
    if type(kind) is not OutcomeKind or kind not in _WORST:
        kind = kind_of(code)
    message = attribute(error, "message")
    text = text_of(message) if is_a(message, str) else message_of(error)
    return _Verdict(error, code, _kind(error, code, kind, spec), wait_ms(attribute(error, "retry_after")), explicit=True, message=text)


def _unknown(error: BaseException, spec: HandlerSpec) -> _Verdict:
    code = _class_code(error)
    return _Verdict(error, code, _kind(error, code, kind_of(code), spec), asked_wait_ms(error), known=False)


def _is_mapped(error: BaseException, spec: HandlerSpec) -> bool:
    return _nearest(error, spec.codes) is not None or _nearest(error, spec.class_kinds) is not None


def _kind(error: BaseException, code: str, kind: OutcomeKind, spec: HandlerSpec) -> OutcomeKind:
    """The handler's kind for the code, else for the nearest class, else `kind`."""
    return spec.kinds.get(code) or _nearest(error, spec.class_kinds) or kind


def _nearest(error: BaseException, mapping: Mapping[type[BaseException], T]) -> T | None:
    """The handler's mapping of the nearest class; for a group only of its own class."""
    if not mapping:
        return None
    known: Iterable[type] = classes(error)
    if parts(error) is not None:
        known = (cls for cls in known if issubclass(cls, BaseExceptionGroup))
    return next((value for cls in known for key, value in mapping.items() if key is cls), None)  # a class may not be hashable


def _class_code(error: BaseException) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name(type(error)))
    return re.sub(r"[^A-Z0-9]+", "_", words.upper()).strip("_")[:48] or "ERROR"


def _with_cause(error: BaseException, cause: BaseException) -> str:
    return f"{message_of(error)} (from {class_name(type(cause))}: {message_of(cause)})"

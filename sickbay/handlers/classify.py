"""What an exception of a handler means: its error code, its kind, and the wait it asks for. Total: nothing that is raised makes it raise.

- The handler's own mapping comes first, then JobError, then what everybody knows (`known`), else the code is made of the class's name
  and the kind is unknown.
- An exception that says nothing by itself, raised `from` another, is what that one is. `__context__` decides nothing: what goes wrong while
  a failure is handled is a failure of its own.
- A group is what its leaves are: what the handler says itself (its mapping, a JobError) before what is inferred, then the worse kind
  (systemic, transient, unknown, data), then the first. It waits for as long as the most patient leaf asks for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from sickbay.domain.errors import JobError
from sickbay.domain.job import MAX_MESSAGE_CHARS, Job, is_code
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
"""Groups that are causes of leaves of groups, and so on."""
_WORST: Final = {
    kind: rank for rank, kind in enumerate((OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.UNKNOWN, OutcomeKind.DATA))
}
_BROKEN_OFF: Final = (asyncio.CancelledError, GeneratorExit)
"""What is raised in tasks beside the one that failed; it decides only where there is nothing else."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What `error` is judged to be: `said` by the handler itself, `known` by everybody, or neither; `others` are the leaves beside it."""

    error: BaseException
    code: str
    kind: OutcomeKind
    wait_ms: int | None = None
    said: bool = False
    known: bool = True
    sure: bool = True
    message: str | None = None
    others: int = 0

    @property
    def order(self) -> tuple[bool, bool, int]:
        """The least decides for a group."""
        return (any(is_a(self.error, cls) for cls in _BROKEN_OFF), not self.said, _WORST[self.kind])


def classify(error: BaseException, spec: HandlerSpec, redact: Redact = unchanged) -> Outcome:
    """The outcome that `error` stands for: its code is valid, its message is text of at most 500 characters, without secrets."""
    try:
        verdict = _judge(error, spec)
        message = message_of(verdict.error) if verdict.message is None else verdict.message
        more = f" (and {verdict.others} more)" if verdict.others else ""
        return Outcome(verdict.kind, verdict.code, short(message, redact, MAX_MESSAGE_CHARS - len(more)) + more, verdict.wait_ms)
    except BaseException as broken:  # noqa: BLE001 - the last resort: a job must come to an end whatever its handler raises
        return Outcome(OutcomeKind.UNKNOWN, "ERROR", clean(f"{class_name(type(error))} (cannot be read: {class_name(type(broken))})"))


def timed_out(seconds: float, spec: HandlerSpec, more: str = "") -> Outcome:
    """The outcome of a run that took longer than its timeout."""
    code = "HANDLER_TIMEOUT"
    text = f"the handler timed out after {seconds:g} s" + (f"; {more}" if more else "")
    return Outcome(spec.kinds.get(code, kind_of(code)), code, text[:MAX_MESSAGE_CHARS])


def unless_unreadable(outcome: Outcome, job: Job, spec: HandlerSpec) -> Outcome:
    """The outcome, unless the run failed after its payload could not be read: then it failed of that, and the job is to blame."""
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
    """Of the exception and its causes the first that says something; only it is judged, but the message is the exception's own."""
    unsure: _Verdict | None = None
    for cause in causes(error):
        if parts(cause) is None or cause is error:
            verdict = _says(cause, spec)
        else:
            verdict = _judge(cause, spec, nested + 1) if nested < _MAX_NESTED else None
        if verdict is not None and verdict.known and verdict.sure:
            return verdict if cause is error else replace(verdict, message=_with_cause(error, cause))
        if cause is error:
            unsure = verdict
    if unsure is not None:
        return unsure
    return _unknown(error, spec)


def _says(error: BaseException, spec: HandlerSpec) -> _Verdict | None:
    own = _nearest(error, spec.codes)
    if own:
        return _Verdict(error, own, _kind(error, own, kind_of(own), spec), asked_wait_ms(error), said=True)
    if is_a(error, JobError):
        return _said(error, spec)
    known = known_of(error)
    said = _nearest(error, spec.class_kinds) is not None
    if known is None and not said:
        return None
    code = (known and known.code) or _class_code(error)
    kind = _kind(error, code, known.kind if known else kind_of(code), spec)
    return _Verdict(error, code, kind, asked_wait_ms(error), said=said, sure=said or known is None or known.sure)


def _said(error: BaseException, spec: HandlerSpec) -> _Verdict:
    """What a JobError says; its class or its handler may have changed the fields since they were checked."""
    code = plain(attribute(error, "code"))
    code = code if is_code(code) else _class_code(error)
    kind = attribute(error, "kind")
    if type(kind) is not OutcomeKind or kind not in _WORST:
        kind = kind_of(code)
    message = attribute(error, "message")
    text = text_of(message) if is_a(message, str) else message_of(error)
    return _Verdict(error, code, _kind(error, code, kind, spec), wait_ms(attribute(error, "retry_after")), said=True, message=text)


def _unknown(error: BaseException, spec: HandlerSpec) -> _Verdict:
    code = _class_code(error)
    return _Verdict(error, code, _kind(error, code, kind_of(code), spec), asked_wait_ms(error), known=False)


def _is_mapped(error: BaseException, spec: HandlerSpec) -> bool:
    return _nearest(error, spec.codes) is not None or _nearest(error, spec.class_kinds) is not None


def _kind(error: BaseException, code: str, kind: OutcomeKind, spec: HandlerSpec) -> OutcomeKind:
    """What the handler says of the code, or else of the nearest class, or else `kind`."""
    return spec.kinds.get(code) or _nearest(error, spec.class_kinds) or kind


def _nearest(error: BaseException, mapping: Mapping[type[BaseException], T]) -> T | None:
    """What the handler maps the nearest class to; a group is only what its own class is mapped to."""
    if not mapping:
        return None
    known: Iterable[type] = classes(error)
    if parts(error) is not None:
        known = (cls for cls in known if issubclass(cls, BaseExceptionGroup))
    return next((value for cls in known for key, value in mapping.items() if key is cls), None)  # a class may refuse to be hashed


def _class_code(error: BaseException) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name(type(error)))
    return re.sub(r"[^A-Z0-9]+", "_", words.upper()).strip("_")[:48] or "ERROR"


def _with_cause(error: BaseException, cause: BaseException) -> str:
    return f"{message_of(error)} (from {class_name(type(cause))}: {message_of(cause)})"

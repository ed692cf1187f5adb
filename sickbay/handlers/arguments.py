"""What a handler is called with, read from its signature once: the job, or its payload as an object of the handler's own class.

    def send(job)                        the job; `job.payload` is a dictionary
    def send(job: Job[Email])            the job; `job.payload` is an Email
    def send(payload: Email)             an Email
    def send(payload: Email, job: Job)   both

A first parameter with any other annotation gets the job. Annotations may be texts. One that cannot be resolved is none, so that an import
for type checkers alone breaks nothing; only `Job[...]` must be resolvable, because it can mean nothing else.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from sickbay.domain.job import Job, set_payload
from sickbay.handlers.checks import HandlerMistake
from sickbay.handlers.payloads import UNIONS, PayloadMismatch, PayloadType, Unsupported, is_typed, payload_type_of

_TYPED_JOB: Final = re.compile(r"(?:\w+\.)*Job\s*\[(.*)\]", re.DOTALL)
_ANY_JOB: Final = re.compile(r"(?:\w+\.)*\w*Job(?:\[.*\])?", re.DOTALL)
_UNRESOLVED: Final = object()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a handler is called with: first the job, or its payload if not `takes_job`.

    `payload` is the type of the payload, None for a dictionary; `job_name` is the parameter that gets the job besides the payload.
    """

    payload: PayloadType | None = None
    takes_job: bool = True
    job_name: str = ""

    @property
    def names(self) -> Sequence[str]:
        """The parameters besides the first one that get something."""
        return (self.job_name,) if self.job_name else ()

    def call_of(self, function: Callable[..., Any]) -> Callable[[Job[Any]], Any]:
        """What to call with the job: the function itself, if that is all it takes.

        The call raises PayloadMismatch if the payload is not what the handler says, and PayloadUnreadable if it is no JSON object.
        """
        payload, job_name = self.payload, self.job_name
        if payload is None:
            return function

        def with_job(job: Job[Any]) -> Any:
            set_payload(job, _decoded(payload, job))
            return function(job)

        def with_payload(job: Job[Any]) -> Any:
            return function(_decoded(payload, job))

        def with_both(job: Job[Any]) -> Any:
            return function(_decoded(payload, job), **{job_name: job})

        return with_job if self.takes_job else with_both if job_name else with_payload


PLAIN: Final = Arguments()
"""Those of `def send(job)`."""


def arguments_of(function: Callable[..., Any], whose: str, local_names: Mapping[str, Any] | None = None) -> Arguments:
    """What to call this function with; `local_names` are those of the function in which it is defined.

    `whose` begins the message of a HandlerMistake: the first parameter looks like a typed payload, and cannot be one.
    """
    try:
        parameters = _parameters(function)
    except (TypeError, ValueError):  # some functions written in C have no signature
        return PLAIN
    if not parameters or parameters[0].kind not in {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}:
        return PLAIN
    first, *others = parameters
    names = _Names(function, local_names or {})
    found = names.resolve(first.annotation)
    if found is _UNRESOLVED:
        return _unresolved(first, whose)
    if get_origin(found) is Job:
        (content,) = get_args(found)
        return Arguments(_payload_type(content, whose)) if _says_something(content) else PLAIN
    if not is_typed(found):
        return PLAIN
    jobs = [one.name for one in others if _takes_job(names.resolve(one.annotation))]
    return Arguments(_payload_type(found, whose), takes_job=False, job_name=jobs[0] if jobs else "")


def _decoded(payload: PayloadType, job: Job[Any]) -> Any:
    try:
        return payload.decode(job.payload_json)
    except PayloadMismatch as error:
        problems = error.problems
    job.payload  # noqa: B018 - raises PayloadUnreadable, and the job remembers that, if the text is no JSON object at all
    raise PayloadMismatch(problems)


def _parameters(function: Callable[..., Any]) -> Sequence[inspect.Parameter]:
    """The parameters; those of a decorated function if its decorator takes and passes on everything.

    A decorator's function with parameters of its own has the annotations of the decorated one (`functools.wraps`), which say nothing of it.
    """
    own = list(inspect.signature(function, follow_wrapped=False).parameters.values())
    if not hasattr(function, "__wrapped__"):
        return own
    if own and own[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return list(inspect.signature(function).parameters.values())
    return [one.replace(annotation=inspect.Parameter.empty) for one in own]


class _Names:
    """What the annotations of a function may name."""

    def __init__(self, function: Callable[..., Any], local_names: Mapping[str, Any]) -> None:
        self._scope = _scope_of(function)
        self._local_names = dict(local_names)

    def resolve(self, annotation: Any) -> Any:
        """The type; _UNRESOLVED if a name in it means nothing here."""
        if annotation is inspect.Parameter.empty:
            return None
        try:
            holder = SimpleNamespace(__annotations__={"one": annotation})
            return get_type_hints(holder, self._scope, self._local_names, include_extras=True)["one"]
        except Exception:  # noqa: BLE001 - an annotation can be anything
            return _UNRESOLVED


def _scope_of(function: Any) -> dict[str, Any]:
    """The names of the module in which the annotations were written."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    try:
        function = inspect.unwrap(getattr(function, "__func__", function))
    except ValueError:  # it wraps itself
        return {}
    found: dict[str, Any] = getattr(function, "__globals__", {})
    return found


def _unresolved(parameter: inspect.Parameter, whose: str) -> Arguments:
    text = parameter.annotation.strip() if isinstance(parameter.annotation, str) else ""
    typed = _TYPED_JOB.fullmatch(text)
    if typed and typed[1].strip():
        raise HandlerMistake(
            f"{whose} takes a {text}, which cannot be resolved: define or import {typed[1].strip()} above it, where the module runs "
            "(not under `if TYPE_CHECKING`)"
        )
    if text and not _ANY_JOB.fullmatch(text):
        log.warning(
            "%s is called with the job: what its parameter is annotated with, %s, cannot be resolved; if that is the type of the "
            "payload, import it where the module runs (not under `if TYPE_CHECKING`)",
            whose, text,
        )  # fmt: skip
    return PLAIN


def _payload_type(annotation: Any, whose: str) -> PayloadType:
    try:
        return payload_type_of(annotation)
    except Unsupported as why:
        raise HandlerMistake(f"{whose} takes a payload of the type {_shown(annotation)}: {why}") from None


def _says_something(content: Any) -> bool:
    """Whether it is more than a dictionary."""
    return not (content is Any or isinstance(content, TypeVar) or (get_origin(content) or content) in {dict, Mapping, object})


def _takes_job(found: Any) -> bool:
    if get_origin(found) in UNIONS:
        return any(map(_takes_job, get_args(found)))
    cls = get_origin(found) or found
    return isinstance(cls, type) and issubclass(cls, Job)


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)

"""The handler SDK: how a function becomes the handler of a job type.

    from sickbay import Job, JobError, handler

    @handler("email", timeout=30)
    async def send_email(job: Job) -> None:
        ...

With `job: Job[Email]` or `payload: Email` the payload is decoded before the run (`sickbay.handlers.arguments`).
Sync functions run in a thread. A function that returns has succeeded; an exception becomes an outcome (`sickbay.handlers.classify`).
Invalid handlers are rejected at once (`sickbay.handlers.checks`); `sickbay.handlers.loading` finds the handlers of modules.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, ItemsView, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any, Final, Literal, Protocol, TypeVar

from sickbay.domain.code_schedule import CodeSchedule
from sickbay.domain.job import Job
from sickbay.domain.outcome import KindName, OutcomeKind
from sickbay.domain.retry import NO_OPTIONS, RetryOptions
from sickbay.handlers.arguments import PLAIN, Arguments, arguments_of
from sickbay.handlers.checks import (
    MAX_TIMEOUT_S,
    HandlerMistake,
    check_call,
    check_function,
    check_options,
    classes_of,
    kinds_of,
    place_of,
)
from sickbay.handlers.lifespan import lifespans_of, parameters_of
from sickbay.handlers.payloads import check_payload
from sickbay.handlers.retries import RetryOption, at_once_if_mismatched, retry_options
from sickbay.handlers.schedules import ScheduleOption, schedules_of

__all__ = ["MARK", "MAX_TIMEOUT_S", "HandlerMistake", "HandlerSpec", "handler", "marks_of"]

MARK: Final = "__sickbay_handlers__"
"""The attribute that holds the marks, in the module where a handler was marked and on the handler itself."""
OWN_MODULES: Final = frozenset({"worker", "jobapi", "controlplane"})
"""The modules that `python -m` starts."""
Validate = Literal["run", "submit"]
"""When a typed payload is checked first: before the run, or when the job is submitted, too."""
F = TypeVar("F", bound=Callable[[Any], Any] | Callable[[Any, Job], Any])
K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)


class Items(Protocol[K_co, V_co]):
    """A read-only dictionary with covariant keys, unlike `Mapping`: a dictionary of `KeyError` is one of exceptions, too."""

    def items(self) -> ItemsView[K_co, V_co]:
        """The items of the dictionary."""


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """A handler and how to run it. `timeout` in seconds, None for the worker's HANDLER_TIMEOUT; `concurrency` per worker process.

    `kinds` are by error code and `class_kinds` by exception class; `retry` is made of the options `retry` and `retries`; `place` is the
    file and line where it is defined. `arguments` are what the function is called with; `call` calls it with them, given the job.
    `validate` is `submit` if the Job API is to reject payloads of another type, else `run`.
    """

    job_type: str
    function: Callable[..., Any]
    timeout: float | None = None
    concurrency: int | None = None
    codes: Mapping[type[BaseException], str] = field(default_factory=dict)
    kinds: Mapping[str, OutcomeKind] = field(default_factory=dict)
    retry: RetryOptions = NO_OPTIONS
    class_kinds: Mapping[type[BaseException], OutcomeKind] = field(default_factory=dict)
    place: str = ""
    cancel_grace: float | None = None
    """Seconds an async handler may go on after somebody asked to cancel its job; None for CANCEL_GRACE."""
    arguments: Arguments = PLAIN
    validate: Validate = "run"
    wanted: Mapping[str, bool] = field(default_factory=dict)
    """The parameters that lifespans give, and whether they must."""
    scope: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The globals of its module."""
    schedules: tuple[CodeSchedule, ...] = ()
    """When jobs of its type are submitted by themselves."""
    call: Callable[[Job[Any]], Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "call", self.arguments.call_of(self.function))

    @property
    def is_async(self) -> bool:
        """Whether the function, or the `__call__` of a callable object, is a coroutine function."""
        call = getattr(self.function, "__call__", None)  # noqa: B004 - the method itself is inspected
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call)


def handler(
    job_type: str,
    *,
    timeout: float | None = None,
    concurrency: int | None = None,
    codes: Items[type[BaseException], str] | None = None,
    kinds: Items[str | type[BaseException], OutcomeKind | KindName] | None = None,
    retries: Items[str, int] | None = None,
    retry: RetryOption | None = None,
    cancel_grace: float | None = None,
    validate: Validate = "run",
    schedule: ScheduleOption | None = None,
    timezone: str | None = None,
) -> Callable[[F], F]:
    """Make the decorated function, or anything else that can be called with one Job or its payload, the handler of `job_type`.

    `timeout`: seconds a run may take, at most 1,500 (default HANDLER_TIMEOUT). `concurrency`: runs at a time in one worker.
    `codes`: exception class -> error code. `kinds`: error code or exception class -> kind (systemic, transient, data, unknown).
    `retries`: error code -> retries; beyond them the job is quarantined, whatever the kind. `retry`: `max`, where it differs from
    MAX_RETRIES, `delay` and `max_delay` in seconds, `backoff` and `jitter`. `cancel_grace`: seconds from the request to cancel a job whose
    run has begun to CancelledError in an async handler (default CANCEL_GRACE). `validate="submit"`: the Job API also rejects payloads
    that do not fit the type of the handler's payload. `schedule`: when jobs are submitted by themselves, as a cron expression, a timedelta,
    a Schedule or a list of these; `timezone`: of its expressions (default UTC). Raises HandlerMistake, a ValueError, if anything is wrong.
    """
    _start_own_module(sys._getframe(1))  # noqa: SLF001 - depends on the caller
    check_options(job_type, timeout=timeout, cancel_grace=cancel_grace, concurrency=concurrency, codes=codes, kinds=kinds, retries=retries)
    how = retry_options(retry, dict(retries.items() if retries else ()))

    def mark(function: F) -> F:
        caller = sys._getframe(1)  # noqa: SLF001 - the mark is kept in the caller's module, and its line is for messages
        check_function(function, job_type)
        arguments = arguments_of(function, f"the handler of {job_type!r}", caller.f_locals)
        check_payload(job_type, arguments.payload, validate)
        wanted = _wanted(function, arguments, caller.f_globals)
        needed = [name for name, is_needed in wanted.items() if is_needed]
        check_call(function, job_type, "job" if arguments.takes_job else "payload", (*arguments.names, *needed))
        code = getattr(inspect.unwrap(function), "__code__", None) if inspect.isfunction(function) else None
        spec = HandlerSpec(
            job_type,
            function,
            timeout,
            concurrency,
            dict(codes.items() if codes else ()),
            kinds_of(kinds.items() if kinds else ()),
            how if arguments.payload is None else at_once_if_mismatched(how),
            classes_of(kinds.items() if kinds else ()),
            f"{code.co_filename}:{code.co_firstlineno}" if code else f"{caller.f_code.co_filename}:{caller.f_lineno}",
            cancel_grace,
            arguments,
            validate,
            wanted,
            caller.f_globals,
            schedules_of(job_type, schedule, timezone, arguments, place_of(function)),
        )
        caller.f_globals.setdefault(MARK, []).append(spec)
        with contextlib.suppress(AttributeError, TypeError):  # objects without attributes are marked in the module alone
            setattr(function, MARK, (*vars(function).get(MARK, ()), spec))
        return function

    return mark


def _wanted(function: Callable[..., Any], arguments: Arguments, scope: Mapping[str, Any]) -> Mapping[str, bool]:
    """The parameters besides the first and the job, if the module has something that gives them."""
    if not lifespans_of(scope):
        return {}
    _, *others = [*parameters_of(function).items()] or [("", False)]
    return {name: is_needed for name, is_needed in others if name not in arguments.names}


def marks_of(value: object) -> Sequence[HandlerSpec]:
    """The marks that `handler` set on a function, but not copies of its attributes as `functools.wraps` makes."""
    if isinstance(value, ModuleType | type):
        return ()
    try:
        marks = getattr(value, MARK, ())
    except Exception:  # noqa: BLE001 - anything can be in a module
        return ()
    return [spec for spec in marks if isinstance(spec, HandlerSpec) and spec.function is value] if type(marks) is tuple else ()


def _start_own_module(caller: FrameType) -> None:
    """A user's `worker.py` in the current folder hides ours for `python -m worker`: then restart with ours, which loads the user's."""
    spec = caller.f_globals.get("__spec__")
    name = getattr(spec, "name", "").partition(".")[0]
    started = caller.f_globals.get("__name__") == "__main__" or sys.argv[:1] == ["-m"]
    if not started or name not in OWN_MODULES:
        return
    if sys.flags.safe_path:  # then it is not in the current folder; it would be restarted for ever
        file = caller.f_code.co_filename
        raise SystemExit(f"`python -m {name}` starts {file}, which hides Sickbay's own; take its folder off PYTHONPATH, or rename it")
    os.execv(sys.executable, [sys.executable, "-P", *sys.orig_argv[1:]])  # noqa: S606 - the same command, without the current folder in the path

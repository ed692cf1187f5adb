"""Checks handlers and their options. Every error message says what to write instead."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from sickbay.domain.job import NAME_PATTERN, is_code, is_name
from sickbay.domain.outcome import FAILURE_KINDS, OutcomeKind
from sickbay.domain.raised import clean, text_of

MAX_TIMEOUT_S: Final = 1_500
"""25 minutes: RabbitMQ takes a message back from a consumer that holds it for 30."""
MAX_RETRIES: Final = 1_000_000
MAX_PLACE_CHARS: Final = 300
_KINDS: Final = ", ".join(kind.value for kind in FAILURE_KINDS)


class HandlerMistake(ValueError):
    """A function that cannot be a handler, or an invalid option; the message says what to write."""


def check_options(job_type: Any, *, timeout: Any, concurrency: Any, codes: Any, kinds: Any, retries: Any, cancel_grace: Any = None) -> None:
    """Raise HandlerMistake for an invalid option."""
    if callable(job_type) or isinstance(job_type, staticmethod | classmethod):
        raise HandlerMistake('@handler needs the job type: write @handler("email")')
    if not isinstance(job_type, str) or not is_name(job_type):
        raise HandlerMistake(f"a job type must match {NAME_PATTERN}, not {show(job_type)}")
    _check_seconds(timeout, cancel_grace)
    if concurrency is not None and not (_is_whole(concurrency) and concurrency >= 1):
        raise HandlerMistake(f"concurrency must be a whole number and at least 1, not {show(concurrency)}")
    for cls, code in _items(codes, "codes", "{SMTPException: 'SMTP_DOWN'}"):
        _check_class(cls, "codes")
        _check_code(code, "codes")
    for key, kind in _items(kinds, "kinds", "{'SMTP_DOWN': 'systemic', KeyError: 'data'}"):
        _check_code(key, "kinds") if isinstance(key, str) else _check_class(key, "kinds")
        if not isinstance(kind, str) or kind not in set(FAILURE_KINDS):
            raise HandlerMistake(f"a kind must be one of {_KINDS}, not {show(kind)}")
    for code, number in _items(retries, "retries", "{'SMTP_DOWN': 10}"):
        _check_code(code, "retries")
        if not _is_whole(number) or not 0 <= number <= MAX_RETRIES:
            raise HandlerMistake(f"retries of {code} must be a whole number from 0 to {MAX_RETRIES:,}, not {show(number)}")


def _check_seconds(timeout: Any, cancel_grace: Any) -> None:
    if timeout is not None and not (_is_number(timeout) and math.isfinite(timeout) and 0 < timeout <= MAX_TIMEOUT_S):
        raise HandlerMistake(f"timeout must be more than 0 and at most {MAX_TIMEOUT_S} seconds, not {show(timeout)}")
    if cancel_grace is not None and not (_is_number(cancel_grace) and math.isfinite(cancel_grace) and 0 <= cancel_grace <= MAX_TIMEOUT_S):
        raise HandlerMistake(f"cancel_grace must be from 0 to {MAX_TIMEOUT_S} seconds, not {show(cancel_grace)}")


def check_function(function: Any, job_type: str) -> None:
    """Raise HandlerMistake if it is no function, or would not run when called."""
    whose = f"the handler of {job_type!r}"
    if isinstance(function, staticmethod | classmethod) or _is_method(function):
        raise HandlerMistake(f"{whose} is a method; make it a function of the module")
    if inspect.isclass(function):
        name = function.__name__
        raise HandlerMistake(f"{whose} is the class {name}; make it a function, or mark an instance: handler({job_type!r})({name}())")
    if not callable(function):
        raise HandlerMistake(f"{whose} is {show(function)}; make it a function")
    call = function if inspect.isroutine(function) else getattr(function, "func", getattr(function, "__call__", function))  # noqa: B004 - the function
    for one in (function, call):
        if inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one):
            raise HandlerMistake(f"{whose} is a generator, which would not run; take the `yield` out of it")


def check_call(function: Any, job_type: str, first: str = "job", names: Collection[str] = ()) -> None:
    """Raise HandlerMistake if the function cannot be called with one argument, called `first` in messages, and those of these names."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some functions written in C have none
        return
    try:
        signature.bind(None, **dict.fromkeys(names))
    except TypeError:
        what = " and ".join((first, *names)) if names else f"{first} and nothing else"
        raise HandlerMistake(
            f"the handler of {job_type!r} is called with the {what}, but takes ({_parameters(signature)}); "
            f"write def {_name(function)}({', '.join((first, *names))}), or let a @lifespan or @startup above it give the others"
        ) from None


def kinds_of(kinds: Iterable[tuple[Any, Any]]) -> dict[str, OutcomeKind]:
    """The kinds given by error code."""
    return {key: OutcomeKind(kind) for key, kind in kinds if isinstance(key, str)}


def classes_of(kinds: Iterable[tuple[Any, Any]]) -> dict[type[BaseException], OutcomeKind]:
    """The kinds given by exception class."""
    return {key: OutcomeKind(kind) for key, kind in kinds if not isinstance(key, str)}


def _is_method(function: object) -> bool:
    """Whether a function is defined in a class and not bound to an instance."""
    name = getattr(function, "__qualname__", "")
    return inspect.isfunction(function) and "." in name.rpartition("<locals>.")[2]


def _items(value: Any, option: str, example: str) -> Any:
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise HandlerMistake(f"{option} must be a dictionary, for example {option}={example}, not {show(value)}")
    return value.items()


def _check_class(cls: Any, option: str) -> None:
    if not (isinstance(cls, type) and issubclass(cls, BaseException)):
        raise HandlerMistake(
            f"the keys of {option} must be exception classes{' or error codes' if option == 'kinds' else ''}, not {show(cls)}"
        )


def _check_code(code: Any, option: str) -> None:
    if not isinstance(code, str) or not is_code(code):
        raise HandlerMistake(f"an error code must be 1 to 48 of A-Z, 0-9 and _, not {show(code)} in {option}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def show(value: Any) -> str:
    """The value as an error message quotes it."""
    try:
        return text_of(repr(value))[:100]
    except Exception:  # noqa: BLE001 - a repr of the user's
        return f"a {type(value).__name__}"


def place_of(function: object) -> str:
    """Where a function is, as `module.name`; empty for objects without a name."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    return clean(f"{module}.{name}", MAX_PLACE_CHARS) if isinstance(module, str) and isinstance(name, str) and name else ""


def _parameters(signature: inspect.Signature) -> str:
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(inspect.Signature(bare)).removeprefix("(").removesuffix(")")


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "")
    return name if isinstance(name, str) and name.isidentifier() else "run"

"""The handler SDK: how a function becomes the handler of a job type.

    from sickbay import Job, JobError, handler

    @handler("email", timeout=30)
    async def send_email(job: Job) -> None:
        ...

Sync functions run in a thread. A function that returns has succeeded; whatever it raises becomes an outcome (`sickbay.classify`).
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from sickbay.errors import SettingsError
from sickbay.job import NAME_PATTERN, Job, is_code, is_name
from sickbay.outcome import Kind

MAX_TIMEOUT_S: Final = 1_500
"""25 minutes: RabbitMQ takes a message back from a consumer that holds it for 30."""

_MARK: Final = "__sickbay_handlers__"
F = TypeVar("F", bound=Callable[[Job], Any])


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """A handler and how to run it. `timeout` in seconds, None for the worker's HANDLER_TIMEOUT; `concurrency` per worker process."""

    job_type: str
    function: Callable[[Job], Any]
    timeout: float | None = None
    concurrency: int | None = None
    codes: Mapping[type[BaseException], str] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    retries: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function, also behind a callable object."""
        call = getattr(self.function, "__call__", None)  # noqa: B004 - asked for its kind, not whether it is callable
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call)


def handler(
    job_type: str,
    *,
    timeout: float | None = None,
    concurrency: int | None = None,
    codes: Mapping[type[BaseException], str] | None = None,
    kinds: Mapping[str, Kind | str] | None = None,
    retries: Mapping[str, int] | None = None,
) -> Callable[[F], F]:
    """Make the decorated function the handler of `job_type`.

    `timeout`: seconds a run may take, at most 1,500 (default HANDLER_TIMEOUT). `concurrency`: runs at a time in one worker.
    `codes`: exception class -> error code. `kinds`: error code -> kind (systemic, transient, data, unknown).
    `retries`: error code -> retries, where it differs from MAX_RETRIES. Raises ValueError for values that cannot be meant.
    """
    if not is_name(job_type):
        raise ValueError(f"a job type must match {NAME_PATTERN}, not {job_type!r}")
    if timeout is not None and not 0 < timeout <= MAX_TIMEOUT_S:
        raise ValueError(f"timeout is more than 0 and at most {MAX_TIMEOUT_S} seconds, not {timeout!r}")
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"concurrency is at least 1, not {concurrency!r}")
    for code in (*(codes or {}).values(), *(kinds or {}), *(retries or {})):
        if not is_code(code):
            raise ValueError(f"an error code is 1 to 48 of A-Z, 0-9 and _, not {code!r}")

    def mark(function: F) -> F:
        meant = {code: Kind(kind) for code, kind in (kinds or {}).items()}
        spec = HandlerSpec(job_type, function, timeout, concurrency, codes or {}, meant, retries or {})
        setattr(function, _MARK, (*getattr(function, _MARK, ()), spec))
        return function

    return mark


def load_handlers(modules: str | Sequence[str]) -> Mapping[str, HandlerSpec]:
    """Import the modules (comma separated, or a list) and return their handlers by job type.

    The current folder is importable, behind everything installed, so that a user's own folder shadows nothing.
    Raises SettingsError with what to do when a module cannot be imported, has no handler, or two handle one type.
    """
    names = [name.strip() for name in modules.split(",")] if isinstance(modules, str) else list(modules)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    found: dict[str, HandlerSpec] = {}
    for name in filter(None, names):
        for spec in _specs(_import(name)):
            other = found.get(spec.job_type)
            if other is not None and other.function is not spec.function:
                raise SettingsError(f"JOB_HANDLERS: two functions handle {spec.job_type!r}; keep one of them")
            found[spec.job_type] = spec
    if not found:
        raise SettingsError("JOB_HANDLERS names no module with a function marked @handler(...)")
    return found


def _specs(module: ModuleType) -> Sequence[HandlerSpec]:
    specs = [spec for value in vars(module).values() for spec in getattr(value, _MARK, ()) if isinstance(spec, HandlerSpec)]
    if not specs:
        raise SettingsError(f"JOB_HANDLERS: module {module.__name__!r} has no function marked @handler(...)")
    return specs


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise SettingsError(f"JOB_HANDLERS: there is no module {name!r} in the current folder or among the installed ones") from error
        raise SettingsError(f"JOB_HANDLERS: module {name!r} needs {missing!r}, which is not installed") from error
    except Exception as error:
        raise SettingsError(f"JOB_HANDLERS: module {name!r} failed while it was imported: {type(error).__name__}: {error}") from error

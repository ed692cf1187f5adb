"""What a module of handlers needs while it runs: made at the start of a worker, given to handlers by name, ended after the last job.

    @lifespan
    async def resources():
        async with asyncpg.create_pool(DSN) as pool:
            yield {"pool": pool}

    @handler("email")
    async def send_email(job: Job, pool: asyncpg.Pool) -> None: ...

What is yielded (`@lifespan`) or returned (`@startup`) is a mapping of names to values, or one value whose name is that of the function.
`@lifespan`, `@startup` and `@shutdown` functions may take what those above them in the module give, by name.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sickbay.domain.raised import class_name
from sickbay.handlers.checks import HandlerMistake, show

_NAMED: Final = frozenset({inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY})


@dataclass(frozen=True, slots=True, eq=False)
class Lifespan:
    """A function marked with `@lifespan`, `@startup` or `@shutdown` (`mark`); `home` are the globals of its module. Call it as before."""

    mark: str
    function: Callable[..., Any]
    is_async: bool
    home: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """That of the function."""
        return str(getattr(self.function, "__name__", self.mark))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself."""
        return self.function(*args, **kwargs)

    def __str__(self) -> str:
        """As messages call it."""
        return f"@{self.mark} {self.home.get('__name__', '')}.{self.name}"

    def call(self, values: Mapping[str, Any]) -> Any:
        """Call the function with those of the values that it takes. HandlerMistake if it takes others."""
        wanted = parameters_of(self.function)
        if missing := [name for name, is_needed in wanted.items() if is_needed and name not in values]:
            raise HandlerMistake(f"{self} takes {missing[0]!r}, which nothing above it in its module gives{_other_kind(self)}")
        return self.function(**{name: values[name] for name in wanted if name in values})

    def given(self, value: Any) -> Mapping[str, Any]:
        """What handlers get of its value, by name. HandlerMistake if a name is none."""
        if value is None or self.mark == "shutdown":
            return {}
        if not isinstance(value, Mapping):
            return {self.name: value}
        if wrong := [name for name in list[Any](value) if not (isinstance(name, str) and name.isidentifier())]:
            raise HandlerMistake(f"{self} gives {show(wrong[0])}, which cannot be the name of a parameter")
        return value

    def open(self, values: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Its life, of one that is not async."""
        return _OPEN[self.mark](self, values)

    def open_async(self, values: Mapping[str, Any]) -> AbstractAsyncContextManager[Any]:
        """Its life, of an async one."""
        return _OPEN_ASYNC[self.mark](self, values)


def lifespan(function: Callable[..., Any]) -> Lifespan:
    """Enter this function, which yields once, at the start of a worker, and leave it at its end; what it yields is for handlers.

    An async or a plain generator function; one that is marked @asynccontextmanager or @contextmanager already is fine, too.
    """
    inner: Any = inspect.unwrap(function) if inspect.isfunction(function) else function
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        is_async = inspect.isasyncgenfunction(inner)
        manager = function if inner is not function else asynccontextmanager(function) if is_async else contextmanager(function)
        return _marked("lifespan", manager, is_async=is_async)
    raise HandlerMistake(f"@lifespan needs a function that yields once, not {_shown(function)}; for one that returns, write @startup")


def startup(function: Callable[..., Any]) -> Lifespan:
    """Call this function at the start of a worker; what it returns is for handlers."""
    return _plain("startup", function)


def shutdown(function: Callable[..., Any]) -> Lifespan:
    """Call this function at the end of a worker, after its last job."""
    return _plain("shutdown", function)


def lifespans_of(scope: Mapping[str, Any]) -> Sequence[Lifespan]:
    """Those that a module has, its own and imported ones, in order."""
    return [value for value in scope.values() if isinstance(value, Lifespan)]


def homes_of(scope: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The globals of the modules whose lifespans are for the handlers of this one."""
    found: dict[int, Mapping[str, Any]] = {id(one.home): one.home for one in lifespans_of(scope)}
    return list(found.values())


def parameters_of(function: Callable[..., Any]) -> Mapping[str, bool]:
    """The parameters that can be given by name, and whether they must be."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C have none
        return {}
    return {one.name: one.default is inspect.Parameter.empty for one in parameters if one.kind in _NAMED}


def _plain(mark: str, function: Callable[..., Any]) -> Lifespan:
    if not inspect.isroutine(function):
        raise HandlerMistake(f"@{mark} needs a function, not {_shown(function)}")
    inner = inspect.unwrap(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise HandlerMistake(f"@{mark} needs a function that returns, not one that yields; for that write @lifespan")
    return _marked(mark, function, is_async=inspect.iscoroutinefunction(inner))


def _marked(mark: str, function: Callable[..., Any], *, is_async: bool) -> Lifespan:
    return Lifespan(mark, function, is_async, getattr(inspect.unwrap(function), "__globals__", {}))


def _other_kind(one: Lifespan) -> str:
    return "" if one.is_async else "; what an async function gives is only for async ones"


def _shown(value: object) -> str:
    return str(getattr(value, "__qualname__", None) or f"a {class_name(type(value))}")


def _enter(one: Lifespan, values: Mapping[str, Any]) -> AbstractContextManager[Any]:
    found: AbstractContextManager[Any] = one.call(values)
    return found


def _enter_async(one: Lifespan, values: Mapping[str, Any]) -> AbstractAsyncContextManager[Any]:
    found: AbstractAsyncContextManager[Any] = one.call(values)
    return found


@contextmanager
def _start(one: Lifespan, values: Mapping[str, Any]) -> Iterator[Any]:
    yield one.call(values)


@asynccontextmanager
async def _start_async(one: Lifespan, values: Mapping[str, Any]) -> AsyncIterator[Any]:
    yield await one.call(values)


@contextmanager
def _end(one: Lifespan, values: Mapping[str, Any]) -> Iterator[Any]:
    try:
        yield None
    finally:
        one.call(values)


@asynccontextmanager
async def _end_async(one: Lifespan, values: Mapping[str, Any]) -> AsyncIterator[Any]:
    try:
        yield None
    finally:
        await one.call(values)


_OPEN: Final = {"lifespan": _enter, "startup": _start, "shutdown": _end}
_OPEN_ASYNC: Final = {"lifespan": _enter_async, "startup": _start_async, "shutdown": _end_async}

"""Makes the methods of the clients from the functions that describe their calls, with the same arguments, types and documentation."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sickbay.client.calls import Call, Pages, Watch
from sickbay.client.errors import unsendable

P = ParamSpec("P")
T = TypeVar("T")


class Driver(Protocol):
    """Carries out calls; `blocking.py` has one."""

    def run(self, call: Call[T]) -> T:
        """One request and its answer."""

    def pages(self, pages: Pages[T]) -> Generator[T, None, None]:
        """A list, page by page."""

    def watch(self, watch: Watch[T]) -> Generator[T, None, None]:
        """A stream, resumed where it breaks."""


class AsyncDriver(Protocol):
    """The same without blocking; `asynchronous.py` has one."""

    def run(self, call: Call[T]) -> Awaitable[T]:
        """One request and its answer."""

    def pages(self, pages: Pages[T]) -> AsyncGenerator[T, None]:
        """A list, page by page."""

    def watch(self, watch: Watch[T]) -> AsyncGenerator[T, None]:
        """A stream, resumed where it breaks."""


class Blocking:
    """What has methods that block: it holds the driver."""

    def __init__(self, driver: Driver) -> None:
        """The driver carries out every call."""
        self._driver = driver


class Asynchronous:
    """What has methods that are awaited: it holds the driver."""

    def __init__(self, driver: AsyncDriver) -> None:
        """The driver carries out every call."""
        self._driver = driver


def blocking(describe: Callable[P, Call[T]]) -> Callable[Concatenate[Blocking, P], T]:
    """A method that returns the answer."""

    def method(self: Blocking, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._driver.run(_described(describe, *args, **kwargs))

    return _like(describe, method)


def blocking_pages(describe: Callable[P, Pages[T]]) -> Callable[Concatenate[Blocking, P], Generator[T, None, None]]:
    """A method that returns an iterator over a list."""

    def method(self: Blocking, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self._driver.pages(_described(describe, *args, **kwargs))

    return _like(describe, method)


def blocking_watch(describe: Callable[P, Watch[T]]) -> Callable[Concatenate[Blocking, P], Generator[T, None, None]]:
    """A method that returns an iterator over a stream."""

    def method(self: Blocking, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self._driver.watch(_described(describe, *args, **kwargs))

    return _like(describe, method)


def awaited(describe: Callable[P, Call[T]]) -> Callable[Concatenate[Asynchronous, P], Awaitable[T]]:
    """A method whose answer is awaited."""

    def method(self: Asynchronous, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return self._driver.run(_described(describe, *args, **kwargs))

    return _like(describe, method)


def awaited_pages(describe: Callable[P, Pages[T]]) -> Callable[Concatenate[Asynchronous, P], AsyncGenerator[T, None]]:
    """A method that returns an asynchronous iterator over a list."""

    def method(self: Asynchronous, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self._driver.pages(_described(describe, *args, **kwargs))

    return _like(describe, method)


def awaited_watch(describe: Callable[P, Watch[T]]) -> Callable[Concatenate[Asynchronous, P], AsyncGenerator[T, None]]:
    """A method that returns an asynchronous iterator over a stream."""

    def method(self: Asynchronous, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self._driver.watch(_described(describe, *args, **kwargs))

    return _like(describe, method)


def _described(describe: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return describe(*args, **kwargs)
    except UnicodeEncodeError as error:
        raise unsendable(error) from error


Method = TypeVar("Method", bound=Callable[..., Any])


def _like(describe: Callable[..., Any], method: Method) -> Method:
    """Give the method the documentation of the call, and its signature with `self` before it, for `help()`."""
    signature = inspect.signature(describe)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__doc__ = describe.__doc__
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what `inspect.signature` looks for
        parameters=[own, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
    return method


def names(owner: type) -> None:
    """Name the methods of a class as its attributes are, for tracebacks and `help()`."""
    for name, value in vars(owner).items():
        if inspect.isfunction(value) and value.__name__ == "method":
            value.__name__, value.__qualname__ = name, f"{owner.__qualname__}.{name}"

"""Exceptions as badly behaved as Python lets them be: samples by name, and a Hypothesis strategy that combines their vices.

Whatever is made here can be raised. Reading it can raise anything, KeyboardInterrupt included; nothing in it blocks.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from sickbay import JobError
from sickbay.handlers.known import RULES

Recipe = Callable[[], BaseException]


class Panic(BaseException):
    """As extensions in Rust raise it."""


class Text(str):
    """A str that is none of ours."""

    __slots__ = ()

    def __str__(self):
        raise Panic

    def __getitem__(self, key):
        raise Panic

    __len__ = __hash__ = __eq__ = __bool__ = encode = upper = __str__  # type: ignore[assignment]


class Number(float):
    """A float that is none of ours."""

    def __lt__(self, other):
        raise Panic

    __le__ = __gt__ = __ge__ = __eq__ = __round__ = __float__ = __hash__ = __lt__  # type: ignore[assignment]


class Mystery:
    """Raises whatever one does with it."""

    def __getattribute__(self, name):
        raise KeyboardInterrupt

    def __str__(self):
        raise SystemExit(500)

    __repr__ = __call__ = __bool__ = __len__ = __iter__ = __hash__ = __eq__ = __float__ = __int__ = __index__ = __str__  # type: ignore[assignment]


class Meta(type):
    """A class that lies about itself."""

    def __eq__(cls, other):
        raise Panic

    def __hash__(cls):
        raise Panic

    def __instancecheck__(cls, instance):
        raise Panic

    def __subclasscheck__(cls, subclass):
        raise Panic

    @property
    def __name__(cls):
        raise Panic

    @property
    def __mro__(cls):
        raise Panic

    @property
    def __module__(cls):
        raise Panic


def _raises(error: Any):
    def method(self, *args, **kwargs):
        raise error

    return method


def _again(name: str):
    def method(self, *args, **kwargs):
        return getattr(self, name)(*args, **kwargs)

    return method


def _returns(value: Any):
    return lambda self, *args, **kwargs: value


MESSAGES: list[Any] = [
    "",
    "plain",
    "\udcff lone",
    "nul \x00 \x1b[31m",
    "m" * 1_000_000,
    "\ud800" * 500,
    b"\xff",
    10**5_000,
    ValueError("inner"),
    None,
    Text("text"),
    Mystery(),
    math.nan,
    [[[]]],
]
WAITS: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    -1,
    0,
    1.5,
    10**400,
    -(10**400),
    "7",
    "Wed, 21 Oct 2026 07:28:00 GMT",
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    dt.timedelta(seconds=3),
    dt.timedelta.max,
    True,
    b"3",
    Number(2),
    Text("3"),
    Mystery(),
    1e308,
]
CODES: list[Any] = [
    "GOOD",
    "lower",
    "",
    "A" * 49,
    "NUL\x00",
    "\ud800",
    "Ä",
    404,
    550,
    True,
    -1,
    None,
    Text("ABC"),
    Mystery(),
    ["LIST"],
    10**5_000,
]
VALUES: list[Any] = [*MESSAGES, *WAITS, *CODES]
NAMES = ["Nasty", "HTTPError", "RpcError", "Ünïcode", "_", "x y", "E" * 300, "ReadTimeout"]
LIBRARIES = [(rule.library, name) for rule in RULES for name in rule.names]
"""Classes that are taken for a library's, and so are looked into."""
RAISED: list[Any] = [
    Panic(),
    KeyboardInterrupt(),
    SystemExit(500),
    RecursionError(),
    ValueError("x"),
    GeneratorExit(),
    asyncio.CancelledError(),
]
BASES: list[type[BaseException]] = [
    Exception,
    BaseException,
    ValueError,
    KeyError,
    OSError,
    ConnectionRefusedError,
    TimeoutError,
    JobError,
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    StopIteration,
    StopAsyncIteration,
    asyncio.CancelledError,
    UnicodeDecodeError,
    ImportError,
    SyntaxError,
]
SPECIAL = ["__str__", "__repr__", "__eq__", "__hash__", "__bool__", "__getattr__", "__len__", "__iter__", "__format__", "__reduce__"]
FIELDS = [
    "args", "__class__", "code", "status", "status_code", "response", "retry_after", "headers", "kind", "message", "errno", "exceptions",
    "__cause__", "__context__", "__traceback__", "__notes__", "__dict__", "__suppress_context__",
    "recipients", "smtp_error", "reply_code", "sqlstate", "pgcode", "reason", "result", "resp", "meta", "http_status", "filename",
    "sqlite_errorcode", "connection_invalidated", "smtp_code", "orig", "detail",
]  # fmt: skip


def make(
    base: type[BaseException], name: str = "Nasty", *, metaclass: type = type, text: Any = "", module: str = __name__, **body: Any
) -> BaseException:
    """One exception of a class of its own; its `__init__` is left out, as careless subclasses leave it out."""
    cls = metaclass(name, (base,), {"__module__": module, "__init__": lambda self, *args: None, **body})
    args = ("utf-8", b"x", 0, 1, "no") if issubclass(base, UnicodeDecodeError) else (text,)
    return base.__new__(cls, *args)


def chain(length: int) -> BaseException:
    """A chain of causes and contexts."""
    error: BaseException = Panic()
    for number in range(length):
        outer = RuntimeError(number)
        outer.__cause__ = outer.__context__ = error
        error = outer
    return error


def ring() -> BaseException:
    """Three that cause each other."""
    one, two, three = RuntimeError(1), RuntimeError(2), RuntimeError(3)
    one.__cause__, two.__cause__, three.__cause__ = two, three, one
    one.__context__, two.__context__, three.__context__ = three, one, two
    return one


def deep_group(depth: int, leaf: BaseException | None = None) -> BaseException:
    """A group in a group in a group."""
    error = leaf or ValueError("leaf")
    for _ in range(depth):
        error = BaseExceptionGroup("group", [error])
    return error


def own_cause() -> BaseException:
    """A group whose leaf was caused by the group."""
    leaf = RuntimeError("leaf")
    group = ExceptionGroup("group", [leaf])
    leaf.__cause__ = leaf.__context__ = group
    return group


SAMPLES: dict[str, Recipe] = {
    "generator exit": GeneratorExit,
    "keyboard interrupt": KeyboardInterrupt,
    "a panic": Panic,
    "exit 0": lambda: SystemExit(0),
    "exit 500": lambda: SystemExit(500),
    "exit of a mystery": lambda: SystemExit(Mystery()),
    "cancelled by itself": asyncio.CancelledError,
    "a base group": lambda: BaseExceptionGroup("g", [Panic(), KeyboardInterrupt()]),
    "a wide group": lambda: ExceptionGroup("g", [ValueError(number) for number in range(10_000)]),
    "a deep group": lambda: deep_group(900),
    "a very deep group": lambda: deep_group(20_000),
    "a group that caused its leaf": own_cause,
    "a ring of causes": ring,
    "a long chain": lambda: chain(10_000),
    "str raises": lambda: make(Exception, __str__=_raises(Panic())),
    "str exits": lambda: make(Exception, __str__=_raises(SystemExit(1))),
    "str is no str": lambda: make(Exception, __str__=_returns(5)),
    "str is another str": lambda: make(Exception, __str__=_returns(Text("x"))),
    "str without end": lambda: make(Exception, __str__=_again("__str__")),
    "class raises": lambda: make(Exception, __class__=property(_raises(Panic()))),
    "class lies": lambda: make(Exception, __class__=property(_returns(JobError))),
    "attributes without end": lambda: make(Exception, __getattr__=lambda self, name: getattr(self, name + "_")),
    "attributes raise": lambda: make(Exception, __getattr__=_raises(KeyboardInterrupt())),
    "the metaclass lies": lambda: make(Exception, metaclass=Meta),
    "surrogates": lambda: FileNotFoundError(2, "No such file", "\udcff.txt"),
    "nul": lambda: ValueError("\x00"),
    "a megabyte": lambda: ValueError("m" * 1_000_000),
    "a name of a megabyte": lambda: make(Exception, "N" * 1_000_000),
    "a number too long to write": lambda: ValueError(10**5_000),
    "a job error without anything": lambda: make(JobError),
    "a job error of an exception": lambda: JobError("MINE", ValueError("inner")),
    "a job error of a mystery": lambda: JobError("MINE", Mystery()),
}


@st.composite
def _alone(draw: st.DrawFn) -> Recipe:
    """One exception."""

    def one_of(values: list[Any]) -> Any:
        return values[draw(st.integers(0, len(values) - 1))]

    def method() -> Any:
        match draw(st.integers(0, 2)):
            case 0:
                return _raises(one_of(RAISED))
            case 1:
                return _again(one_of(SPECIAL))
            case _:
                return _returns(one_of(VALUES))

    def field() -> Any:
        return property(method()) if draw(st.booleans()) else one_of(VALUES)

    if draw(st.integers(0, 3)) == 0:
        return SAMPLES[one_of(sorted(SAMPLES))]
    body = {name: method() for name in draw(st.lists(st.sampled_from(SPECIAL), max_size=3))}
    body |= {name: field() for name in draw(st.lists(st.sampled_from(FIELDS), max_size=4))}
    base, metaclass, text = one_of(BASES), one_of([type, type, type, Meta]), one_of(MESSAGES)
    module, name = one_of(LIBRARIES) if draw(st.booleans()) else (__name__, one_of(NAMES))
    return lambda: make(base, name, metaclass=metaclass, text=text, module=module, **body)


def _linked(error: BaseException, cause: BaseException | None, context: BaseException | None) -> BaseException:
    BaseException.__cause__.__set__(error, cause)  # type: ignore[attr-defined]
    BaseException.__context__.__set__(error, context)  # type: ignore[attr-defined]
    return error


def _group(some: list[BaseException]) -> BaseException:
    """A group, unless one of them does not even let itself be grouped."""
    try:
        return BaseExceptionGroup("group", some)
    except BaseException:  # noqa: BLE001 - it may raise anything
        return some[0]


def _ring(error: BaseException) -> BaseException:
    return _linked(error, error, error)


def nasty_exceptions() -> st.SearchStrategy[Recipe]:
    """Any of it: alone, in groups, as causes, in rings.

    Drawn are functions that make one: Hypothesis looks at what it draws more closely than these exceptions can bear.
    """
    return st.recursive(
        _alone(),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=4).map(lambda some: lambda: _group([make_it() for make_it in some])),
            st.builds(
                lambda one, cause, context: lambda: _linked(one(), cause(), context()),
                inner,
                inner | st.just(_nothing),
                inner | st.just(_nothing),
            ),
            inner.map(lambda make_it: lambda: _ring(make_it())),
        ),
        max_leaves=6,
    )


def _nothing() -> None:
    return None

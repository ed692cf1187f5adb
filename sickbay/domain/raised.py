"""Reading what a handler has raised, which may lie or break at every touch: nothing here raises, and every text is clean and bounded.

An exception's class may be written in any way: `__str__`, properties and `__getattr__` run foreign code that can raise anything, even
`KeyboardInterrupt`. What a class *is* comes from `type`'s own slots, which no class can override.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final, cast

from sickbay.domain.job import MAX_MESSAGE_CHARS

MAX_WAIT_MS: Final = 86_400_000
"""A day: the longest wait a handler or its dependency can ask for."""
MAX_PARTS: Final = 5_000
"""As many exceptions of nested groups are looked at."""
MAX_CAUSES: Final = 20
MAX_READ_CHARS: Final = 20_000
"""So much of a text is looked at for secrets before it is cut to what is kept."""
BORDER_CHARS: Final = 4_000
"""Of a text that is longer: what comes before its border may be the first half of a secret, a private key for example."""

Redact = Callable[[str], str]
"""Never raises; the same text again, or what may be told of it."""

_UNWRITABLE: Final = re.compile("[\x00\ud800-\udfff]")
_QUOTED: Final = re.compile(r", input_value=(?:[^\n]*(?=, input_type=)|[^\n]*)")
_mro: Final = type.__dict__["__mro__"].__get__
_name: Final = type.__dict__["__name__"].__get__
_qualname: Final = type.__dict__["__qualname__"].__get__
_module: Final = type.__dict__["__module__"].__get__
_parts: Final = cast("Any", BaseExceptionGroup).exceptions.__get__
_cause: Final = cast("Any", BaseException).__cause__.__get__


def is_a(value: object, cls: type) -> bool:
    """`isinstance` by what the value's class is, whatever its `__class__` says."""
    return issubclass(type(value), cls)


def classes(error: BaseException) -> tuple[type, ...]:
    """The class of the exception and those it derives from, nearest first."""
    return cast("tuple[type, ...]", _mro(type(error)))


def class_name(cls: type) -> str:
    """The plain name of a class, its first 200 characters."""
    return plain(_name(cls))[:200]


def full_name(cls: type) -> tuple[str, str]:
    """Module and qualified name of a class, each empty if it is no text."""
    try:
        module = _module(cls)
    except AttributeError:  # made where nothing has a name
        module = ""
    return plain(module), plain(_qualname(cls))


def plain(value: object) -> str:
    """The value as an exact `str`, without anything a subclass may have overridden; empty if it is none."""
    return str.__str__(value) if is_a(value, str) else ""


def attribute(owner: object, name: str) -> Any:
    """The attribute, None if there is none or if reading it raises."""
    try:
        return getattr(owner, name, None)
    except BaseException:  # noqa: BLE001 - a property of a foreign class may raise anything
        return None


def clean(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """At most `limit` characters that UTF-8 and every store can hold: NULs and halves of surrogate pairs are written as escapes."""
    return _UNWRITABLE.sub(_escaped, text[:limit])[:limit]


def unchanged(text: str) -> str:
    """What takes nothing out of a text."""
    return text


def short(text: str, redact: Redact = unchanged, limit: int = MAX_MESSAGE_CHARS) -> str:
    """What may be told of a text, clean. Secrets are taken out before it is cut, for half a secret looks like none."""
    if redact is unchanged:
        return clean(text, limit)
    told = redact(clean(text, MAX_READ_CHARS))
    if len(text) > MAX_READ_CHARS:
        told = told[:-BORDER_CHARS] or f"(withheld: a text of {len(text)} characters)"
    return clean(told, limit)


def _escaped(found: re.Match[str]) -> str:
    return "\\x00" if found[0] == "\x00" else f"\\u{ord(found[0]):04x}"


def message_of(error: BaseException) -> str:
    """What the exception says, its class's name if it says nothing, and what went wrong if it cannot say it; see `text_of`.

    Pydantic quotes what it was given, which is the payload: that is left out.
    """
    text = text_of(error)
    if full_name(type(error))[0].startswith("pydantic"):
        text = _QUOTED.sub("", text)
    return text or class_name(type(error))


def text_of(value: object) -> str:
    """`str(value)`, clean and still as long as `short` needs it; what went wrong if it raises."""
    try:
        text = plain(str(value))
    except BaseException as broken:  # noqa: BLE001 - `__str__` is the user's
        text = f"{class_name(type(value))} (its text cannot be read: {class_name(type(broken))})"
    return clean(text, MAX_READ_CHARS + 1)


def parts(group: BaseException) -> tuple[BaseException, ...] | None:
    """The exceptions in a group, None if it is no group."""
    return cast("tuple[BaseException, ...]", _parts(group)) if is_a(group, BaseExceptionGroup) else None


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups inside it, in order; the exception itself if it is no group."""
    waiting, left = [error], MAX_PARTS
    while waiting and left:
        left -= 1
        one = waiting.pop()
        inner = parts(one)
        if inner is None:
            yield one
        else:
            waiting.extend(reversed(inner[:MAX_PARTS]))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, the one it was raised `from`, and so on; each once."""
    seen = set[int]()
    one: BaseException | None = error
    while one is not None and id(one) not in seen and len(seen) < MAX_CAUSES:
        seen.add(id(one))
        yield one
        one = _cause(one)


def wait_ms(value: object) -> int | None:
    """A wait in seconds (number, text or timedelta) as ms, at most a day; None for what is no wait: dates, NaN, less than nothing."""
    if value is None or is_a(value, bool):
        return None
    try:
        seconds = _seconds(value)
    except OverflowError:
        return MAX_WAIT_MS if is_a(value, int) and int.__gt__(cast("int", value), 0) else None
    except BaseException:  # noqa: BLE001 - `__float__` is the user's
        return None
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return round(min(seconds, MAX_WAIT_MS / 1000) * 1000)


def _seconds(value: Any) -> float:
    if is_a(value, timedelta):
        return timedelta.total_seconds(value)
    return float(value)

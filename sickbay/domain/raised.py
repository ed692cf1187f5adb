"""Reads exceptions of handlers, whose code may raise or lie: nothing here raises, and every text is clean and bounded.

`__str__`, properties and `__getattr__` of an exception run foreign code that can raise anything, even `KeyboardInterrupt`. What a class
*is* comes from `type`'s own slots, which no class can override.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final, cast

from sickbay.domain.failure import MAX_MESSAGE_CHARS

MAX_WAIT_MS: Final = 86_400_000
"""A day: the longest wait a handler or its dependency can ask for."""
MAX_PARTS: Final = 5_000
"""The most exceptions of nested groups that are looked at."""
MAX_CAUSES: Final = 20
MAX_READ_CHARS: Final = 20_000
"""How much of a text is searched for secrets before it is cut."""
BORDER_CHARS: Final = 4_000
"""How much is dropped at the end of a longer text: it may be the first half of a secret, for example of a private key."""

Redact = Callable[[str], str]
"""Takes secrets out of a text; never raises."""

_UNWRITABLE: Final = re.compile("[\x00\ud800-\udfff]")
_QUOTED: Final = re.compile(r", input_value=(?:[^\n]*(?=, input_type=)|[^\n]*)")
_mro: Final = type.__dict__["__mro__"].__get__
_name: Final = type.__dict__["__name__"].__get__
_qualname: Final = type.__dict__["__qualname__"].__get__
_module: Final = type.__dict__["__module__"].__get__
_parts: Final = cast("Any", BaseExceptionGroup).exceptions.__get__
_cause: Final = cast("Any", BaseException).__cause__.__get__


def is_a(value: object, cls: type) -> bool:
    """`isinstance` by the real type of the value, whatever its `__class__` says."""
    return issubclass(type(value), cls)


def classes(error: BaseException) -> tuple[type, ...]:
    """The class of the exception and those it derives from, nearest first."""
    return cast("tuple[type, ...]", _mro(type(error)))


def class_name(cls: type) -> str:
    """The plain name of a class, its first 200 characters."""
    return plain(_name(cls))[:200]


def full_name(cls: type) -> tuple[str, str]:
    """Module and qualified name of a class, each empty if it is not a string."""
    try:
        module = _module(cls)
    except AttributeError:  # made where nothing has a name
        module = ""
    return plain(module), plain(_qualname(cls))


def plain(value: object) -> str:
    """The value as an exact `str`, without anything a subclass may have overridden; empty if it is not a string."""
    return str.__str__(value) if is_a(value, str) else ""


def attribute(owner: object, name: str) -> Any:
    """The attribute, None if there is none or if reading it raises."""
    try:
        return getattr(owner, name, None)
    except BaseException:  # noqa: BLE001 - a property of a foreign class may raise anything
        return None


def clean(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """At most `limit` characters that UTF-8 and every store can hold: NULs and lone surrogates are escaped."""
    return _UNWRITABLE.sub(_escaped, text[:limit])[:limit]


def unchanged(text: str) -> str:
    """The `Redact` that changes nothing."""
    return text


def short(text: str, redact: Redact = unchanged, limit: int = MAX_MESSAGE_CHARS) -> str:
    """The text without secrets, clean and cut. Secrets are taken out first, because half a secret would not be recognised."""
    if redact is unchanged:
        return clean(text, limit)
    redacted = redact(clean(text, MAX_READ_CHARS))
    if len(text) > MAX_READ_CHARS:
        redacted = redacted[:-BORDER_CHARS] or f"(withheld: a text of {len(text)} characters)"
    return clean(redacted, limit)


def _escaped(found: re.Match[str]) -> str:
    return "\\x00" if found[0] == "\x00" else f"\\u{ord(found[0]):04x}"


def message_of(error: BaseException) -> str:
    """The text of the exception, or its class's name if that is empty; see `text_of`.

    Pydantic quotes its input, which is the payload: that is left out.
    """
    text = text_of(error)
    if full_name(type(error))[0].startswith("pydantic"):
        text = _QUOTED.sub("", text)
    return text or class_name(type(error))


def text_of(value: object) -> str:
    """`str(value)`, clean and as long as `short` needs it; if it raises, a text that says so."""
    try:
        text = plain(str(value))
    except BaseException as broken:  # noqa: BLE001 - `__str__` is the user's
        text = f"{class_name(type(value))} (its text cannot be read: {class_name(type(broken))})"
    return clean(text, MAX_READ_CHARS + 1)


def parts(group: BaseException) -> tuple[BaseException, ...] | None:
    """The exceptions in a group, None if it is not a group."""
    return cast("tuple[BaseException, ...]", _parts(group)) if is_a(group, BaseExceptionGroup) else None


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups inside it, in order; the exception itself if it is not a group."""
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
    """A wait in seconds (number, text or timedelta) as ms, at most a day; None for anything else: dates, NaN, negative numbers."""
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

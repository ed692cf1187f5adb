"""What a rule about a library's exceptions is, and how foreign values are read for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sickbay.domain.outcome import OutcomeKind, kind_of
from sickbay.domain.raised import attribute, is_a

SYSTEMIC: Final = OutcomeKind.SYSTEMIC
TRANSIENT: Final = OutcomeKind.TRANSIENT
DATA: Final = OutcomeKind.DATA
UNKNOWN: Final = OutcomeKind.UNKNOWN


class Known(NamedTuple):
    """What an exception means. Without a code it is made of its class's name; `sure` unless the exception's cause knows better."""

    code: str
    kind: OutcomeKind
    sure: bool = True


Reader = Callable[[BaseException], Known | None]
"""Looks into an exception; None if that tells nothing, and then the classes it derives from are asked."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Exceptions of one library, by their classes' qualified names; `library` is a module, and holds for the modules inside it."""

    library: str
    names: tuple[str, ...]
    known: Known | None = None
    read: Reader | None = None
    says: str = ""

    def of(self, error: BaseException) -> Known | None:
        """What it says of this exception."""
        return self.known if self.read is None else self.read(error)


def rule(library: str, names: str, code: str, kind: OutcomeKind | None = None, *, sure: bool = True) -> Rule:
    """All exceptions of these classes mean `code`, of its usual kind unless another is given."""
    return Rule(library, tuple(names.split()), Known(code, kind or kind_of(code), sure))


def looked_into(library: str, names: str, read: Reader, says: str) -> Rule:
    """What these exceptions mean is in them; `says` where, for the docs."""
    return Rule(library, tuple(names.split()), read=read, says=says)


def known(code: str, kind: OutcomeKind | None = None) -> Known:
    """A code of its usual kind unless another is given."""
    return Known(code, kind or kind_of(code))


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def at(owner: object, path: str) -> Any:
    """The attribute of an attribute, ...; None where the way ends."""
    for name in path.split("."):
        owner = attribute(owner, name)
    return owner


def item(owner: object, *path: str | int) -> Any:
    """What is under these keys or indices; None where the way ends."""
    try:
        for key in path:
            owner = owner[key]  # type: ignore[index]
    except BaseException:  # noqa: BLE001 - foreign code
        return None
    return owner


def called(owner: object, name: str) -> Any:
    """What the method answers; None if there is none, or if it raises."""
    method = attribute(owner, name)
    try:
        return method() if callable(method) else None
    except BaseException:  # noqa: BLE001 - foreign code
        return None


def whole(value: object) -> int | None:
    """The value as an exact `int`; None if it is no whole number."""
    return int.__index__(value) if is_a(value, int) and not is_a(value, bool) else None  # type: ignore[arg-type]  # as is_a says

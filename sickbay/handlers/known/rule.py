"""Rules about a library's exceptions, and functions that read foreign values safely."""

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
    """The meaning of an exception. If `code` is empty, it is derived from the class's name. Not `sure`: the cause may know better."""

    code: str
    kind: OutcomeKind
    sure: bool = True


Reader = Callable[[BaseException], Known | None]
"""Reads the meaning from an exception; None if it has none, and then the rules of its base classes apply."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for exceptions of one library, by their classes' qualified names; `library` is a module, including its submodules.

    `meaning` is the text for the docs where `read` decides.
    """

    library: str
    names: tuple[str, ...]
    known: Known | None = None
    read: Reader | None = None
    meaning: str = ""

    def apply(self, error: BaseException) -> Known | None:
        """The meaning of this exception."""
        return self.known if self.read is None else self.read(error)


def rule(library: str, names: str, code: str, kind: OutcomeKind | None = None, *, sure: bool = True) -> Rule:
    """Exceptions of these classes mean `code`, of its usual kind unless another is given."""
    return Rule(library, tuple(names.split()), Known(code, kind or kind_of(code), sure))


def read_rule(library: str, names: str, read: Reader, meaning: str) -> Rule:
    """The meaning of these exceptions is read from them; `meaning` says where, for the docs."""
    return Rule(library, tuple(names.split()), read=read, meaning=meaning)


def known(code: str, kind: OutcomeKind | None = None) -> Known:
    """A code of its usual kind unless another is given."""
    return Known(code, kind or kind_of(code))


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


def at(owner: object, path: str) -> Any:
    """A nested attribute, by a dotted path; None if there is none."""
    for name in path.split("."):
        owner = attribute(owner, name)
    return owner


def item(owner: object, *path: str | int) -> Any:
    """A nested item, by keys and indices; None if there is none."""
    try:
        for key in path:
            owner = owner[key]  # type: ignore[index]
    except BaseException:  # noqa: BLE001 - foreign code
        return None
    return owner


def call_method(owner: object, name: str) -> Any:
    """The result of a method; None if there is no such method, or if it raises."""
    method = attribute(owner, name)
    try:
        return method() if callable(method) else None
    except BaseException:  # noqa: BLE001 - foreign code
        return None


def whole(value: object) -> int | None:
    """The value as an exact `int`; None if it is not an integer."""
    return int.__index__(value) if is_a(value, int) and not is_a(value, bool) else None  # type: ignore[arg-type]  # as is_a says

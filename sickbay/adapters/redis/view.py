"""What this process knows of the fleet's circuits: good enough to let a job run, never to decide what is recorded.

News come by three ways (a reply, a notice, a resync) and in any order. A newer `rev` always wins. An older one is the truth only if
nothing changed here since the question was sent: then Redis has lost its memory (FLUSHALL, a restart), and the view follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sickbay.breaker import Document
from sickbay.circuit import Key


class Seen(NamedTuple):
    """A circuit as it was last heard of, with all failures of its type."""

    doc: Document
    total: int


class View:
    """The latest documents by key. `on_change` hears of each that replaces another, or the loss of it (None)."""

    def __init__(self, on_change: Callable[[Key, Seen | None], None]) -> None:
        self._seen: dict[Key, Seen] = {}
        self._on_change = on_change

    def get(self, key: Key) -> Document | None:
        """The circuit, None if it is unknown here."""
        seen = self._seen.get(key)
        return seen.doc if seen is not None else None

    def all(self) -> list[Seen]:
        """Every circuit, by key."""
        return [self._seen[key] for key in sorted(self._seen)]

    def known(self) -> dict[Key, Document]:
        """Every circuit by key, in no order."""
        return {key: seen.doc for key, seen in self._seen.items()}

    def notice(self, doc: Document, total: int) -> None:
        """Somebody wrote this; notices may be late or out of order, so only a newer one counts."""
        old = self._seen.get(doc.key)
        if old is None or doc.rev > old.doc.rev:
            self._put(doc.key, Seen(doc, total))

    def answer(self, key: Key, doc: Document | None, total: int | None, asked_with: Document | None) -> None:
        """Redis answered a question that was sent while the view of this key was `asked_with`; `total` None was not asked for."""
        old = self._seen.get(key)
        if total is None:
            total = old.total if old is not None else 0
        unmoved = (old.doc if old is not None else None) is asked_with
        if doc is None:
            if old is not None and unmoved:
                del self._seen[key]
                self._on_change(key, None)
        elif old is None or doc.rev > old.doc.rev or (unmoved and doc != old.doc):
            self._put(key, Seen(doc, total))
        elif doc.rev == old.doc.rev:
            self._seen[key] = Seen(old.doc, max(total, old.total))

    def _put(self, key: Key, seen: Seen) -> None:
        self._seen[key] = seen
        self._on_change(key, seen)

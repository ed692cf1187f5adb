"""This process's view of the fleet's breakers: good enough to admit a job, never to decide what is recorded.

Updates arrive in three ways (a reply, a notice, a resync) and in any order. A newer `rev` always wins. An older one is accepted only if
nothing changed here since the request was sent: then Redis has lost its data (FLUSHALL, a restart), and the view follows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sickbay.breaker.document import FIRST_EPOCH
from sickbay.breaker.machine import Document
from sickbay.domain.breaker import BreakerKey

MAX_BLANK: Final = 10_000
"""How many blank breakers are kept here, the latest; others are read from Redis again."""


class Seen(NamedTuple):
    """The last known state of a breaker, and its total failures."""

    doc: Document
    total: int


class View:
    """The latest documents by key. `on_change` is called with each new one, or None if one is gone."""

    def __init__(self, on_change: Callable[[BreakerKey, Seen | None], None]) -> None:
        self._seen: dict[BreakerKey, Seen] = {}
        self._blank: OrderedDict[BreakerKey, None] = OrderedDict()
        self._on_change = on_change

    def get(self, key: BreakerKey) -> Document | None:
        """The breaker, None if it is unknown here."""
        seen = self._seen.get(key)
        return seen.doc if seen is not None else None

    def documents(self, keys: Iterable[BreakerKey]) -> list[Document | None]:
        """The breakers, None where one is unknown here."""
        return [seen.doc if (seen := self._seen.get(key)) is not None else None for key in keys]

    def all(self, keys: Iterable[BreakerKey] | None = None) -> list[Seen]:
        """All breakers that are not blank, in the order of their keys, or those among `keys`, in the order given."""
        found = map(self._seen.get, sorted(self._seen) if keys is None else keys)
        blank = self._blank
        return [seen for seen in found if seen is not None and not (blank and seen.doc.key in blank)]

    def known(self) -> dict[BreakerKey, Document]:
        """The same by key, in no order."""
        return {key: seen.doc for key, seen in self._seen.items() if key not in self._blank}

    def notice(self, doc: Document, total: int) -> None:
        """Apply a notice of a write; notices may be late or out of order, so only a newer one counts."""
        old = self._seen.get(doc.key)
        if old is None or doc.rev > old.doc.rev:
            self._put(doc.key, Seen(doc, total))

    def answers(
        self,
        keys: Iterable[BreakerKey],
        docs: Iterable[Document | None],
        totals: Iterable[int | None],
        asked_with: Iterable[Document | None],
    ) -> None:
        """Apply the replies about many breakers; those that have not changed, and hardly any has, cost next to nothing."""
        for key, doc, total, asked in zip(keys, docs, totals, asked_with, strict=True):
            old = self._seen.get(key)
            if old is None or old.doc is not doc or (total is not None and total != old.total):
                self.answer(key, doc, total, asked)

    def answer(self, key: BreakerKey, doc: Document | None, total: int | None, asked_with: Document | None) -> None:
        """Apply a reply to a request that was sent while the view of this key was `asked_with`; `total` is None if not requested."""
        old = self._seen.get(key)
        if total is None:
            total = old.total if old is not None else 0
        unmoved = (old.doc if old is not None else None) is asked_with
        if doc is None:
            if old is not None and unmoved and not _is_blank(old.doc):
                self._drop(key)
                self._on_change(key, None)
        elif old is None or doc.rev > old.doc.rev or (unmoved and doc is not old.doc and doc != old.doc):
            self._put(key, Seen(doc, total))
        elif doc.rev == old.doc.rev:
            # If unmoved the two are equal; the same object is compared faster the next time.
            self._seen[key] = Seen(doc if unmoved else old.doc, max(total, old.total))

    def _put(self, key: BreakerKey, seen: Seen) -> None:
        self._seen[key] = seen
        self._blank.pop(key, None)
        if _is_blank(seen.doc):
            self._blank[key] = None
            if len(self._blank) > MAX_BLANK:
                self._drop(next(iter(self._blank)))
        self._on_change(key, seen)

    def _drop(self, key: BreakerKey) -> None:
        del self._seen[key]
        self._blank.pop(key, None)


def _is_blank(doc: Document) -> bool:
    """Whether it equals a new document, so Redis does not store it."""
    return doc.is_forgettable and doc.epoch == FIRST_EPOCH

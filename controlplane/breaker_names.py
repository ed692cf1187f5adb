"""The names of all breakers in order, for pages of them: sorting thousands takes longer than reading a page."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from sickbay.domain.breaker import BreakerKey


class BreakerNames:
    """Sorts again only if the keys differ from those of the last question."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._keys: Sequence[BreakerKey] = ()
        self._by_name: dict[str, BreakerKey] = {}
        self._names: list[str] = []

    def page(
        self, keys: Sequence[BreakerKey], after: str, limit: int, matches: Callable[[BreakerKey], bool] | None = None
    ) -> tuple[list[BreakerKey], str]:
        """The first `limit` keys whose names come after `after`, by name, and the last name if there are more, "" otherwise."""
        if keys != self._keys:
            self._keys = keys
            self._by_name = {key.name: key for key in keys}
            self._names = sorted(self._by_name)
        names = self._names
        if matches is not None:
            names = [name for name in names if matches(self._by_name[name])]
        start = bisect_right(names, after)
        page = names[start : start + limit]
        return [self._by_name[name] for name in page], page[-1] if start + limit < len(names) else ""

"""Splits long lists into chunks for one statement each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

MAX_VALUES: Final = 500
"""The most values of one IN list or one batch of deletions."""


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in order, at most MAX_VALUES at a time."""
    for start in range(0, len(items), MAX_VALUES):
        yield items[start : start + MAX_VALUES]

"""How far a run has come, as its handler says it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_PROGRESS_CHARS: Final = 200
"""The limit for the message; a longer one is cut."""

ReportProgress = Callable[[float, str], None]
"""Takes a valid fraction and message, in any thread, and returns at once."""


@dataclass(frozen=True, slots=True)
class Progress:
    """At `at` (ms) the fraction `fraction` of the work was done, from 0 to 1; `message` says it in words."""

    fraction: float
    message: str = ""
    at: int = 0


def is_later(new: Progress | None, known: Progress | None) -> bool:
    """Whether a report about a run says more than what is known of that run."""
    return new is not None and (known is None or new.at > known.at)


def checked(fraction: float, message: str) -> tuple[float, str]:
    """What a handler said, if it is valid: a ValueError or TypeError says what is not."""
    try:
        number = float(fraction)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"progress: the fraction must be a number from 0 to 1, not {str(fraction)[:MAX_PROGRESS_CHARS]}")
    if not isinstance(message, str):
        raise TypeError(f"progress: the message must be a text, not {type(message).__name__}")
    return number, message[:MAX_PROGRESS_CHARS]

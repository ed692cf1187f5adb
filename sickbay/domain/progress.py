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


class TellsProgress:
    """The part of a job through which its handler says how far it is.

    It is no field of the job, so it is neither compared nor copied nor pickled: only the object that the handler got is bound to the run.
    """

    __slots__ = ("_report_progress",)

    _report_progress: ReportProgress | None

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far this run is: `fraction` from 0 to 1, and a message of at most 200 characters, the rest of which is cut.

        May be called as often as you like, in any thread: it returns at once, and at most one report per second is passed on, the
        newest. After the run, and outside of a worker, it does nothing. Raises ValueError if `fraction` is not a number from 0 to 1.
        """
        valid, text = _checked(fraction, message)
        report = getattr(self, "_report_progress", None)
        if report is not None:
            report(valid, text)


def bind(job: TellsProgress, report: ReportProgress) -> None:
    """A run of the job begins, and `report` gets what its handler says."""
    object.__setattr__(job, "_report_progress", report)


def unbind(job: TellsProgress) -> None:
    """The run is over: what is left of its handler says nothing any more."""
    object.__setattr__(job, "_report_progress", None)


def is_bound(job: TellsProgress) -> bool:
    """Whether a run of this job goes on."""
    return getattr(job, "_report_progress", None) is not None


def _checked(fraction: float, message: str) -> tuple[float, str]:
    try:
        number = float(fraction)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"progress: the fraction must be a number from 0 to 1, not {str(fraction)[:MAX_PROGRESS_CHARS]}")
    if not isinstance(message, str):
        raise TypeError(f"progress: the message must be a text, not {type(message).__name__}")
    return number, message[:MAX_PROGRESS_CHARS]

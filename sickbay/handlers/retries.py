"""The option `retry` of a handler: its keys, their units and their checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypedDict

from sickbay.domain.retry import LONGEST_WAIT_MS, RetryOptions
from sickbay.handlers.checks import HandlerMistake, show
from sickbay.handlers.payloads.mismatch import CODE as MISMATCH

MAX_TYPE_RETRIES: Final = 100
"""As MAX_RETRIES and the settings file allow."""
_DAY_S: Final = LONGEST_WAIT_MS // 1000
_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "max": (0, MAX_TYPE_RETRIES),
    "delay": (0, _DAY_S),
    "backoff": (1, 10),
    "max_delay": (0, _DAY_S),
    "jitter": (0, 1),
}
"""The least and the greatest value of each key."""


class RetryOption(TypedDict, total=False):
    """How the jobs of a handler are retried, where that differs from MAX_RETRIES and RETRY_DELAY_MS: `delay`, `max_delay` in seconds."""

    max: int
    delay: float
    backoff: float
    max_delay: float
    jitter: float


def retry_options(retry: Any, by_code: Mapping[str, int]) -> RetryOptions:
    """The checked option, with the retries of single error codes. HandlerMistake says what to write instead."""
    if retry is None:
        return RetryOptions(retries_by_code=by_code)
    if not isinstance(retry, Mapping):
        raise HandlerMistake(f'retry must be a dictionary, for example retry={{"max": 5, "backoff": 2}}, not {show(retry)}')
    for key, value in retry.items():
        _check(key, value)
    return RetryOptions(
        max_retries=retry.get("max"),
        delay_ms=_ms(retry.get("delay")),
        backoff=retry.get("backoff"),
        max_delay_ms=_ms(retry.get("max_delay")),
        jitter=retry.get("jitter"),
        retries_by_code=by_code,
    )


def at_once_if_mismatched(options: RetryOptions) -> RetryOptions:
    """The options of a handler with a typed payload: a job with a payload of another type is quarantined at once, unless they differ.

    Another run of the same code would find the same mistake.
    """
    return replace(options, retries_by_code={MISMATCH: 0, **options.retries_by_code})


def _check(key: Any, value: Any) -> None:
    if key not in _BOUNDS:
        raise HandlerMistake(f"{show(key)} is no key of retry; known are {', '.join(_BOUNDS)}")
    least, most = _BOUNDS[key]
    whole = key == "max"
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not least <= value <= most:
        unit = " seconds" if "delay" in key else ""
        raise HandlerMistake(
            f"{key} of retry must be a {'whole ' if whole else ''}number from {least} to {most:,}{unit}, not {show(value)}"
        )


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)

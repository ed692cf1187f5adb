"""Durations in the settings file: `500ms`, `30s`, `10m`, `1h`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

DAY_MS: Final = 86_400_000
_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION: Final = r"[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h)"


def milliseconds(value: object) -> int:
    """What a text of the file means; ValueError, which says what to write, if it is no duration."""
    match = re.fullmatch(_DURATION, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write a duration like "500ms", "30s", "10m" or "1h"')
    unit = match[2]
    return round(float(match[0].removesuffix(unit)) * _UNITS_MS[unit])


def duration(*, least: int, most: int) -> Any:
    """The type of a key whose value is a duration; bounds and value are in ms."""
    schema = {"type": "string", "pattern": f"^{_DURATION}$"}
    return Annotated[int, BeforeValidator(milliseconds), Field(ge=least, le=most), WithJsonSchema(schema)]


def shown_duration(ms: int) -> str:
    """As the file writes it, with the largest unit that divides it."""
    unit = next(unit for unit, size in reversed(_UNITS_MS.items()) if ms % size == 0 and (ms or unit == "s"))
    return f"{ms // _UNITS_MS[unit]}{unit}"

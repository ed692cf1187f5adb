"""A schedule's spec as keys and values of TOML: what files of schedules have, what is exported, and what differences are shown in. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from sickbay.domain.schedule import DEFAULT_CATCH_UP_MS
from sickbay.domain.spans import UNITS
from sickbay.jobs.v1.job_pb2 import Priority
from sickbay.schedules.v1.schedule_pb2 import Overlap, Schedule, ScheduleSpec, WhileOpen

KEYS: Final = (
    "type",
    "cron",
    "every",
    "timezone",
    "payload",
    "priority",
    "start",
    "end",
    "jitter",
    "overlap",
    "catch_up",
    "pause_on_failure",
    "while_open",
    "description",
)
"""In the order in which they are shown."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_MOST_INTEGER: Final = 2**63 - 1
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def values(spec: ScheduleSpec) -> dict[str, str]:
    """The keys that differ from their defaults, with their values as TOML."""
    found = {
        "type": quoted(spec.job_type) if spec.job_type else "",
        "cron": quoted(spec.cron) if spec.cron else "",
        "every": _span(spec.interval.ToMilliseconds()) if spec.HasField("interval") else "",
        "timezone": quoted(spec.timezone) if spec.timezone not in {"", "UTC"} else "",
        "payload": payload_value(spec.payload_json) if spec.payload_json else "",
        "priority": _enum(Priority, "PRIORITY_", spec.priority, "normal"),
        "start": _time(spec, "start_time"),
        "end": _time(spec, "end_time"),
        "jitter": _span(spec.jitter.ToMilliseconds()) if spec.jitter.ToMilliseconds() else "",
        "overlap": _enum(Overlap, "OVERLAP_", spec.overlap, "skip"),
        "catch_up": _catch_up(spec),
        "pause_on_failure": "true" if spec.pause_on_failure else "",
        "while_open": _enum(WhileOpen, "WHILE_OPEN_", spec.while_open, "run"),
        "description": quoted(spec.description) if spec.description else "",
    }
    return {key: value for key, value in found.items() if value}


def differences(before: ScheduleSpec, after: ScheduleSpec, *, with_payload: bool = True) -> list[tuple[str, str, str]]:
    """The keys whose values differ, with both values, empty for a default; payloads are compared by what they mean."""
    old, new = values(before), values(after)
    if not with_payload or canonical(before.payload_json or "{}") == canonical(after.payload_json or "{}"):
        old.pop("payload", None)
        new.pop("payload", None)
    for field, key in (("start_time", "start"), ("end_time", "end")):  # one time has other words in another zone
        if getattr(before, field) == getattr(after, field):
            old.pop(key, None)
            new.pop(key, None)
    return [(key, old.get(key, ""), new.get(key, "")) for key in KEYS if old.get(key) != new.get(key)]


def table(schedule: Schedule, own_tenant: str) -> str:
    """The schedule as a table of a file; one of another tenant than `own_tenant` says so."""
    name = key(schedule.schedule_id)
    head = f"schedules.{name}" if schedule.tenant == own_tenant else f"tenants.{key(schedule.tenant)}.schedules.{name}"
    return "\n".join([f"[{head}]", *(f"{name} = {value}" for name, value in values(schedule.spec).items())]) + "\n"


def key(name: str) -> str:
    """A key of TOML, quoted if it must be."""
    return name if _BARE.fullmatch(name) else quoted(name)


def quoted(text: str) -> str:
    """A string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def payload_value(text: str) -> str:
    """A payload as an inline table, or as the JSON text if a table cannot say the same; empty for {}."""
    try:
        content = json.loads(text)
    except ValueError:
        return _text(text)
    if content == {}:
        return ""
    try:
        made = _inline(content)
        same = canonical(json.dumps(tomllib.loads(f"payload = {made}")["payload"])) == canonical(text)
    except (TypeError, ValueError, RecursionError):
        same = False
    return made if same else _text(text)


def canonical(text: str) -> str:
    """Equal for JSON texts that mean the same: blanks and the order of names do not count, digits of numbers do."""
    try:
        return json.dumps(json.loads(text, parse_float=lambda digits: {"\0": str(Decimal(digits))}), sort_keys=True)
    except ValueError:
        return text


def _text(text: str) -> str:
    return quoted(text) if "'" in text or _CONTROL.search(text) else f"'{text}'"


def _inline(value: Any) -> str:
    """A value of JSON as TOML; TypeError for null, and for an integer that other readers of TOML cannot read."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key(name)} = {_inline(one)}" for name, one in value.items()) + " }" if value else "{}"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) or (isinstance(value, int) and abs(value) <= _MOST_INTEGER):
        return repr(value)
    raise TypeError


def _enum(enum: Any, prefix: str, number: int, default: str) -> str:
    name = enum.Name(number).removeprefix(prefix).lower() if number else default
    return "" if name == default else quoted(name)


def _time(spec: ScheduleSpec, field: Literal["start_time", "end_time"]) -> str:
    """In the schedule's time zone, if this machine knows it."""
    if not spec.HasField(field):
        return ""
    ms = getattr(spec, field).ToMilliseconds()
    found = _EPOCH + timedelta(milliseconds=ms)
    with suppress(KeyError, ValueError, OSError, OverflowError):
        local = found.astimezone(ZoneInfo(spec.timezone or "UTC"))
        offset = local.utcoffset()
        if offset is not None and not offset.total_seconds() % 60:  # of seconds before time zones, which TOML cannot write
            found = local
    return found.isoformat(timespec="milliseconds" if ms % 1000 else "seconds")


def _catch_up(spec: ScheduleSpec) -> str:
    if not spec.HasField("catch_up_window"):
        return ""
    ms = spec.catch_up_window.ToMilliseconds()
    return "" if ms == DEFAULT_CATCH_UP_MS else _span(ms)


def _span(ms: int) -> str:
    """With the largest unit that divides it."""
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if ms % UNITS[unit] == 0 and (ms or unit == "s"))
    return quoted(f"{ms // UNITS[unit]}{unit}")

"""Files of schedules (TOML), as `sickbay schedules apply` reads them: `[schedules.NAME]`, and `[tenants.TENANT.schedules.NAME]`. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

from sickbay.domain.job import NAME_PATTERN, is_name
from sickbay.jobs.v1.job_pb2 import Priority
from sickbay.schedules.v1.schedule_pb2 import Overlap, ScheduleSpec, WhileOpen
from sickbay_cli.durations import parse_span
from sickbay_cli.moments import timestamp
from sickbay_cli.payload import check
from sickbay_cli.schedule_text import KEYS

MAX_FILE_BYTES: Final = 16_777_216
_NAME_IN_WORDS: Final = f"must match {NAME_PATTERN} (lower-case letters, digits, '.', '_' and '-', at most 64)"
_Path = tuple[str, ...]


class FileMistakes(ValueError):
    """The file is not valid; `mistakes` has a line for each mistake."""

    def __init__(self, mistakes: list[str]) -> None:
        """Each says where it is and what to write."""
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Written:
    """A schedule of the file; `where` is the path of its table."""

    tenant: str
    schedule_id: str
    spec: ScheduleSpec
    where: str


@dataclass(frozen=True, slots=True)
class ScheduleFile:
    """What the file says: its schedules, in order, and the tenants that it is about."""

    schedules: tuple[Written, ...]
    tenants: tuple[str, ...]


def parse_file(data: bytes, own_tenant: str) -> ScheduleFile:
    """The file; `[schedules.NAME]` is of `own_tenant`. FileMistakes has every mistake in it."""
    if len(data) > MAX_FILE_BYTES:
        raise FileMistakes([f"the file is larger than {MAX_FILE_BYTES:,} bytes"])
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise FileMistakes([f"the file is not UTF-8 at byte {error.start}"]) from None
    except (ValueError, RecursionError) as error:
        raise FileMistakes([f"the file is not TOML: {error}"]) from None
    reading = _Reading(text)
    found = list(reading.file(document, own_tenant))
    if reading.mistakes:
        raise FileMistakes(reading.mistakes)
    named = list(document.get("tenants", {}))
    tenants = dict.fromkeys([*([own_tenant] if "schedules" in document or not named else []), *named])
    return ScheduleFile(tuple(found), tuple(tenants))


class _Reading:
    """Reads what TOML has become, and collects what is wrong with it."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self.mistakes: list[str] = []

    def file(self, document: Mapping[str, Any], own_tenant: str) -> Iterator[Written]:
        for name in document:
            if name not in {"schedules", "tenants"}:
                self._add((name,), "unknown table; schedules are [schedules.NAME], or [tenants.TENANT.schedules.NAME]")
        yield from self._schedules(("schedules",), document.get("schedules", {}), own_tenant)
        for tenant, content in self._tables(("tenants",), document.get("tenants", {}), "tenant"):
            where = ("tenants", tenant)
            for name in content:
                if name != "schedules":
                    self._add((*where, name), f"unknown key; write [tenants.{tenant}.schedules.NAME]")
            yield from self._schedules((*where, "schedules"), content.get("schedules", {}), tenant)

    def _schedules(self, where: _Path, tables: Any, tenant: str) -> Iterator[Written]:
        for name, content in self._tables(where, tables, "schedule"):
            before = len(self.mistakes)
            spec = self._spec((*where, name), content)
            if len(self.mistakes) == before:
                yield Written(tenant, name, spec, dotted((*where, name)))

    def _tables(self, where: _Path, tables: Any, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The tables whose names are valid."""
        if not isinstance(tables, dict):
            self._add(where, f"write a table for each {kind}, as [{dotted(where)}.NAME]")
            return
        for name, content in tables.items():
            if not isinstance(content, dict):
                self._add((*where, name), f"write a table, [{dotted((*where, name))}], with keys such as type and cron")
            elif not is_name(name):
                hint = f"; did you mean {name.lower()}?" if is_name(name.lower()) else ""
                self._add((*where, name), f"the name of a {kind} {_NAME_IN_WORDS}{hint}")
            elif kind == "schedule" and (inner := _dotted_name(name, content)):
                self._add((*where, name), f'a name with dots needs quotes: write [{dotted(where)}."{inner}"]')
            else:
                yield name, content

    def _spec(self, where: _Path, content: Mapping[str, Any]) -> ScheduleSpec:
        spec = ScheduleSpec()
        for key, value in content.items():
            if key not in _READERS:
                near = get_close_matches(key, _READERS, n=1)
                self._add((*where, key), f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known are {', '.join(KEYS)}")
                continue
            try:
                _READERS[key](spec, value)
            except ValueError as error:
                self._add((*where, key), f"{error} (it is {_shown(value)})")
        if "type" not in content:
            self._add(where, 'the type of its jobs is missing; write type = "report"')
        if ("cron" in content) == ("every" in content):
            what = "two say when it runs, cron and every; keep one" if "cron" in content else "nothing says when it runs"
            self._add(where, f'{what}: write cron = "0 3 * * *", or every = "10m"')
        return spec

    def _add(self, where: _Path, what: str) -> None:
        line = _line_of(self._lines, where)
        self.mistakes.append(f"{f'line {line}: ' if line else ''}{dotted(where)}: {what}")


def dotted(where: _Path) -> str:
    """A path of keys as TOML would write it."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in where)


def _dotted_name(name: str, content: Mapping[str, Any]) -> str:
    """`a.b` for what `[schedules.a.b]` has become; empty if it is a schedule."""
    inner = [f"{name}.{key}" for key, value in content.items() if isinstance(value, dict) and key not in _READERS]
    return inner[0] if inner and len(inner) == len(content) else ""


def _line_of(lines: list[str], where: _Path) -> int:
    """The line of a key or of its table, 0 if it is not found: values over several lines may hide it."""
    found = 0
    for depth in range(len(where), 0, -1):
        pattern = re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(_either(part) for part in where[:depth]) + r"\s*\]")
        header = next((number for number, line in enumerate(lines, 1) if pattern.match(line)), 0)
        if not header:
            continue
        if depth == len(where):
            return header
        key = re.compile(rf"\s*{_either(where[depth])}\s*[.=]")
        body = enumerate(lines[header:], header + 1)
        return next((number for number, line in body if key.match(line)), header)
    key = re.compile(rf"\s*\[?\s*{_either(where[0])}\s*[].=]")
    return next((number for number, line in enumerate(lines, 1) if key.match(line)), found)


def _either(name: str) -> str:
    """A key with or without quotes, as a pattern."""
    return rf"[\"']?{re.escape(name)}[\"']?"


def _shown(value: Any) -> str:
    return repr(value.isoformat() if isinstance(value, date | time) else value)[:80]


def _string(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"write {what} in quotes")  # noqa: TRY004 - the user's mistake
    return value


def _text(field: str, what: str) -> Callable[[ScheduleSpec, Any], None]:
    return lambda spec, value: setattr(spec, field, _string(value, what))


def _span(field: str) -> Callable[[ScheduleSpec, Any], None]:
    def read(spec: ScheduleSpec, value: Any) -> None:
        try:
            ms = parse_span(_string(value, "a duration"))
        except ValueError:
            raise ValueError('write a duration like "30s", "10m", "1h30m" or "1d"') from None
        getattr(spec, field).FromMilliseconds(ms)

    return read


def _time(field: str) -> Callable[[ScheduleSpec, Any], None]:
    def read(spec: ScheduleSpec, value: Any) -> None:
        advice = "write a time with its offset, such as 2027-01-01T08:00:00+01:00, without quotes"
        if not isinstance(value, datetime) or value.utcoffset() is None:
            raise ValueError(advice)
        ms = round(value.timestamp() * 1000)
        if ms < 0:
            raise ValueError(f"{advice}, in the years 1970 to 9999")
        getattr(spec, field).CopyFrom(timestamp(ms))

    return read


def _choice(field: str, enum: Any, prefix: str) -> Callable[[ScheduleSpec, Any], None]:
    names = [name.removeprefix(prefix).lower() for name, number in enum.items() if number]
    known = ", ".join(f'"{name}"' for name in names)

    def read(spec: ScheduleSpec, value: Any) -> None:
        if not isinstance(value, str) or value.lower() not in names:
            raise ValueError(f"write one of {known}")
        setattr(spec, field, enum.Value(f"{prefix}{value.upper()}"))

    return read


def _flag(spec: ScheduleSpec, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError("write true or false")  # noqa: TRY004 - the user's mistake
    spec.pause_on_failure = value


def _payload(spec: ScheduleSpec, value: Any) -> None:
    if isinstance(value, str):
        check(value)
        spec.payload_json = value
        return
    if not isinstance(value, dict):
        raise ValueError('write a table, { to = "ada@example.com" }, or the JSON text of an object, \'{"id": 1}\'')  # noqa: TRY004
    try:
        spec.payload_json = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("JSON has no dates and no infinite numbers; write them as strings") from None


_READERS: Final[Mapping[str, Callable[[ScheduleSpec, Any], None]]] = MappingProxyType(
    {
        "type": _text("job_type", "a job type"),
        "cron": _text("cron", "a cron expression"),
        "every": _span("interval"),
        "timezone": _text("timezone", "the name of a time zone"),
        "payload": _payload,
        "priority": _choice("priority", Priority, "PRIORITY_"),
        "start": _time("start_time"),
        "end": _time("end_time"),
        "jitter": _span("jitter"),
        "overlap": _choice("overlap", Overlap, "OVERLAP_"),
        "catch_up": _span("catch_up_window"),
        "pause_on_failure": _flag,
        "while_open": _choice("while_open", WhileOpen, "WHILE_OPEN_"),
        "description": _text("description", "one line"),
    }
)

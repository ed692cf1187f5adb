"""The option `schedule` of a handler: when jobs of its type are submitted by themselves.

    @handler("report", schedule="0 3 * * *", timezone="Europe/Berlin")
    @handler("poll", schedule=timedelta(minutes=5))
    @handler("report", schedule=Schedule("0 3 * * *", payload={"of": "yesterday"}, overlap="ALLOW"))

A list gives one handler several. Everything is checked when the decorator runs, by the rules of the service, which are imported only then.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from sickbay.domain.code_schedule import CodeSchedule
from sickbay.domain.errors import InvalidArgument
from sickbay.domain.job import DEFAULT_TENANT, MAX_PAYLOAD_BYTES, NAME_PATTERN, is_name
from sickbay.domain.priority import Priority
from sickbay.domain.raised import text_of
from sickbay.domain.schedule import (
    DEFAULT_CATCH_UP_MS,
    MAX_CATCH_UP_MS,
    MAX_DESCRIPTION_CHARS,
    MAX_JITTER_MS,
    MIN_EVERY_MS,
    Overlap,
    ScheduleKey,
    ScheduleSpec,
    Timing,
    WhileOpen,
)
from sickbay.handlers.arguments import Arguments
from sickbay.handlers.checks import HandlerMistake, show
from sickbay.handlers.payloads import PayloadMismatch, is_payload_object, job_type_of, payload_of
from sickbay.handlers.payloads.mismatch import message_of
from sickbay.handlers.payloads.typing import PayloadObject

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
MAX_INTERVAL_MS: Final = 3_653 * 86_400_000
"""Ten years."""
MAX_DEPTH: Final = 200
"""As of all payloads."""
_E = TypeVar("_E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When jobs of a handler's type are submitted, and what they are. Spans are seconds or timedeltas.

    Either `cron` or `interval` says when. `schedule_id` names it, by default after the job type; give each of several one of its own.
    `timezone` is that of `cron`, by name; the default is that of the handler, or UTC. `payload` is a dictionary or an object of the type
    of the handler's payload. `overlap` says what happens if the job of the run before has not ended (SKIP, BUFFER_ONE, ALLOW), `while_open`
    what if the circuit is open (RUN, SKIP). Times that nobody could run in time are made up for if they are at most `catch_up_window` ago
    (default a day). `start_time` and `end_time` are datetimes with a time zone. Nothing is checked before the decorator runs.
    """

    cron: str = ""
    _: KW_ONLY
    interval: timedelta | float | None = None
    timezone: str = ""
    payload: Mapping[str, Any] | PayloadObject | None = None
    priority: Priority | str = Priority.NORMAL
    overlap: Overlap | str = Overlap.SKIP
    while_open: WhileOpen | str = WhileOpen.RUN
    catch_up_window: timedelta | float | None = None
    pause_on_failure: bool = False
    jitter: timedelta | float = 0
    start_time: datetime | None = None
    end_time: datetime | None = None
    description: str = ""
    tenant: str = DEFAULT_TENANT
    schedule_id: str = ""


ScheduleOption = str | timedelta | Schedule | Sequence[str | timedelta | Schedule]
"""What the option may be: a cron expression or alias, an interval, a Schedule, or several of these."""


def schedules_of(job_type: str, option: Any, timezone: Any, arguments: Arguments, place: str) -> tuple[CodeSchedule, ...]:
    """The schedules of a handler. HandlerMistake says what to write instead. `place` is where the function is (`module.name`)."""
    if option is None:
        if timezone is not None:
            raise HandlerMistake(f"the handler of {job_type!r} has a timezone but no schedule; add one, for example schedule='0 3 * * *'")
        return ()
    if timezone is not None and not (isinstance(timezone, str) and timezone):
        raise HandlerMistake(f"timezone must be the name of a time zone, for example 'Europe/Berlin', not {show(timezone)}")
    found: dict[ScheduleKey, CodeSchedule] = {}
    for one in option if isinstance(option, list | tuple) else [option]:
        schedule = _schedule(job_type, _as_schedule(one, timezone), arguments)
        if schedule.key in found:
            raise HandlerMistake(
                f"two schedules of the handler of {job_type!r} are called {schedule.key.schedule_id!r}; give each a name of its own, "
                "for example Schedule('0 3 * * *', schedule_id='nightly-report')"
            )
        found[schedule.key] = replace(schedule, handler=place)
    if not found:
        raise HandlerMistake(f"the list of schedules of the handler of {job_type!r} is empty; leave the option out")
    return tuple(found.values())


def _as_schedule(one: Any, timezone: str | None) -> Schedule:
    if isinstance(one, Schedule):
        return one if one.timezone or one.interval is not None else replace(one, timezone=timezone or "")
    if isinstance(one, timedelta):
        return Schedule(interval=one, timezone=timezone or "")
    if isinstance(one, str):
        return Schedule(one, timezone=timezone or "")
    raise HandlerMistake(
        "schedule must be a cron expression such as '0 3 * * *', a timedelta, a Schedule(...), or a list of these, not " + show(one)
    )


def _schedule(job_type: str, asked: Schedule, arguments: Arguments) -> CodeSchedule:
    name = asked.schedule_id or job_type
    whose = f"the schedule {show(name)} of the handler of {job_type!r}"
    names: dict[str, Any] = {"schedule_id": name, "tenant": asked.tenant}
    for what, value in names.items():
        if not isinstance(value, str) or not is_name(value):
            raise HandlerMistake(f"{what} of {whose} must match {NAME_PATTERN}, not {show(value)}")
    pauses: Any = asked.pause_on_failure
    if not isinstance(pauses, bool):
        raise HandlerMistake(f"pause_on_failure of {whose} must be True or False, not {show(pauses)}")
    catches_up = asked.catch_up_window
    spec = ScheduleSpec(
        job_type=job_type,
        timing=_timing(asked, whose),
        payload_json=_payload_json(job_type, asked.payload, arguments, whose),
        priority=_choice(Priority, asked.priority, "priority", whose),
        overlap=_choice(Overlap, asked.overlap, "overlap", whose),
        while_open=_choice(WhileOpen, asked.while_open, "while_open", whose),
        catch_up_ms=DEFAULT_CATCH_UP_MS if catches_up is None else _span_ms(catches_up, "catch_up_window", whose, 0, MAX_CATCH_UP_MS),
        pause_on_failure=pauses,
        description=_description(asked.description, whose),
    )
    _check(spec, whose)
    return CodeSchedule(ScheduleKey(asked.tenant, name), spec)


def _timing(asked: Schedule, whose: str) -> Timing:
    cron = _text(asked.cron, "cron", whose).strip()
    if bool(cron) is (asked.interval is not None):
        raise HandlerMistake(
            f"{whose} has {'both' if cron else 'neither'} cron {'and' if cron else 'nor'} interval; say when it runs by one"
        )
    return Timing(
        cron=cron,
        every_ms=0 if asked.interval is None else _span_ms(asked.interval, "interval", whose, MIN_EVERY_MS, MAX_INTERVAL_MS),
        timezone=_text(asked.timezone, "timezone", whose) or "UTC",
        start_at=_moment_ms(asked.start_time, "start_time", whose),
        end_at=_moment_ms(asked.end_time, "end_time", whose),
        jitter_ms=_span_ms(asked.jitter, "jitter", whose, 0, MAX_JITTER_MS),
    )


def _check(spec: ScheduleSpec, whose: str) -> None:
    """By the rules of the service. They are imported here: a program that has no schedule needs neither them nor cronsim."""
    from sickbay.domain.code_schedule_checks import check_code_spec  # noqa: PLC0415 - see above

    try:
        check_code_spec(spec, time.time_ns() // 1_000_000)
    except InvalidArgument as error:
        raise HandlerMistake(f"{whose}: {error}") from None


def _payload_json(job_type: str, payload: Any, arguments: Arguments, whose: str) -> bytes:
    if payload is None:
        payload = {}
    if not isinstance(payload, Mapping) and not is_payload_object(payload):
        raise HandlerMistake(
            f"the payload of {whose} must be a dictionary or an object of the type of the handler's payload, not {show(payload)}"
        )
    own = job_type_of(type(payload))
    if own and own != job_type:
        raise HandlerMistake(f"the payload of {whose} is one of the job type {own!r}; give it one of {job_type!r}")
    text = _written(payload, whose)
    if len(text) > MAX_PAYLOAD_BYTES:
        raise HandlerMistake(f"the payload of {whose} has {len(text):,} bytes of JSON, at most {MAX_PAYLOAD_BYTES:,} are taken")
    if arguments.payload is not None:
        try:
            arguments.payload.decode(text)
        except PayloadMismatch as error:
            raise HandlerMistake(f"the payload of {whose} is no {arguments.payload.name}: {message_of(error.problems)}") from None
        except Exception as error:  # noqa: BLE001 - validators of the user run in there
            raise HandlerMistake(f"the payload of {whose} is no {arguments.payload.name}: {text_of(error)}") from None
    return text


def _written(payload: Any, whose: str) -> bytes:
    try:
        content = payload_of(payload) if not isinstance(payload, Mapping) else dict(payload)
        text = "" if _is_deep(content, MAX_DEPTH) else json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        found = text.encode()
    except Exception as error:  # noqa: BLE001 - serializers of the user run in there
        raise HandlerMistake(f"the payload of {whose} cannot be written as JSON: {text_of(error)}") from None
    if not found:
        raise HandlerMistake(f"the payload of {whose} is nested more than {MAX_DEPTH} levels deep")
    return found


def _is_deep(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return bool(inner) and (levels <= 1 or any(_is_deep(one, levels - 1) for one in inner if isinstance(one, Mapping | list | tuple)))


def _choice(choices: type[_E], value: Any, what: str, whose: str) -> _E:
    try:
        return choices(value.upper())
    except (AttributeError, ValueError):
        known = ", ".join(choices)
        raise HandlerMistake(f"{what} of {whose} must be one of {known}, not {show(value)}") from None


def _span_ms(value: Any, what: str, whose: str, least: int, most: int) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number and not isinstance(value, timedelta):
        raise HandlerMistake(f"{what} of {whose} must be seconds or a timedelta, not {show(value)}")
    span = value // _MS if isinstance(value, timedelta) else round(value * 1000)
    if not least <= span <= most:
        raise HandlerMistake(f"{what} of {whose} must be from {least // 1000} to {most // 1000:,} seconds, not {show(value)}")
    return span


def _moment_ms(value: Any, what: str, whose: str) -> int:
    if value is None:
        return 0
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise HandlerMistake(
            f"{what} of {whose} must be a datetime with a time zone, such as datetime(2027, 1, 1, tzinfo=UTC), not {show(value)}"
        )
    return (value - _EPOCH) // _MS


def _description(value: Any, whose: str) -> str:
    text = _text(value, "description", whose)
    if len(text) > MAX_DESCRIPTION_CHARS or not text.isprintable():
        raise HandlerMistake(f"description of {whose} must be one line of at most {MAX_DESCRIPTION_CHARS} characters, not {show(value)}")
    return text


def _text(value: Any, what: str, whose: str) -> str:
    if not isinstance(value, str):
        raise HandlerMistake(f"{what} of {whose} must be a text, not {show(value)}")
    return value

"""Explains the settings of job types and tenants: which value of each key is in force, and where it comes from. Pure.

`Policies` decides; this says the same in words, for `sickbay config show`. A unit test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from sickbay.domain.breaker import BreakerConfig
from sickbay.domain.retry import JITTER, RetryPolicy
from sickbay.runtime.policies import DEFAULT_RATE
from sickbay.runtime.settings import Settings
from sickbay.runtime.settings_file import CODES, SettingsFile, key_paths, shown, value_at
from sickbay.runtime.settings_handler import HandlerTable
from sickbay.runtime.settings_limits import Table

OTHERWISE: Final = "unless the handler says otherwise"
NO_LIMIT: Final = "no limit"
ONE_PERIOD: Final = "as many as submit has"
HALF_A_SECOND: Final = "half a second's worth"

_VARIABLES: Final = MappingProxyType(
    {
        "timeout": ("handler_timeout", 1_000),
        "cancel_grace": ("cancel_grace", 1_000),
        "retry.max": ("max_retries", 1),
        "retry.delay": ("retry_delay_ms", 1),
        "breaker.threshold": ("failure_threshold", 1),
        "breaker.cooldown": ("cooldown_period", 1_000),
    }
)
"""The setting that decides where the file says nothing, and how many of the file's units one of its own is."""
_DEFAULTS: Final = MappingProxyType(
    {
        "retry.backoff": shown("retry.backoff", RetryPolicy().backoff),
        "retry.max_delay": shown("retry.max_delay", RetryPolicy().max_delay_ms),
        "retry.jitter": f"0, or {JITTER} if delays grow",
        "breaker.policy": "consecutive",
        "breaker.rate": shown("breaker.rate", DEFAULT_RATE),
        "breaker.calls": shown("breaker.calls", BreakerConfig().calls),
        "breaker.window": shown("breaker.window", BreakerConfig().window_ms),
        "breaker.slow": shown("breaker.slow", BreakerConfig().slow_ms),
        "concurrency": NO_LIMIT,
        "share": "0.75 beside others",
        "rate": NO_LIMIT,
        "burst": HALF_A_SECOND,
        "submit": NO_LIMIT,
        "submit_burst": ONE_PERIOD,
    }
)
"""What decides where nothing else does and there is no variable."""


class Source(StrEnum):
    """Where a value comes from."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class InForce:
    """A key of the settings file and its value, both as the file writes them.

    `name` is the environment variable or the key of the file, empty for a default. `unless` says what may decide otherwise, if anything:
    the options of a handler are known to its worker only.
    """

    key: str
    value: str
    source: Source
    name: str = ""
    unless: str = ""

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        where = "default" if self.source is Source.DEFAULT else self.name
        return f"{where}, {self.unless}" if self.unless else where


def explain(settings: Settings, file: SettingsFile, job_type: str | None) -> Sequence[InForce]:
    """Every key for this job type; for all types that the file does not name, if that is None."""
    return list(_explain(settings, file, job_type))


def _explain(settings: Settings, file: SettingsFile, job_type: str | None) -> Iterator[InForce]:
    if job_type is not None and (dependency := file.dependencies.get(job_type)) is not None:
        yield InForce("dependency", dependency, Source.FILE, f"types.{_quoted(job_type)}.dependency")
    if job_type is not None and (handler := file.handlers.get(job_type)) is not None:
        yield from _of_handler(handler, f"types.{_quoted(job_type)}.handler")
    for key in key_paths():
        said = {one: value for one in _asked(file, job_type, key) if (value := value_at(file.types[one], key)) is not None}
        if said:
            whose, value = next(iter(said.items()))
            yield InForce(key, shown(key, value), Source.FILE, f"types.{_quoted(whose)}.{key}", _unless(key, is_of_type=True))
        elif (value := value_at(file.defaults, key)) is not None:
            yield InForce(key, shown(key, value), Source.FILE, f"defaults.{key}", _unless(key))
        elif key in _VARIABLES:
            name, scale = _VARIABLES[key]
            is_set = name in settings.model_fields_set
            value = round(getattr(settings, name) * scale)
            source = Source.ENVIRONMENT if is_set else Source.DEFAULT
            yield InForce(key, shown(key, value), source, name.upper() if is_set else "", _unless(key))
        else:
            yield InForce(key, _DEFAULTS[key], Source.DEFAULT, unless=_unless(key))
    yield from _of_codes(file, job_type)


def _of_handler(handler: HandlerTable, where: str) -> Iterator[InForce]:
    for key, value in handler.shown().items():
        is_set = key.partition(".")[0] in handler.model_fields_set
        yield InForce(f"handler.{key}", value, Source.FILE if is_set else Source.DEFAULT, f"{where}.{key}" if is_set else "")


def explain_tenant(file: SettingsFile, tenant: str | None) -> Sequence[InForce]:
    """Every key for this tenant; for all that the file does not name, if that is None."""
    return _explain_named("tenant", file.tenants, file.defaults.tenant, tenant)


def explain_principal(file: SettingsFile, principal: str | None) -> Sequence[InForce]:
    """The same for a principal."""
    return _explain_named("principal", file.principals, file.defaults.principal, principal)


def _explain_named(noun: str, tables: Mapping[str, Table], defaults: Table, name: str | None) -> Sequence[InForce]:
    found = []
    for key in type(defaults).model_fields:
        default = ONE_PERIOD if key == "submit_burst" else NO_LIMIT
        own = getattr(tables[name], key) if name is not None and name in tables else None
        every = getattr(defaults, key)
        where = f"{noun}s.{_quoted(name or '')}.{key}" if own is not None else f"defaults.{noun}.{key}"
        value = every if own is None else own
        found.append(InForce(key, default, Source.DEFAULT) if value is None else InForce(key, f"{value}", Source.FILE, where))
    return found


def explain_limits(file: SettingsFile) -> Sequence[InForce]:
    """What is limited for all tenants together."""
    queued = file.limits.queued
    return [InForce("queued", NO_LIMIT, Source.DEFAULT) if queued is None else InForce("queued", f"{queued}", Source.FILE, "limits.queued")]


def _of_codes(file: SettingsFile, job_type: str | None) -> Iterator[InForce]:
    """The retries of single error codes."""
    own, defaults = file.policies(job_type or "")
    for code in sorted({*own.retry.codes, *defaults.retry.codes}):
        is_own = code in own.retry.codes
        table = f"types.{_quoted(job_type)}" if is_own and job_type else "defaults"
        number = own.retry.codes[code] if is_own else defaults.retry.codes[code]
        yield InForce(f"{CODES}.{code}", f"{number}", Source.FILE, f"{table}.{CODES}.{code}", "" if is_own else OTHERWISE)


def _asked(file: SettingsFile, job_type: str | None, key: str) -> Sequence[str]:
    """The types of the file that may decide a key of this type: itself first, and of the breaker all that share it."""
    if job_type is None:
        return ()
    sharing = [one for one, _ in file.breaker_tables(job_type)] if key.startswith("breaker.") else [job_type]
    return sorted((one for one in sharing if one in file.types), key=lambda one: one != job_type)


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]*", name) else f'"{name}"'


def _unless(key: str, *, is_of_type: bool = False) -> str:
    """What a handler may decide: its options stand behind the table of its type, its retries of single error codes before `max`."""
    if not is_of_type and key not in ("rate", "burst") and not key.startswith(("breaker.", "share", "submit")):
        return OTHERWISE
    return "unless the handler says otherwise for an error code" if key == "retry.max" else ""

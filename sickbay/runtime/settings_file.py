"""The settings file (TOML): what operators set for all job types and for single ones, validated as a whole.

`load_file` reads one; every mistake in it is reported at once, by its key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from sickbay.domain.access import MAX_PRINCIPAL_CHARS
from sickbay.domain.breaker import DEPENDENCY, BreakerKey
from sickbay.domain.errors import SettingsError
from sickbay.domain.job import CODE_PATTERN, NAME_PATTERN
from sickbay.domain.retry import RetryOptions
from sickbay.handlers.checks import MAX_RETRIES, MAX_TIMEOUT_S
from sickbay.handlers.retries import MAX_TYPE_RETRIES
from sickbay.runtime.settings_durations import DAY_MS, duration, milliseconds, shown_duration
from sickbay.runtime.settings_handler import HandlerTable, HeaderTable, SecretTable
from sickbay.runtime.settings_limits import Burst, Frequent, LimitsTable, PrincipalTable, Table, TenantTable
from sickbay.runtime.settings_mistakes import dotted, mistakes_of

CODES: Final = "retry.codes"
"""The key of a table with a value for each error code."""
MAX_FILE_BYTES: Final = 1_048_576
_NAME: Final = f"^{NAME_PATTERN}$"


class RetryTable(Table):
    """`retry = { max, delay, backoff, max_delay, jitter, codes }`."""

    max: int | None = Field(None, ge=0, le=MAX_TYPE_RETRIES, description="Retries after a job's first run, before it is quarantined")
    delay: duration(least=0, most=DAY_MS) | None = Field(None, description="How long a failed job waits before it runs again")  # type: ignore[valid-type]
    backoff: float | None = Field(None, ge=1, le=10, allow_inf_nan=False, description="By which each further delay is multiplied")
    max_delay: duration(least=0, most=DAY_MS) | None = Field(None, description="The longest delay")  # type: ignore[valid-type]
    jitter: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description="The part of a delay by which it is extended at random")
    codes: Mapping[Annotated[str, Field(pattern=f"^{CODE_PATTERN}$")], Annotated[int, Field(ge=0, le=MAX_RETRIES)]] = Field(
        default_factory=dict, description="Retries by error code; beyond them a job is quarantined, whatever the kind of failure"
    )

    @property
    def options(self) -> RetryOptions:
        """What the table sets."""
        return RetryOptions(self.max, self.delay, self.backoff, self.max_delay, self.jitter, self.codes)


class BreakerTable(Table):
    """`breaker = { threshold, cooldown, policy, rate, calls, window, slow }`."""

    threshold: int | None = Field(None, ge=1, le=1_000, description="Failures of one error code in a row that open the breaker")
    cooldown: duration(least=1, most=DAY_MS) | None = Field(None, description="How long an open breaker waits before its first probe")  # type: ignore[valid-type]
    policy: Literal["consecutive", "rate"] | None = Field(
        None, description="What opens the breaker: failures in a row, or a share of the recent runs"
    )
    rate: float | None = Field(None, ge=0.01, le=1, allow_inf_nan=False, description="Policy rate: the share of bad runs that opens it")
    calls: int | None = Field(None, ge=1, le=100_000, description="Policy rate: with fewer runs in the window it does not open")
    window: duration(least=1_000, most=3_600_000) | None = Field(None, description="Policy rate: how long a run counts")  # type: ignore[valid-type]
    slow: duration(least=0, most=DAY_MS) | None = Field(  # type: ignore[valid-type]
        None, description="Policy rate: a run that takes so long is bad, too; 0s: however long it takes"
    )

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        set_here = [key for key in ("rate", "calls", "window", "slow") if getattr(self, key) is not None]
        if self.policy == "consecutive" and set_here:
            raise ValueError(f'only policy = "rate" has {", ".join(set_here)}: write that, or leave them out')
        return self


class PolicyTable(Table):
    """`[types.NAME]`, and most of `[defaults]`. None means "not set here"."""

    timeout: duration(least=1, most=int(MAX_TIMEOUT_S * 1000)) | None = Field(None, description="How long a run may take")  # type: ignore[valid-type]
    retry: RetryTable = RetryTable()
    breaker: BreakerTable = BreakerTable()
    cancel_grace: duration(least=0, most=int(MAX_TIMEOUT_S * 1000)) | None = Field(  # type: ignore[valid-type]
        None, description="How long an async handler may go on after a request to cancel its job"
    )
    concurrency: int | None = Field(None, ge=1, le=10_000, description="Jobs of a type that one worker runs at a time")
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="The part of a worker's slots that the jobs of a type and tenant may hold, at least one",
    )
    rate: Frequent | None = Field(None, description="Runs of a type per second, minute or hour, on all workers together")
    burst: Burst | None = Field(None, description="Runs that may start at once after a pause; not set: half a second's worth of `rate`")
    submit: Frequent | None = Field(None, description="Jobs of a type that may be submitted per second, minute or hour, by all together")
    submit_burst: Burst | None = Field(
        None, description="Jobs that may be submitted at once after a pause; not set: as many as `submit` has in its period"
    )


class DefaultsTable(PolicyTable):
    """`[defaults]`: what holds for each job type, tenant (`[defaults.tenant]`) and principal that does not say otherwise."""

    tenant: TenantTable = TenantTable()
    principal: PrincipalTable = PrincipalTable()


class TypeTable(PolicyTable):
    """`[types.NAME]`."""

    dependency: Annotated[str, Field(pattern=_NAME)] | None = Field(
        None, description="What the jobs need, for example a server; job types that name the same share one breaker"
    )
    handler: HandlerTable | None = Field(None, description="The endpoint to which workers post the jobs, in place of a handler in Python")


class SettingsFile(Table):
    """The whole file; durations are in milliseconds."""

    defaults: DefaultsTable = DefaultsTable()
    types: Mapping[Annotated[str, Field(pattern=_NAME)], TypeTable] = Field(default_factory=dict)
    tenants: Mapping[Annotated[str, Field(pattern=_NAME)], TenantTable] = Field(default_factory=dict)
    principals: Mapping[Annotated[str, Field(min_length=1, max_length=MAX_PRINCIPAL_CHARS)], PrincipalTable] = Field(default_factory=dict)
    limits: LimitsTable = LimitsTable()

    @property
    def extent(self) -> str:
        """How much it says, in words: `defaults and 2 job types`, `1 job type, 3 tenants, 1 principal`."""
        tenants = f", {_counted(len(self.tenants), 'tenant')}" if self.tenants else ""
        tenants += f", {_counted(len(self.principals), 'principal')}" if self.principals else ""
        defaults = "" if self.defaults == _NO_DEFAULTS and self.limits == LimitsTable() else "defaults and "
        return f"{defaults}{_counted(len(self.types), 'job type')}{tenants}"

    def policies(self, job_type: str) -> tuple[PolicyTable, PolicyTable]:
        """What the file says of this type itself, and of all types."""
        return self.types.get(job_type, _NOTHING), self.defaults

    @property
    def handlers(self) -> Mapping[str, HandlerTable]:
        """The endpoint of each type that has one."""
        return {job_type: table.handler for job_type, table in self.types.items() if table.handler is not None}

    @cached_property
    def dependencies(self) -> Mapping[str, str]:
        """The dependency of each type that has one."""
        return {job_type: table.dependency for job_type, table in self.types.items() if table.dependency is not None}

    def breaker_tables(self, name: str) -> Sequence[tuple[str, BreakerTable]]:
        """The tables about the breaker of this job type, or of `dependency:<name>`, each with its type; together they set a key once."""
        dependency = self.dependencies.get(name) or BreakerKey(name).dependency
        sharing = self.sharers.get(dependency, ()) if dependency else [name]
        return [(one, self.types[one].breaker) for one in sharing if one in self.types]

    @cached_property
    def sharers(self) -> Mapping[str, Sequence[str]]:
        """The types of each dependency, in order."""
        found: dict[str, list[str]] = {}
        for job_type, dependency in sorted(self.dependencies.items()):
            found.setdefault(dependency, []).append(job_type)
        return found


_NOTHING: Final = TypeTable()
_NO_DEFAULTS: Final = DefaultsTable()


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class SettingsFileError(SettingsError):
    """The file is not valid; `mistakes` has a line for each mistake."""

    def __init__(self, name: str, mistakes: list[str]) -> None:
        """`name` is the file's."""
        self.mistakes = mistakes
        more = f" (and {len(mistakes) - 1} more: `sickbay config check`)" if len(mistakes) > 1 else ""
        super().__init__(f"{name}: {mistakes[0]}{more}")


def load_file(path: Path) -> SettingsFile:
    """Read and validate it. SettingsFileError names what is wrong, and where."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsFileError(str(path), [f"the file cannot be read: {error.strerror}"]) from None
    return parse_file(data, str(path))


def parse_file(data: bytes, name: str) -> SettingsFile:
    """The same from bytes; `name` is only for errors."""
    if len(data) > MAX_FILE_BYTES:
        raise SettingsFileError(name, [f"the file is larger than {MAX_FILE_BYTES} bytes"])
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SettingsFileError(name, [f"the file is not UTF-8 at byte {error.start}"]) from None
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise SettingsFileError(name, [f"the file is not TOML: {error}"]) from None
    try:
        file = SettingsFile.model_validate(document)
    except ValidationError as error:
        raise SettingsFileError(name, list(mistakes_of(error, _known_keys))) from None
    if conflicts := list(_conflicts(file)):
        raise SettingsFileError(name, conflicts)
    return file


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sickbay's settings file",
        **SettingsFile.model_json_schema(),
    }


def key_paths() -> Sequence[str]:
    """Every key with one value that a table of the file may have, in the order of the documentation: `timeout`, `retry.max` and so on."""
    return [path for path in _fields(PolicyTable) if path != CODES]


def value_at(table: PolicyTable, path: str) -> Any:
    """What the table says of a key; None if it says nothing."""
    value: Any = table
    for part in path.split("."):
        value = getattr(value, part)
    return value


def shown(path: str, value: Any) -> str:
    """The value of a key as the file writes it, without quotes: durations with the largest unit that divides them."""
    if any(getattr(mark, "func", None) is milliseconds for mark in _marks(_fields(PolicyTable)[path])):
        return shown_duration(value)
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _fields(model: type[BaseModel], above: str = "") -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= _fields(inner, f"{above}{name}.")
        else:
            found[above + name] = field
    return found


def _marks(field: FieldInfo) -> Iterator[Any]:
    yield from field.metadata
    for part in get_args(field.annotation):
        yield from getattr(part, "__metadata__", ())


def _conflicts(file: SettingsFile) -> Iterator[str]:
    """Types that share a breaker and want different ones."""
    for dependency in sorted(file.sharers):
        for key in BreakerTable.model_fields:
            said = [
                (one, value) for one, table in file.breaker_tables(DEPENDENCY + dependency) if (value := getattr(table, key)) is not None
            ]
            if len({value for _, value in said}) > 1:
                (first, value), (other, another) = said[0], next(one for one in said if one[1] != said[0][1])
                path = f"breaker.{key}"
                yield (
                    f"{dotted(['types', other, 'breaker', key])}: {shown(path, another)} differs from {shown(path, value)} of "
                    f"{dotted(['types', first, 'breaker', key])}, but both types share the breaker of their dependency {dependency}; "
                    "set it in one of them"
                )


def _known_keys(table: Sequence[str]) -> Sequence[str]:
    model: type[BaseModel] = SettingsFile
    tables: Mapping[str, type[BaseModel]] = {
        "defaults": DefaultsTable,
        "types": TypeTable,
        "tenants": TenantTable,
        "tenant": TenantTable,
        "principals": PrincipalTable,
        "principal": PrincipalTable,
        "limits": LimitsTable,
        "retry": RetryTable,
        "breaker": BreakerTable,
        "handler": HandlerTable,
        "secret": SecretTable,
    }
    at = [table[0], *table[2:]] if table[:1] in (["types"], ["tenants"], ["principals"]) else table
    if "headers" in at:
        return list(HeaderTable.model_fields)
    for part in at:
        model = tables[part]
    return list(model.model_fields)

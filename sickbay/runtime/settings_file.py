"""The settings file (TOML): what operators set for all job types and for single ones, validated as a whole.

`load_file` reads one; every mistake in it is reported at once, by its key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from sickbay.domain.errors import SettingsError
from sickbay.domain.job import CODE_PATTERN
from sickbay.domain.retry import RetryOptions
from sickbay.handlers.checks import MAX_RETRIES, MAX_TIMEOUT_S
from sickbay.handlers.retries import MAX_TYPE_RETRIES

DAY_MS: Final = 86_400_000
MAX_FILE_BYTES: Final = 1_048_576
_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION: Final = r"[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h)"


def _milliseconds(value: object) -> int:
    match = re.fullmatch(_DURATION, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write a duration like "500ms", "30s", "10m" or "1h"')
    unit = match[2]
    return round(float(match[0].removesuffix(unit)) * _UNITS_MS[unit])


def _duration(*, least: int, most: int) -> Any:
    schema = {"type": "string", "pattern": f"^{_DURATION}$"}
    return Annotated[int, BeforeValidator(_milliseconds), Field(ge=least, le=most), WithJsonSchema(schema)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RetryTable(_Table):
    """`retry = { max, delay, backoff, max_delay, jitter, codes }`."""

    max: int | None = Field(None, ge=0, le=MAX_TYPE_RETRIES, description="Retries after a job's first run, before it is quarantined")
    delay: _duration(least=0, most=DAY_MS) | None = Field(None, description="How long a failed job waits before it runs again")  # type: ignore[valid-type]
    backoff: float | None = Field(None, ge=1, le=10, allow_inf_nan=False, description="By which each further delay is multiplied")
    max_delay: _duration(least=0, most=DAY_MS) | None = Field(None, description="The longest delay")  # type: ignore[valid-type]
    jitter: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description="The part of a delay by which it is extended at random")
    codes: Mapping[Annotated[str, Field(pattern=f"^{CODE_PATTERN}$")], Annotated[int, Field(ge=0, le=MAX_RETRIES)]] = Field(
        default_factory=dict, description="Retries by error code; beyond them a job is quarantined, whatever the kind of failure"
    )

    @property
    def options(self) -> RetryOptions:
        """What the table sets."""
        return RetryOptions(self.max, self.delay, self.backoff, self.max_delay, self.jitter, self.codes)


class BreakerTable(_Table):
    """`breaker = { threshold, cooldown }`."""

    threshold: int | None = Field(None, ge=1, le=1_000, description="Failures of one error code in a row that open the breaker")
    cooldown: _duration(least=1, most=DAY_MS) | None = Field(None, description="How long an open breaker waits before its first probe")  # type: ignore[valid-type]


class PolicyTable(_Table):
    """`[defaults]`, or `[types.NAME]`. None means "not set here"."""

    timeout: _duration(least=1, most=int(MAX_TIMEOUT_S * 1000)) | None = Field(None, description="How long a run may take")  # type: ignore[valid-type]
    retry: RetryTable = RetryTable()
    breaker: BreakerTable = BreakerTable()


class SettingsFile(_Table):
    """The whole file; durations are in milliseconds."""

    defaults: PolicyTable = PolicyTable()
    types: Mapping[Annotated[str, Field(min_length=1, max_length=100)], PolicyTable] = Field(default_factory=dict)

    def policies(self, job_type: str) -> tuple[PolicyTable, PolicyTable]:
        """What the file says of this type itself, and of all types."""
        return self.types.get(job_type, _NOTHING), self.defaults


_NOTHING: Final = PolicyTable()


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
        return SettingsFile.model_validate(document)
    except ValidationError as error:
        raise SettingsFileError(name, list(_mistakes(error))) from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sickbay's settings file",
        **SettingsFile.model_json_schema(),
    }


def _mistakes(error: ValidationError) -> Iterator[str]:
    for one in error.errors(include_url=False, include_context=False):
        where = [str(part) for part in one["loc"] if part != "[key]"]
        if one["type"] == "extra_forbidden":
            near = get_close_matches(where[-1], known := _known_keys(where[:-1]), n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            yield f"{_dotted(where)}: unknown key; {hint}"
        else:
            what = one["msg"].removeprefix("Value error, ")
            yield f"{_dotted(where)}: {what[0].lower()}{what[1:]} (it is {str(one['input'])[:80]!r})"


def _known_keys(table: list[str]) -> list[str]:
    model: type[BaseModel] = SettingsFile
    tables: Mapping[str, type[BaseModel]] = {"defaults": PolicyTable, "types": PolicyTable, "retry": RetryTable, "breaker": BreakerTable}
    at = [table[0], *table[2:]] if table[:1] == ["types"] else table
    for part in at:
        model = tables[part]
    return list(model.model_fields)


def _dotted(where: list[str]) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else repr(part) for part in where)

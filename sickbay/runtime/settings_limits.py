"""The tables of the settings file that limit what is accepted: rates of submissions, and how many jobs may wait."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from sickbay.domain.rate_limit import MAX_COUNT, PERIODS_MS, Frequency

MAX_QUEUED: Final = 1_000_000_000
_FREQUENCY: Final = r"([0-9]{1,7})/([smh])"


def _parse(value: object) -> Frequency:
    match = re.fullmatch(_FREQUENCY, value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= MAX_COUNT:
        raise ValueError(f'write a rate like "100/s", "20/m" or "1000/h", from 1 to {MAX_COUNT}')
    return Frequency(int(match[1]), PERIODS_MS[match[2]])


Frequent = Annotated[
    Any,
    BeforeValidator(_parse),
    WithJsonSchema({"type": "string", "pattern": f"^{_FREQUENCY}$"}),
]
"""A `Frequency`, written as `100/s`."""
Burst = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Queued = Annotated[int, Field(ge=1, le=MAX_QUEUED)]


class Table(BaseModel):
    """A table of the file: unknown keys are mistakes, and numbers are not made of texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TenantTable(Table):
    """`[tenants.NAME]`, or `[defaults.tenant]`. None means "not set here"."""

    submit: Frequent | None = Field(
        None, description="Jobs that the tenant may submit per second, minute or hour, in all Job APIs together"
    )
    submit_burst: Burst | None = Field(
        None, description="Jobs that it may submit at once after a pause; not set: as many as `submit` has in its period"
    )
    queued: Queued | None = Field(None, description="Jobs of the tenant that may wait: those that are queued, retrying or parked")


class PrincipalTable(Table):
    """`[principals.NAME]`, or `[defaults.principal]`. None means "not set here"."""

    submit: Frequent | None = Field(
        None, description="Jobs that the principal may submit per second, minute or hour, in all Job APIs together, whatever their tenants"
    )
    submit_burst: Burst | None = Field(
        None, description="Jobs that it may submit at once after a pause; not set: as many as `submit` has in its period"
    )


class LimitsTable(Table):
    """`[limits]`."""

    queued: Queued | None = Field(None, description="Jobs of all tenants together that may wait: queued, retrying or parked")

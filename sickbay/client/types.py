"""Job types as frozen dataclasses; the contract's `job_type.proto` explains each field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class JobType:
    """A job type, as the workers that handle it describe it. `schema_json` is empty if a payload may be any JSON object."""

    job_type: str
    schema_json: str
    validated_on_submit: bool
    description: str
    handler: str
    workers: int
    pools: tuple[str, ...]
    announce_time: datetime | None
    schemas: int

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema of its payloads, decoded; None if there is none."""
        return json.loads(self.schema_json) if self.schema_json else None

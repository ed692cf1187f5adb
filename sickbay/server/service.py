"""A service of a gRPC server or in-process channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

HEALTH_DETAILS: Final = "sickbay-health-bin"
"""The trailer with details in a gRPC health response: the JSON of `GET /health`."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service: its full name (`sickbay.jobs.v1.JobService`), the generated `add_*Servicer_to_server`, and its servicer."""

    name: str
    add: Callable[[Any, Any], None]
    servicer: object

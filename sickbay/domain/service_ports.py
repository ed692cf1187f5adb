"""The ports that each service listens on unless a setting says otherwise: HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class ServicePorts(NamedTuple):
    """The ports of one service."""

    http: int
    grpc: int


JOB_API: Final = ServicePorts(3000, 50051)
WORKER: Final = ServicePorts(3001, 50052)
CONTROL_PLANE: Final = ServicePorts(3002, 50053)
DEFAULT_PORTS: Final[Mapping[str, ServicePorts]] = {"jobapi": JOB_API, "worker": WORKER, "control-plane": CONTROL_PLANE}
"""By the name that the `sickbay` command gives each service."""

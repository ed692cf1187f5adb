"""How urgent a job is: it chooses the lane in which the job waits."""

from __future__ import annotations

from enum import StrEnum


class Priority(StrEnum):
    """Workers take jobs of all three by weight, so LOW ones start as well while others wait."""

    HIGH = "HIGH"
    NORMAL = "NORMAL"
    LOW = "LOW"

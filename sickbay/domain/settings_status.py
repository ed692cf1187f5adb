"""What a process knows of its settings file, for metrics. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SettingsFileStatus:
    """`valid`: whether the file as it is now is in force; if not, the last valid one is, since `loaded_at_s` (seconds since the epoch).

    `applied` and `rejected` count the changes that were noticed since the start, by what became of them.
    """

    valid: bool
    loaded_at_s: float
    applied: int = 0
    rejected: int = 0

"""The files of our own contract, as they are in the folder `proto`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PROTO = Path(__file__).parents[2] / "proto"


def contract_files() -> Sequence[str]:
    """Their names for the descriptor pool, for example `sickbay/jobs/v1/job.proto`."""
    return sorted(str(path.relative_to(PROTO)) for path in (PROTO / "sickbay").rglob("*.proto"))

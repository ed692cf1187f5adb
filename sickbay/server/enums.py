"""Names of enum values in the query of a URL."""

from __future__ import annotations

from typing import Any

from sickbay.domain.errors import InvalidArgument


def number(enum: Any, prefix: str, name: str) -> Any:
    """The value of a protobuf enum from its name in JSON; InvalidArgument lists the valid names."""
    if not name:
        return 0
    known = [one.removeprefix(f"{prefix}_") for one, value in enum.items() if value]
    if name not in known:
        raise InvalidArgument(f"{prefix.lower()}: there is no {name[:80]!r}; use one of {', '.join(known)}")
    return enum.Value(f"{prefix}_{name}")

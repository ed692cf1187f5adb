"""Content negotiation by the `Accept` header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

JSON = ("application/json", "application/*")


def prefers(accept: str, kinds: Sequence[str], others: Sequence[str]) -> bool:
    """Whether the header prefers one of `kinds`, by name, to `others`."""
    qualities = dict(_parse(part) for part in accept.split(",") if part.strip())
    return _max_quality(qualities, kinds) > _max_quality(qualities, others)


def _max_quality(qualities: dict[str, float], kinds: Sequence[str]) -> float:
    return max((qualities.get(kind, 0.0) for kind in kinds), default=0.0)


def _parse(part: str) -> tuple[str, float]:
    kind, *parameters = (word.strip() for word in part.split(";"))
    quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
    try:
        return kind.lower(), float(quality)
    except ValueError:
        return kind.lower(), 0.0

"""The origins (RFC 6454) in CORS_ORIGINS, whose web pages may call over HTTP."""

from __future__ import annotations

import re
from typing import Final

_ORIGIN: Final = re.compile(r"(https?)://([a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MAX_PORT: Final = 65_535


def cors_origins(text: str) -> frozenset[str]:
    """The origins in a setting such as `https://app.example.com, http://localhost:5173`, as browsers send them.

    ValueError says what is wrong with one.
    """
    return frozenset(_origin(name) for part in text.split(",") if (name := part.strip().lower()))


def _origin(name: str) -> str:
    found = _ORIGIN.fullmatch(name)
    if found is None or int(found[4] or 0) > _MAX_PORT:
        raise ValueError(f"{name!r} is not an origin; name each as https://HOST or https://HOST:PORT, without a path and without *")
    scheme, port = found[1], int(found[4] or 0)
    return f"{scheme}://{found[2]}" + ("" if port in {0, _DEFAULT_PORTS[scheme]} else f":{port}")

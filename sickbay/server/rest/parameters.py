"""Rejects query parameters that are unknown or repeated, if that could do harm.

A repeated one, of which only one would count, is always rejected; an unknown one, perhaps a misspelt `tenant`, for methods that change
something. The known parameters are those of the route in `/openapi.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request

from sickbay.domain.errors import InvalidArgument
from sickbay.server.rest.request_policy import SAFE

_SHOWN_CHARS: Final = 80


async def check_parameters(request: Request) -> None:
    """A dependency of all routes: InvalidArgument names a parameter that is unknown or repeated."""
    if not request.url.query:
        return
    known = _known(request)
    if known is None:
        return
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known and request.method not in SAFE:
            known_text = f"known are {', '.join(known)}" if known else "none is known here"
            raise InvalidArgument(f"unknown parameter {_shown(name)}; {known_text}")
        if times > 1 and not known.get(name, True):
            raise InvalidArgument(f"the parameter {_shown(name)} is given {times} times; give it once")


def _known(request: Request) -> Mapping[str, bool] | None:
    """The route's documented parameters, and whether each may be repeated; None for undocumented routes."""
    paths: Mapping[str, Any] = request.app.openapi()["paths"]
    route = request.scope.get("route")
    operation = paths.get(getattr(route, "path", ""), {}).get(request.method.lower())
    if operation is None:
        return None
    parameters = operation.get("parameters", ())
    return {one["name"]: one["schema"].get("type") == "array" for one in parameters if one["in"] == "query"}


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...")

"""The mapping from gRPC status codes to HTTP, and the body of all REST errors: `{"statusCode", "message", "reason"}`.

If several fields of a payload can be wrong, `violations` has each: `{"field", "message"}`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

import grpc
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from sickbay.contract.faults import Fault, received
from sickbay.domain.errors import ErrorReason, Quota, SickbayError
from sickbay.server.errors import INTERNAL, fault_of
from sickbay.server.rest.guard import SECURITY_HEADERS
from sickbay.server.rest.views import View, encode

_log = logging.getLogger(__name__)

STATUSES: Final[Mapping[grpc.StatusCode, int]] = MappingProxyType(
    {
        grpc.StatusCode.INVALID_ARGUMENT: 400,
        grpc.StatusCode.UNAUTHENTICATED: 401,
        grpc.StatusCode.PERMISSION_DENIED: 403,
        grpc.StatusCode.NOT_FOUND: 404,
        grpc.StatusCode.ALREADY_EXISTS: 409,
        grpc.StatusCode.ABORTED: 409,
        grpc.StatusCode.FAILED_PRECONDITION: 409,
        grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
        grpc.StatusCode.UNIMPLEMENTED: 501,
        grpc.StatusCode.UNAVAILABLE: 503,
        grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    }
)
"""All others are 500."""

OVERRIDES: Final[Mapping[str, int]] = MappingProxyType({ErrorReason.PAYLOAD_TOO_LARGE: 413, ErrorReason.IDEMPOTENCY_KEY_REUSED: 422})
"""Reasons with a more specific HTTP status."""

_DEFAULT_WAITS: Final[Mapping[int, float]] = MappingProxyType({HTTPStatus.SERVICE_UNAVAILABLE: 1.0, HTTPStatus.TOO_MANY_REQUESTS: 60.0})
"""For errors without one, such as those of batches; the limit of new names is per minute."""
_CLIENT_DISCONNECTED: Final = 499
"""The client disconnected before its request was complete; nobody reads this response."""


def http_status(fault: Fault) -> int:
    """The HTTP status of a fault."""
    return OVERRIDES.get(fault.reason) or STATUSES.get(fault.code, HTTPStatus.INTERNAL_SERVER_ERROR)


def error_view(status: int, message: str, reason: str) -> View:
    """The body of every error."""
    return {"statusCode": status, "message": message, "reason": reason}


def fault_view(fault: Fault) -> View:
    """The body for a fault; without details for internal errors (500)."""
    status = http_status(fault)
    visible = INTERNAL if status == HTTPStatus.INTERNAL_SERVER_ERROR else fault
    return error_view(status, visible.message, visible.reason or visible.code.name) | _violations(visible)


def _violations(fault: Fault) -> View:
    """The single mistakes of a request, where there can be several."""
    return {"violations": [{"field": field, "message": text} for field, text in fault.violations]} if fault.violations else {}


def fault_response(fault: Fault) -> Response:
    """The response for a fault, with Retry-After if retrying later helps, and the RateLimit fields if a rate is exceeded."""
    view = fault_view(fault)
    wait = retry_after(fault)
    fields = {} if fault.quota is None else dict(rate_limit_fields(fault.quota))
    if fault.code is grpc.StatusCode.UNAUTHENTICATED:
        fields["www-authenticate"] = 'Bearer error="invalid_token"'
    return _response(view, fields if wait is None else {"retry-after": str(wait), **fields})


def rate_limit_fields(quota: Quota) -> Mapping[str, str]:
    """The fields of draft-ietf-httpapi-ratelimit-headers-10: the policy (q per w seconds), and that none remains (all are back in t)."""
    policy = f'"{quota.limit}";q={quota.quota};w={quota.window_s}'
    return {"ratelimit-policy": policy, "ratelimit": f'"{quota.limit}";r=0;t={quota.reset_s}'}


def retry_after(fault: Fault) -> int | None:
    """How many seconds to wait before the same request may succeed; None if waiting does not help."""
    wait = fault.retry_after or _DEFAULT_WAITS.get(http_status(fault))
    return None if wait is None else max(1, math.ceil(wait))


def item_error_view(fault: Fault) -> View:
    """The error of one item of a batch, which has no headers."""
    status = http_status(fault)
    view = error_view(status, fault.message, fault.reason or HTTPStatus(status).name) | _violations(fault)
    return view if (wait := retry_after(fault)) is None else view | {"retryAfterSeconds": wait}


def fault_of_any(error: BaseException) -> Fault:
    """The fault of an error that a route raised."""
    return received(error) if isinstance(error, grpc.aio.AioRpcError) else fault_of(error)


def install_handlers(app: FastAPI) -> None:
    """Install the handlers of all errors of an application."""
    app.add_exception_handler(grpc.aio.AioRpcError, _on_fault)
    app.add_exception_handler(SickbayError, _on_fault)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_internal_error)


async def _on_fault(request: Request, error: Exception) -> Response:
    fault = fault_of_any(error)
    if fault is INTERNAL:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return fault_response(fault)


async def _on_invalid(_: Request, error: Exception) -> Response:
    """Errors of FastAPI's validation of query and path parameters."""
    first: Mapping[str, Any] = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    names = [str(part) for part in first.get("loc", ()) if part not in {"query", "path", "body", "header"}]
    message = f"{'.'.join(names) or 'the request'}: {first.get('msg', 'not of the documented form')}"
    return _response(error_view(HTTPStatus.BAD_REQUEST, message, ErrorReason.INVALID_FIELD))


async def _on_http(request: Request, error: Exception) -> Response:
    """Unknown routes and methods, and HTTPExceptions of routes."""
    status, headers, detail = 500, None, ""
    if isinstance(error, HTTPException):
        status, headers, detail = error.status_code, error.headers, str(error.detail)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"allow": ", ".join(_methods(request))}
        if request.method == "OPTIONS":  # including a browser's preflight, which gets no permission
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    phrase = HTTPStatus(status).phrase
    if detail in {"", phrase}:
        detail = _SENTENCES.get(status, phrase).format(method=request.method, path=request.url.path[:200])
    return _response(error_view(status, detail, HTTPStatus(status).name), headers)


def _methods(request: Request) -> list[str]:
    """All methods that the path supports, in any route (RFC 9110, section 10.2.1)."""
    here = (route for route in request.app.routes if isinstance(route, Route) and route.path_regex.match(request.scope["path"]))
    found = {method for route in here for method in route.methods or ()} or {"GET"}  # files of /docs are not routes
    return sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set()))


_SENTENCES: Final = MappingProxyType(
    {404: "there is nothing at {method} {path}; see /docs for the routes", 405: "{path} does not support the method {method}; see /docs"}
)


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_DISCONNECTED)


async def _on_internal_error(_: Request, __: Exception) -> Response:
    """The server logs the traceback; the client gets no details."""
    response = fault_response(INTERNAL)
    response.headers.update(SECURITY_HEADERS)  # this response bypasses the guard
    return response


def _response(view: View, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(view), view["statusCode"], headers, media_type="application/json")

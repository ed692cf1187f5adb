"""What an exception of a handler means: its error code, its kind, and the wait it asks for.

Libraries are recognised by the names of their exception classes, so none of them needs to be installed or imported.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final

from sickbay.errors import MAX_RETRY_AFTER, JobError
from sickbay.job import MAX_MESSAGE_CHARS
from sickbay.outcome import Kind, Outcome, kind_of
from sickbay.sdk import HandlerSpec

_BUILT_IN: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (TimeoutError, "API_TIMEOUT"),
    (ConnectionRefusedError, "CONNECTION_REFUSED"),
    (ConnectionError, "NETWORK_ERROR"),
    (socket.gaierror, "NETWORK_ERROR"),
    (ssl.SSLError, "NETWORK_ERROR"),
)
_BY_NAME: Final[Mapping[tuple[str, str], str]] = {
    ("pydantic", "ValidationError"): "VALIDATION_ERROR",
    ("pydantic_core", "ValidationError"): "VALIDATION_ERROR",
    ("msgspec", "ValidationError"): "VALIDATION_ERROR",
    ("msgspec", "DecodeError"): "VALIDATION_ERROR",
    ("marshmallow", "ValidationError"): "VALIDATION_ERROR",
    ("jsonschema", "ValidationError"): "VALIDATION_ERROR",
    ("httpx", "TimeoutException"): "API_TIMEOUT",
    ("httpx", "ConnectError"): "CONNECTION_REFUSED",
    ("httpx", "TransportError"): "NETWORK_ERROR",
    ("requests", "Timeout"): "API_TIMEOUT",
    ("requests", "ConnectionError"): "NETWORK_ERROR",
    ("aiohttp", "ClientConnectionError"): "NETWORK_ERROR",
    ("urllib3", "TimeoutError"): "API_TIMEOUT",
    ("urllib3", "HTTPError"): "NETWORK_ERROR",
}
_GRPC: Final[Mapping[str, str]] = {
    "UNAVAILABLE": "SERVICE_UNAVAILABLE",
    "DEADLINE_EXCEEDED": "API_TIMEOUT",
    "RESOURCE_EXHAUSTED": "RATE_LIMITED",
    "INVALID_ARGUMENT": "VALIDATION_ERROR",
    "NOT_FOUND": "NOT_FOUND",
}
_STATUS: Final[Mapping[int, str]] = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    422: "VALIDATION_ERROR",
    429: "RATE_LIMITED",
    503: "SERVICE_UNAVAILABLE",
}


def classify(error: BaseException, spec: HandlerSpec) -> Outcome:
    """The outcome that `error` stands for: the handler's own mapping first, then JobError, then what everybody knows."""
    code = _own_code(error, spec)
    if code is None and isinstance(error, JobError):
        kind = spec.kinds.get(error.code, error.kind)
        return _outcome(error.code, error.message, kind, error.retry_after)
    code = code or _known_code(error) or _class_code(error)
    return _outcome(code, str(error) or type(error).__name__, spec.kinds.get(code, kind_of(code)), _retry_after(error))


def timed_out(seconds: float, spec: HandlerSpec) -> Outcome:
    """The outcome of a run that took longer than its timeout."""
    code = "HANDLER_TIMEOUT"
    return _outcome(code, f"the handler took longer than {seconds:g} s", spec.kinds.get(code, kind_of(code)), None)


def _outcome(code: str, message: str, kind: Kind, retry_after: float | None) -> Outcome:
    return Outcome(kind, code, message[:MAX_MESSAGE_CHARS], None if retry_after is None else round(retry_after * 1000))


def _own_code(error: BaseException, spec: HandlerSpec) -> str | None:
    for cls in type(error).__mro__:
        if cls in spec.codes:
            return spec.codes[cls]
    return None


def _known_code(error: BaseException) -> str | None:
    for cls in type(error).__mro__:
        code = _BY_NAME.get((cls.__module__.partition(".")[0], cls.__name__))
        if code:
            return code
    status = _http_status(error)
    if status is not None:
        return _STATUS.get(status, f"HTTP_{status}")
    grpc_code = _grpc_code(error)
    if grpc_code:
        return _GRPC.get(grpc_code, f"GRPC_{grpc_code}")
    return next((code for cls, code in _BUILT_IN if isinstance(error, cls)), None)


def _response(error: BaseException) -> Any:
    try:
        return getattr(error, "response", None)
    except RuntimeError:  # httpx raises when a request was never answered
        return None


def _http_status(error: BaseException) -> int | None:
    for owner, name in ((_response(error), "status_code"), (error, "status_code"), (error, "status"), (error, "code")):
        value = getattr(owner, name, None)
        if isinstance(value, int) and 400 <= value < 600:  # noqa: PLR2004 - HTTP errors
            return value
    return None


def _grpc_code(error: BaseException) -> str | None:
    if type(error).__module__.partition(".")[0] != "grpc" and not any(cls.__name__ == "RpcError" for cls in type(error).__mro__):
        return None
    code = getattr(error, "code", None)
    return getattr(code(), "name", None) if callable(code) else None


def _class_code(error: BaseException) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(error).__name__)
    return re.sub(r"[^A-Z0-9]+", "_", words.upper()).strip("_")[:48] or "ERROR"


def _retry_after(error: BaseException) -> float | None:
    """The seconds of a Retry-After header (RFC 9110, section 10.2.3) or attribute; dates and nonsense count as none."""
    headers = getattr(_response(error), "headers", None)
    value = getattr(error, "retry_after", None)
    if value is None and headers is not None and callable(getattr(headers, "get", None)):
        value = headers.get("Retry-After")
    try:
        seconds = float(value) if value is not None else None
    except (TypeError, ValueError):
        return None
    return seconds if seconds is not None and 0 <= seconds <= MAX_RETRY_AFTER else None

"""Classifies by status: HTTP and gRPC status, replies of SMTP, FTP and AMQP, `errno` of the operating system."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sickbay.domain.raised import attribute, is_a, plain
from sickbay.handlers.known.rule import DATA, SYSTEMIC, TRANSIENT, UNKNOWN, Known, Reader, at, call_method, item, known, whole

_STATUS: Final[Mapping[int, str]] = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    422: "VALIDATION_ERROR",
    429: "RATE_LIMITED",
    503: "SERVICE_UNAVAILABLE",
}
_GRPC: Final[Mapping[str, Known]] = {
    "UNAVAILABLE": known("SERVICE_UNAVAILABLE"),
    "DEADLINE_EXCEEDED": known("API_TIMEOUT"),
    "RESOURCE_EXHAUSTED": known("RATE_LIMITED"),
    "INVALID_ARGUMENT": known("VALIDATION_ERROR"),
    "NOT_FOUND": known("NOT_FOUND"),
    **{f"{name}": known(f"GRPC_{name}", SYSTEMIC) for name in ("INTERNAL", "UNKNOWN", "DATA_LOSS")},
    **{f"{name}": known(f"GRPC_{name}", TRANSIENT) for name in ("ABORTED",)},
    **{
        f"{name}": known(f"GRPC_{name}", DATA)
        for name in ("ALREADY_EXISTS", "FAILED_PRECONDITION", "OUT_OF_RANGE", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED")
    },
}
_UNREACHABLE: Final = (
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENETRESET, errno.ENOTCONN, errno.EADDRNOTAVAIL
)  # fmt: skip
_RESOURCE_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EROFS)
_BAD_NAMES: Final = (errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ, errno.EFBIG, errno.ENOTEMPTY, errno.EXDEV)
_ERRNO: Final[Mapping[int, Known]] = {
    errno.ECONNREFUSED: known("CONNECTION_REFUSED"),
    errno.ETIMEDOUT: known("API_TIMEOUT"),
    **dict.fromkeys(_UNREACHABLE, known("NETWORK_ERROR")),
    **{number: known(errno.errorcode[number], SYSTEMIC) for number in _RESOURCE_ERRORS},
    **{number: Known(errno.errorcode[number], DATA, sure=False) for number in _BAD_NAMES},
}
_ENHANCED: Final = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})\b")
_FTP_REPLY: Final = re.compile(r"\s*([45]\d\d)\b")


def http(path: str) -> Reader:
    """By the HTTP status at this path of attributes."""
    return lambda error: by_status(at(error, path))


def by_status(value: object) -> Known | None:
    """The meaning of an HTTP status, None if it is not an error."""
    status = whole(value)
    return known(_STATUS.get(status, f"HTTP_{status}")) if status is not None and 400 <= status < 600 else None  # noqa: PLR2004 - HTTP errors


def grpc_status(error: BaseException) -> Known | None:
    """By the status of an `RpcError` that a call returned."""
    return by_grpc_code(plain(attribute(call_method(error, "code"), "name")))


def by_grpc_code(name: str) -> Known | None:
    """The meaning of a gRPC status."""
    return _GRPC.get(name) or (known(f"GRPC_{name}", UNKNOWN) if re.fullmatch(r"[A-Z_]{1,40}", name) else None)


def os_error(error: BaseException) -> Known | None:
    """By `errno`: resources exhausted on this machine, unreachable hosts, invalid names."""
    number = whole(attribute(error, "errno")) or 0
    if number in {errno.EACCES, errno.EPERM} and attribute(error, "filename") is not None:
        return Known("PERMISSION_ERROR", DATA, sure=False)
    return _ERRNO.get(number)


def connection(error: BaseException) -> Known | None:
    """By `errno`, so that a refused connection differs from a lost one."""
    return os_error(error) or known("NETWORK_ERROR")


def smtp_reply(error: BaseException) -> Known | None:
    """By reply and enhanced status code (RFC 5321, RFC 3463)."""
    reply = whole(attribute(error, "smtp_code"))
    if reply is not None:
        return by_smtp(reply, attribute(error, "smtp_error"))
    reply = whole(attribute(error, "code"))
    return None if reply is None else by_smtp(reply, attribute(error, "message"))


def by_smtp(reply: int, text: object) -> Known | None:
    """An error of an address or mailbox is the job's own; that the server rejects all mail, or mail for now, is not."""
    if not 400 <= reply < 600:  # noqa: PLR2004 - SMTP's failures
        return None
    code = f"SMTP_{reply}"
    if reply in {421, 432, 454, 530, 534, 535, 538}:
        return known(code, SYSTEMIC)  # shutting down, or authentication failed
    enhanced = _ENHANCED.match(_text(text))
    if enhanced:
        of_address = enhanced[2] in {"1", "2"}
        return known(code, DATA if of_address or enhanced[1] == "5" else TRANSIENT)
    if reply == 450:  # noqa: PLR2004 - the mailbox is busy
        return known(code, DATA)
    return known(code, TRANSIENT if reply < 500 else DATA)  # noqa: PLR2004 - "try again" below


def smtp_recipients(error: BaseException) -> Known | None:
    """All recipients were refused: by the reply that is least the recipients' fault."""
    verdicts = [verdict for reply, text in _recipients(error) if (verdict := by_smtp(reply, text))]
    order = (SYSTEMIC, TRANSIENT, DATA)
    return min(verdicts, key=lambda verdict: order.index(verdict.kind), default=known("SMTP_RECIPIENTS_REFUSED", DATA))


def _recipients(error: BaseException) -> Iterator[tuple[int, object]]:
    refused = attribute(error, "recipients")
    values: Iterable[object] = list(refused.values())[:100] if type(refused) is dict else refused[:100] if type(refused) is list else ()
    for value in values:
        reply = whole(item(value, 0)) if is_a(value, tuple) else whole(attribute(value, "code"))
        if reply is not None:
            yield reply, item(value, 1) if is_a(value, tuple) else attribute(value, "message")


def ftp_reply(error: BaseException) -> Known | None:
    """By the reply code at the start of the message (RFC 959)."""
    found = _FTP_REPLY.match(_text(item(attribute(error, "args"), 0)))
    if found is None:
        return None
    code = f"FTP_{found[1]}"
    if found[1] in {"421", "530", "532"}:
        return known(code, SYSTEMIC)
    return known(code, TRANSIENT if found[1] < "450" or found[1] in {"451", "452"} else DATA)


def amqp_reply(error: BaseException) -> Known | None:
    """By the reply code with which the broker closed a channel or a connection (AMQP 0-9-1)."""
    reply = whole(attribute(error, "reply_code"))
    if reply is None:
        reply = whole(item(attribute(error, "args"), 0))
    if reply == 403:  # noqa: PLR2004 - ACCESS_REFUSED
        return known("AUTH_FAILED", SYSTEMIC)
    if reply in {320, 504, 506, 530, 541}:
        return known("SERVICE_UNAVAILABLE")
    if reply in {311, 312, 313, 404, 405, 406}:
        return known(f"AMQP_{reply}", TRANSIENT if reply == 405 else DATA)  # noqa: PLR2004 - RESOURCE_LOCKED
    return None


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if type(value) is bytes else plain(value)

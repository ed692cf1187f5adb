"""The standard library: timeouts and connections, errors of the operating system, and what goes wrong with data.

Errors of programs and data (TypeError, KeyError, ...) say nothing about a dependency and are often caused by a payload. So they are of
kind data and never open a breaker; otherwise any client could open it for all others.
"""

from __future__ import annotations

from typing import Final

from sickbay.domain.raised import attribute, is_a
from sickbay.handlers.known.readers import ftp_reply, http, os_error, smtp_recipients, smtp_reply
from sickbay.handlers.known.rule import DATA, SYSTEMIC, TRANSIENT, Known, Rule, known, read_rule, rule


def _reason(error: BaseException) -> Known | None:
    from sickbay.handlers.known import known_of  # noqa: PLC0415 - this table is a part of that

    reason = attribute(error, "reason")
    return (known_of(reason) if is_a(reason, BaseException) else None) or known("NETWORK_ERROR")


RULES: Final[tuple[Rule, ...]] = (
    rule("builtins", "TimeoutError", "API_TIMEOUT"),
    rule("builtins", "ConnectionRefusedError", "CONNECTION_REFUSED"),
    rule("builtins", "ConnectionError", "NETWORK_ERROR"),
    rule("builtins", "FileNotFoundError FileExistsError IsADirectoryError NotADirectoryError", "", DATA, sure=False),
    read_rule("builtins", "OSError", os_error, "by `errno`: `ECONNREFUSED`, `EHOSTUNREACH`, `ENOSPC`, `EMFILE`, `ENAMETOOLONG`, ..."),
    rule(
        "builtins",
        "ArithmeticError AssertionError AttributeError BufferError EOFError LookupError MemoryError NameError NotImplementedError "
        "RecursionError StopAsyncIteration StopIteration SyntaxError TypeError ValueError",
        "",
        DATA,
        sure=False,
    ),
    rule("asyncio", "IncompleteReadError", "NETWORK_ERROR"),
    rule("asyncio", "LimitOverrunError", "BAD_RESPONSE", TRANSIENT),
    rule("socket", "gaierror herror", "NETWORK_ERROR"),
    rule("ssl", "SSLError", "NETWORK_ERROR"),
    rule("concurrent.futures", "BrokenExecutor", "BROKEN_EXECUTOR", SYSTEMIC),
    rule("subprocess", "TimeoutExpired", "API_TIMEOUT"),
    read_rule("urllib.error", "HTTPError", http("code"), "by its HTTP status"),
    rule("urllib.error", "ContentTooShortError", "NETWORK_ERROR"),
    read_rule("urllib.error", "URLError", _reason, "by its reason, else `NETWORK_ERROR`"),
    rule("http.client", "InvalidURL", "VALIDATION_ERROR"),
    rule("http.client", "RemoteDisconnected IncompleteRead", "NETWORK_ERROR"),
    rule("http.client", "HTTPException", "BAD_RESPONSE", TRANSIENT),
    rule("smtplib", "SMTPConnectError SMTPHeloError", "SERVICE_UNAVAILABLE"),
    rule("smtplib", "SMTPServerDisconnected", "NETWORK_ERROR"),
    rule("smtplib", "SMTPAuthenticationError", "AUTH_FAILED", SYSTEMIC),
    read_rule("smtplib", "SMTPRecipientsRefused", smtp_recipients, "by the best reply of all recipients"),
    read_rule("smtplib", "SMTPResponseException", smtp_reply, "by its SMTP reply"),
    read_rule("ftplib", "error_temp error_perm", ftp_reply, "by its FTP reply"),
    rule("ftplib", "Error", "BAD_RESPONSE", TRANSIENT),
    rule("imaplib", "IMAP4.abort", "NETWORK_ERROR"),
    rule("imaplib", "IMAP4.error", "IMAP_ERROR"),
    rule("poplib", "error_proto", "POP3_ERROR"),
    rule("binascii", "Error Incomplete", "", DATA, sure=False),
    rule("configparser", "Error", "", DATA, sure=False),
    rule("_csv", "Error", "CSV_ERROR", DATA, sure=False),
    rule("email.errors", "MessageError", "", DATA, sure=False),
    rule("gzip", "BadGzipFile", "", DATA, sure=False),
    rule("_lzma", "LZMAError", "", DATA, sure=False),
    rule("_pickle", "PickleError", "", DATA, sure=False),
    rule("re", "error PatternError", "PATTERN_ERROR", DATA, sure=False),
    rule("struct", "error", "STRUCT_ERROR", DATA, sure=False),
    rule("tarfile", "TarError", "", DATA, sure=False),
    rule("xml.parsers.expat", "ExpatError", "", DATA, sure=False),
    rule("zipfile", "BadZipFile LargeZipFile", "", DATA, sure=False),
    rule("zlib", "error", "ZLIB_ERROR", DATA, sure=False),
)

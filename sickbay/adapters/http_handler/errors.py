"""What it means that there is no answer, or no whole one. In our own words: those of the driver may contain the path."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import httpcore

from sickbay.adapters.http_handler.endpoint import Endpoint
from sickbay.adapters.http_handler.network import AddressNotAllowed
from sickbay.domain.outcome import OutcomeKind
from sickbay.domain.raised import MAX_CAUSES
from sickbay.handlers.known import known_of
from sickbay.handlers.known.rule import Known, known
from sickbay.handlers.remote import RemoteFailure

ERRORS: Final = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError)
"""What a request may raise, beside a cancellation."""
_NOT_ALLOWED: Final = Known("ADDRESS_NOT_ALLOWED", OutcomeKind.SYSTEMIC)


def failure_of_error(error: BaseException, endpoint: Endpoint) -> RemoteFailure:
    """The failure of a run whose request has raised this; code and kind are those of the exception anywhere else."""
    found = _NOT_ALLOWED if isinstance(error, AddressNotAllowed) else known_of(error) or known("NETWORK_ERROR")
    return RemoteFailure(found.code, _words(error, endpoint), found.kind)


def _words(error: BaseException, endpoint: Endpoint) -> str:
    host = endpoint.address.header
    if isinstance(error, httpcore.ConnectTimeout):
        return f"{host} could not be reached within {endpoint.connect_s:g} s"
    for one in _chain(error):
        if isinstance(one, AddressNotAllowed):
            return str(one)
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"the certificate of {host} is not valid for it, or its authority is unknown (ca_file): {one.verify_message}"
        if isinstance(one, ssl.SSLError):
            return f"{host} does not speak TLS as this worker does: {one.reason or 'the handshake failed'}"
        if isinstance(one, socket.gaierror):
            return f"the name {endpoint.address.host} is not known: {one.strerror}"
    return _words_by_class(error, host)


def _words_by_class(error: BaseException, host: str) -> str:
    if isinstance(error, httpcore.ConnectError):
        numbers = (one.errno for one in _chain(error) if isinstance(one, OSError) and one.errno)
        number = next(numbers, None)
        return f"{host} could not be reached" + (f": {os.strerror(number)}" if number else "")
    if isinstance(error, httpcore.ProtocolError):
        return f"{host} closed the connection in the middle of an answer or before it, or did not answer in HTTP/1.1"
    return f"the connection to {host} was lost"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it was made of: httpcore hides them from tracebacks."""
    one: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__

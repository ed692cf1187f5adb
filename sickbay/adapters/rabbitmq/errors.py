"""The driver's exceptions become ours, in one place; its words reach nobody but the log."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)

from sickbay.adapters.rabbitmq.address import Address
from sickbay.domain.errors import SettingsError, Unavailable

_LOST: Final = (AMQPError, OSError, EOFError, RuntimeError, StopAsyncIteration)
"""What the driver raises on a connection that is lost: its calls on a closed channel or connection are plain RuntimeErrors."""


@contextmanager
def translated() -> Iterator[None]:
    """Around every use of an open connection: whatever goes wrong there is Unavailable."""
    try:
        yield
    except PublishError:
        raise Unavailable("RabbitMQ has lost a queue or a binding; `sickbay topology apply` brings it back") from None
    except DeliveryError:
        raise Unavailable("RabbitMQ could not store the message") from None
    except ChannelAccessRefused:
        raise Unavailable(
            "access refused: the user of RABBITMQ_URL lacks a permission for this; see `rabbitmqctl list_permissions`"
        ) from None
    except TimeoutError:
        raise Unavailable("RabbitMQ timed out") from None
    except _LOST:
        raise Unavailable("the connection to RabbitMQ was lost") from None
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        raise Unavailable("the connection to RabbitMQ was lost") from None


@contextmanager
def connecting(address: Address) -> Iterator[None]:
    """Around the making of a connection: SettingsError where RABBITMQ_URL must be corrected, Unavailable where waiting may help."""
    try:
        yield
    except (AuthenticationError, ProbableAuthenticationError):
        raise SettingsError(f"authentication failed for user {address.user!r} at {address.where} (RABBITMQ_URL)") from None
    except InvalidFrameError:
        # After the password was accepted only the virtual host is left to refuse; the driver hides the server's own words.
        problem = f"has no virtual host {address.vhost!r}, or access to it is refused for user {address.user!r} (RABBITMQ_URL)"
        raise SettingsError(f"RabbitMQ at {address.where} {problem}") from None
    except TimeoutError:
        raise Unavailable(f"RabbitMQ at {address.where} timed out") from None
    except _LOST as error:
        raise _reason(address, error) from None
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        raise Unavailable(f"RabbitMQ at {address.where} cannot be reached") from None


def _is_cancelled() -> bool:
    """Whether somebody asked our own task to end; the driver also ends futures of a lost connection with CancelledError."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _reason(address: Address, error: BaseException) -> SettingsError | Unavailable:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = "name the CA file in RABBITMQ_URL with ?cafile=/path/to/ca.pem"
        return SettingsError(f"certificate verification failed for RabbitMQ at {address.where}; {remedy}")
    if isinstance(cause, ssl.SSLError) and any(word in str(cause.reason) for word in ("ALERT_UNKNOWN_CA", "CERTIFICATE")):
        return SettingsError(f"RabbitMQ at {address.where} rejects the client certificate (certfile in RABBITMQ_URL), or requires one")
    if isinstance(cause, ssl.SSLError):
        return SettingsError(f"{address.where} does not support TLS on this port, which amqps:// in RABBITMQ_URL requires")
    if isinstance(cause, FileNotFoundError | PermissionError):
        return SettingsError("a file that RABBITMQ_URL names (cafile, certfile or keyfile) cannot be read")
    if isinstance(cause, ConnectionRefusedError):
        return Unavailable(f"connection refused by RabbitMQ at {address.where}")
    return Unavailable(f"RabbitMQ at {address.where} cannot be reached")

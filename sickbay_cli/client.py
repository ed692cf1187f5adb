"""Stubs of the services, and the conversion of a failed call to a message and an exit code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import click
import grpc
from grpc_health.v1.health_pb2_grpc import HealthStub

from sickbay.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.breakers.v1.incident_service_pb2_grpc import IncidentServiceStub
from sickbay.client.errors import fault_of_call
from sickbay.client.options import LOCAL_FOLDER, local_token_file, transport_from
from sickbay.client.transport import Transport
from sickbay.contract.faults import Fault
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from sickbay.jobs.v1.job_type_service_pb2_grpc import JobTypeServiceStub
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub
from sickbay.jobs.v1.scheduled_job_service_pb2_grpc import ScheduledJobServiceStub
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceStub
from sickbay.schedules.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from sickbay_cli.exit_codes import NotFound, Refused, Unreachable
from sickbay_cli.options import Endpoint


@contextmanager
def jobs(endpoint: Endpoint) -> Iterator[JobServiceStub]:
    """JobService at the endpoint; failed calls are raised as exceptions of `exit_codes`."""
    with _channel(endpoint) as opened:
        yield JobServiceStub(opened)


@contextmanager
def breakers(endpoint: Endpoint) -> Iterator[BreakerServiceStub]:
    """BreakerService, likewise."""
    with _channel(endpoint) as opened:
        yield BreakerServiceStub(opened)


@contextmanager
def incidents(endpoint: Endpoint) -> Iterator[IncidentServiceStub]:
    """IncidentService, likewise."""
    with _channel(endpoint) as channel:
        yield IncidentServiceStub(channel)


@contextmanager
def audit(endpoint: Endpoint) -> Iterator[AuditServiceStub]:
    """AuditService, likewise."""
    with _channel(endpoint) as opened:
        yield AuditServiceStub(opened)


@contextmanager
def quarantine(endpoint: Endpoint) -> Iterator[QuarantineServiceStub]:
    """QuarantineService, likewise."""
    with _channel(endpoint) as opened:
        yield QuarantineServiceStub(opened)


@contextmanager
def scheduled_jobs(endpoint: Endpoint) -> Iterator[ScheduledJobServiceStub]:
    """ScheduledJobService, likewise."""
    with _channel(endpoint) as opened:
        yield ScheduledJobServiceStub(opened)


@contextmanager
def schedules(endpoint: Endpoint) -> Iterator[ScheduleServiceStub]:
    """ScheduleService, likewise."""
    with _channel(endpoint) as opened:
        yield ScheduleServiceStub(opened)


@contextmanager
def types(endpoint: Endpoint) -> Iterator[JobTypeServiceStub]:
    """JobTypeService, likewise."""
    with _channel(endpoint) as opened:
        yield JobTypeServiceStub(opened)


@contextmanager
def workers(endpoint: Endpoint) -> Iterator[WorkerServiceStub]:
    """WorkerService, likewise."""
    with _channel(endpoint) as opened:
        yield WorkerServiceStub(opened)


@contextmanager
def health(endpoint: Endpoint) -> Iterator[HealthStub]:
    """The health of the service, likewise."""
    with _channel(endpoint) as opened:
        yield HealthStub(opened)


@contextmanager
def translate_errors(endpoint: Endpoint) -> Iterator[None]:
    """Raise a failed call as Refused, NotFound or Unreachable."""
    try:
        yield
    except grpc.RpcError as error:
        raise failure(error, endpoint) from None


@contextmanager
def _channel(endpoint: Endpoint) -> Iterator[grpc.Channel]:
    with channel(endpoint) as opened, translate_errors(endpoint):
        yield opened


def channel(endpoint: Endpoint, *, reconnect_ms: int | None = None) -> grpc.Channel:
    """A channel to the endpoint, for stubs of more than one service, with the TLS and the token of the environment (SICKBAY_TLS, ...).

    It connects again that often if `reconnect_ms` is given.
    """
    try:
        transport = _transport(endpoint.address)
        opened: grpc.Channel = transport.open(endpoint.address, reconnect_ms=reconnect_ms)
        return grpc.intercept_channel(opened, _Token(transport)) if transport.metadata() else opened
    except (ValueError, OSError) as error:
        raise Refused(f"cannot call the {endpoint.title}: {error}") from None


def _transport(address: str) -> Transport:
    """TLS and token of the environment, else the token of `sickbay up` in this folder, for a service on this machine."""
    transport = transport_from(os.environ)
    own = None if transport.token or transport.token_file is not None else local_token_file(address)
    return transport if own is None else replace(transport, token_file=own)


class _Token(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Sends the token with each call."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """One reply."""
        return continuation(self._with_token(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """A stream of them."""
        return continuation(self._with_token(client_call_details), request)

    def _with_token(self, details: Any) -> Any:
        return details._replace(metadata=(*(details.metadata or ()), *self._transport.metadata()))


def failure(error: grpc.RpcError, endpoint: Endpoint) -> click.ClickException:
    """The message and exit code of a failed call: the service's own message if it sent one."""
    fault = fault_of_call(error)
    if fault.code is grpc.StatusCode.NOT_FOUND:
        return NotFound(_message(fault))
    if fault.code in _TRANSPORT_ERRORS and not fault.reason:
        return Unreachable(_TRANSPORT_ERRORS[fault.code](fault, endpoint))
    if fault.code is grpc.StatusCode.UNAUTHENTICATED:
        return Refused(f"{_message(fault)} ({_where_from(endpoint.address)})")
    if fault.code is grpc.StatusCode.UNAVAILABLE:
        return Unreachable(f"{_message(fault)}{_retry_hint(fault)}")
    if fault.code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}:
        return Refused(f"the {endpoint.title} at {endpoint.address} failed: {_message(fault)}")
    return Refused(_message(fault))


def _where_from(address: str) -> str:
    """Where the token of a call was looked for."""
    if os.environ.get("SICKBAY_TOKEN_FILE"):
        return f"the token was that of SICKBAY_TOKEN_FILE, {os.environ['SICKBAY_TOKEN_FILE']}"
    if os.environ.get("SICKBAY_TOKEN", "").strip():
        return "the token was that of SICKBAY_TOKEN"
    if (own := local_token_file(address)) is not None:
        return f"the token was that of {own}; set SICKBAY_TOKEN_FILE or SICKBAY_TOKEN for another"
    return f"no token was sent: set SICKBAY_TOKEN_FILE or SICKBAY_TOKEN, or run this where {LOCAL_FOLDER}/token of `sickbay up` is"


def _no_connection(fault: Fault, endpoint: Endpoint) -> str:
    if "http1" in fault.message.lower():  # gRPC's own words when a web server answers
        return f"{endpoint.address} is an HTTP/1 port, not a gRPC port; name the gRPC port of the {endpoint.title} with {endpoint.option}"
    return (
        f"cannot connect to the {endpoint.title} at {endpoint.address} (connection refused or host unreachable); "
        f"start it with `sickbay up`, or {_address_hint(endpoint)}"
    )


def _address_hint(endpoint: Endpoint) -> str:
    return f"name another address with {endpoint.option} HOST:PORT or {endpoint.variable}"


def _message(fault: Fault) -> str:
    return fault.message or f"the call failed with {fault.code.name}, without a message"


def _retry_hint(fault: Fault) -> str:
    return f" (try again in {fault.retry_after:g} s)" if fault.retry_after else ""


def _deadline_exceeded(_: Fault, endpoint: Endpoint) -> str:
    wait = f"after {endpoint.timeout:g} s; look at its log, or wait longer with --timeout"
    return f"the call to the {endpoint.title} at {endpoint.address} timed out {wait}"


def _unimplemented(_: Fault, endpoint: Endpoint) -> str:
    return f"the server at {endpoint.address} is not a {endpoint.title} of this version; {_address_hint(endpoint)}"


_TRANSPORT_ERRORS: Final[Mapping[grpc.StatusCode, Callable[[Fault, Endpoint], str]]] = MappingProxyType(
    {
        grpc.StatusCode.UNAVAILABLE: _no_connection,
        grpc.StatusCode.CANCELLED: _no_connection,
        grpc.StatusCode.DEADLINE_EXCEEDED: _deadline_exceeded,
        grpc.StatusCode.UNIMPLEMENTED: _unimplemented,
    }
)
"""Codes from gRPC itself, when the call did not reach a service of ours: those have no reason."""

"""Counts and times calls, with the metric names that dashboards for gRPC expect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram

from sickbay.server.errors import fault_of
from sickbay.server.interceptors.observe import Call
from sickbay.telemetry.metrics import SECONDS


class CallMeter:
    """A `CallObserver`. Only existing methods are observed, so the number of labels is bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add the metrics to `registry`."""
        names = ("grpc_service", "grpc_method")
        self._handled = Counter("grpc_server_handled", "Finished calls, over gRPC or REST.", (*names, "grpc_code"), registry=registry)
        self._seconds = Histogram(
            "grpc_server_handling_seconds", "Duration of calls; a stream counts as one call.", names, buckets=SECONDS, registry=registry
        )

    @contextmanager
    def __call__(self, call: Call) -> Iterator[None]:
        """Measure one call."""
        began, code = perf_counter(), grpc.StatusCode.OK
        try:
            yield
        except BaseException as error:
            code = code_of(error, call.context)
            raise
        finally:
            self._handled.labels(call.service, call.method, code.name).inc()
            self._seconds.labels(call.service, call.method).observe(perf_counter() - began)

    def count_refused(self, service: str, method: str, code: grpc.StatusCode) -> None:
        """Count a call that was refused before it began; the caller bounds the labels."""
        self._handled.labels(service, method, code.name).inc()


def code_of(error: BaseException, context: Any) -> grpc.StatusCode:
    """The status of a call whose servicer raised this."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return grpc.StatusCode.CANCELLED
    if isinstance(error, grpc.aio.AbortError | NotImplementedError):
        return context.code() or grpc.StatusCode.UNKNOWN
    return fault_of(error).code

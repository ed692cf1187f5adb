"""The commands about the system as a whole: metrics and health."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gen.sickbay.breakers.v1.breaker_service_pb2 import GetMetricsRequest, GetMetricsResponse
from sickbay.rpc.views import metrics_view
from sickbay_cli import client, options
from sickbay_cli.failures import Unreachable
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import Cell, Column, count, details, document, remark, table


@click.command(epilog=examples("sickbay metrics", "sickbay metrics --json"))
@options.endpoints("control-plane")
@options.as_json
def metrics(control_plane: Endpoint, *, as_json: bool) -> None:
    """Sum the system up in numbers."""
    with client.breakers(control_plane) as stub:
        numbers = stub.GetMetrics(GetMetricsRequest(), timeout=control_plane.timeout)
    if as_json:
        document(metrics_view(numbers))
    else:
        _show(numbers)


def _show(numbers: GetMetricsResponse) -> None:
    circuits = numbers.circuit_breakers
    details(
        [
            ("circuits", f"{circuits.total:,}: {circuits.open:,} open, {circuits.closed:,} closed"),
            ("failures", _counts(numbers.failures_by_job_type)),
            ("jobs", _counts(numbers.jobs_by_state)),
            ("queues", _counts(numbers.queue_depths)),
            ("duplicates", f"{numbers.duplicates:,}"),
        ]
    )


def _counts(numbers: dict[str, int]) -> str:
    width = max(map(len, numbers), default=0)
    return "\n".join(f"{name:<{width}}  {number:,}" for name, number in sorted(numbers.items())) or "none"

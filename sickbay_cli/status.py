"""The commands about the system as a whole: metrics and health."""

from __future__ import annotations

from collections.abc import Mapping
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
def metrics(*, control_plane: Endpoint, as_json: bool) -> None:
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
            ("jobs", _counts({state: number for state, number in numbers.jobs_by_state.items() if number})),
            ("queues", _counts(numbers.queue_depths)),
            ("duplicates", f"{numbers.duplicates:,}"),
        ]
    )


def _counts(numbers: Mapping[str, int]) -> str:
    width = max(map(len, numbers), default=0)
    return "\n".join(f"{name:<{width}}  {number:,}" for name, number in sorted(numbers.items())) or "none"


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a service said: `up` if it serves, else `problem` tells why not."""

    service: str
    endpoint: Endpoint
    problem: str = ""

    @property
    def up(self) -> bool:
        """Whether it takes calls."""
        return not self.problem


@click.command(epilog=examples("sickbay health", "sickbay health --json", "sickbay health --timeout 2 && sickbay submit email"))
@options.endpoints("jobapi", "worker", "control-plane")
@options.as_json
def health(*, jobapi: Endpoint, worker: Endpoint, control_plane: Endpoint, as_json: bool) -> None:
    """Ask all three services whether they serve.

    Ends with 0 if all do, with 4 if one does not or cannot be reached.
    """
    services = {"jobapi": jobapi, "worker": worker, "control-plane": control_plane}
    with ThreadPoolExecutor(len(services)) as pool:
        pulses = list(pool.map(_pulse, services, services.values()))
    down = [pulse for pulse in pulses if not pulse.up]
    if as_json:
        info = {pulse.service: {"status": "up" if pulse.up else "down", "address": pulse.endpoint.address} for pulse in pulses}
        document({"status": "error" if down else "ok", "info": info})
    else:
        table((Column("SERVICE"), Column("STATE"), Column("ADDRESS")), [_row(pulse) for pulse in pulses])
    for pulse in down:
        remark(f"{pulse.endpoint.title}: {pulse.problem}")
    if down:
        raise Unreachable(f"{count(len(down), 'service')} of {len(pulses)} not serving")


def _row(pulse: Pulse) -> list[Cell]:
    return [pulse.endpoint.title, ("up", "green") if pulse.up else ("down", "bold red"), pulse.endpoint.address]


def _pulse(service: str, endpoint: Endpoint) -> Pulse:
    try:
        with client.health(endpoint) as stub:
            status = stub.Check(HealthCheckRequest(), timeout=endpoint.timeout).status
    except click.ClickException as error:
        return Pulse(service, endpoint, error.message)
    serving = status == HealthCheckResponse.SERVING
    return Pulse(service, endpoint, "" if serving else "it runs but takes no calls now: it starts, stops, or misses a server behind it")

"""The commands about the system as a whole: metrics and health."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import click
import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsRequest, GetMetricsResponse
from sickbay.server.rest.views import metrics_view
from sickbay.server.service import HEALTH_DETAILS
from sickbay_cli import client, options
from sickbay_cli.exit_codes import Unreachable
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import Cell, Column, count, details, document, remark, table


@click.command(epilog=examples("sickbay metrics", "sickbay metrics --json"))
@options.endpoints("control-plane")
@options.as_json
def metrics(*, control_plane: Endpoint, as_json: bool) -> None:
    """Show metrics."""
    with client.breakers(control_plane) as stub:
        numbers = stub.GetMetrics(GetMetricsRequest(), timeout=control_plane.timeout)
    if as_json:
        document(metrics_view(numbers))
    else:
        _show(numbers)


def _show(numbers: GetMetricsResponse) -> None:
    breakers = numbers.circuit_breakers
    details(
        [
            ("breakers", f"{breakers.total:,}: {breakers.open:,} open, {breakers.closed:,} closed"),
            ("failures", _counts(numbers.failures_by_job_type)),
            ("jobs", _counts({state: number for state, number in numbers.jobs_by_state.items() if number})),
            ("queues", _counts(numbers.queue_depths)),
            ("duplicates", f"{numbers.duplicates:,}"),
        ]
    )


def _counts(numbers: Mapping[str, int]) -> str:
    width = max(map(len, numbers), default=0)
    return "\n".join(f"{name:<{width}}  {number:,}" for name, number in sorted(numbers.items())) or "none"


NOT_SERVING: Final = "running, but not serving: it is starting or stopping"
STATE_COLOURS: Final = {"up": "green", "degraded": "yellow", "down": "bold red"}


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """The response of a service: `up` if it serves, otherwise `problem` says why not; `checks` are its backends, as in `GET /health`."""

    service: str
    endpoint: Endpoint
    up: bool = True
    problem: str = ""
    checks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """One word."""
        return "down" if not self.up else "degraded" if self.down else "up"

    @property
    def down(self) -> Sequence[str]:
        """A sentence for each part that is down."""
        return [
            f"{name} is down since {check.get('since', 'the start')}: {check.get('reason', 'no reason given')}"
            for name, check in self.checks.items()
            if check.get("status") == "down"
        ]

    @property
    def remarks(self) -> Sequence[str]:
        """Messages for people: the parts that are down, or else why it does not serve."""
        return self.down or ([self.problem] if self.problem else [])

    @property
    def view(self) -> Mapping[str, Any]:
        """As JSON."""
        return {"status": self.state, "address": self.endpoint.address} | ({"checks": dict(self.checks)} if self.checks else {})


@click.command(epilog=examples("sickbay health", "sickbay health --json", "sickbay health --timeout 2 && sickbay submit email"))
@options.endpoints("jobapi", "worker", "control-plane")
@options.as_json
def health(*, jobapi: Endpoint, worker: Endpoint, control_plane: Endpoint, as_json: bool) -> None:
    """Show the health of all three services.

    Shows what is down behind each, since when and why. Exits with 0 if all are serving (also if one is degraded: something is down, and its
    main work continues), with 4 if one is not serving or is unavailable.
    """
    services = {"jobapi": jobapi, "worker": worker, "control-plane": control_plane}
    with ThreadPoolExecutor(len(services)) as pool:
        results = list(pool.map(_check, services, services.values()))
    down = [result for result in results if not result.up]
    if as_json:
        degraded = any(result.state == "degraded" for result in results)
        whole = "error" if down else "degraded" if degraded else "ok"
        document({"status": whole, "info": {result.service: result.view for result in results}})
    else:
        table((Column("SERVICE"), Column("STATE"), Column("ADDRESS")), [_row(result) for result in results])
    for result in results:
        for sentence in result.remarks:
            remark(f"{result.endpoint.title}: {sentence}")
    if down:
        raise Unreachable(f"{count(len(down), 'service')} of {len(results)} not serving")


def _row(result: ServiceHealth) -> list[Cell]:
    return [result.endpoint.title, (result.state, STATE_COLOURS[result.state]), result.endpoint.address]


def _check(service: str, endpoint: Endpoint) -> ServiceHealth:
    with client.health(endpoint) as stub:
        return check(service, endpoint, stub)


def check(service: str, endpoint: Endpoint, stub: HealthStub) -> ServiceHealth:
    """The health of one service, which may be that it is unavailable."""
    try:
        with client.translate_errors(endpoint):
            answer, call = stub.Check.with_call(HealthCheckRequest(), timeout=endpoint.timeout)
    except click.ClickException as error:
        return ServiceHealth(service, endpoint, up=False, problem=error.message)
    up = answer.status == HealthCheckResponse.SERVING
    return ServiceHealth(service, endpoint, up, "" if up else NOT_SERVING, _checks(call))


def _checks(call: grpc.Call) -> Mapping[str, Mapping[str, Any]]:
    """The details beside the status; older services send none."""
    for key, value in call.trailing_metadata() or ():
        if key == HEALTH_DETAILS:
            with contextlib.suppress(ValueError):
                checks: Mapping[str, Mapping[str, Any]] = json.loads(value).get("checks", {})
                return checks
    return {}

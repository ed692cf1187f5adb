"""A frame of `sickbay top` for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.domain.job import DEFAULT_TENANT
from sickbay.server.rest.views import breaker_view, incident_view
from sickbay_cli.format import name
from sickbay_cli.status import ServiceHealth
from sickbay_cli.top.frame import BreakerRow, Frame


def document_view(frame: Frame) -> Mapping[str, Any]:
    """The frame for programs, breakers and times as in the REST API; numbers that are unknown are omitted."""
    return _known(
        {
            "time": frame.time,
            "asOf": frame.as_of or None,
            "problem": frame.problem or None,
            "health": {one.service: _health_view(one) for one in frame.health},
            "jobs": {"byState": dict(frame.jobs), "perSecond": _rounded(asdict(frame.rates))},
            "breakers": [_breaker_view(row) for row in frame.breakers],
            "queues": [
                _known({"name": row.name, "messages": row.depth, "perSecond": _round(row.trend), "consumers": row.consumers})
                for row in frame.queues
            ],
            "releases": [
                _named(row.breaker, waiting=row.waiting, perSecond=_round(row.released), limit=_round(row.limit) or None)
                for row in frame.releases
            ],
            "tenants": [{"tenant": tenant, "slotsInUse": slots} for tenant, slots in frame.tenants] or None,
            "incidents": list(map(incident_view, frame.incidents)),
            "changes": [
                _named(one.breaker, time=one.time, state=name(Breaker.State, one.breaker.state, "STATE_")) for one in frame.changes
            ],
        }
    )


def _health_view(one: ServiceHealth) -> Mapping[str, Any]:
    return _known({**one.view, "problem": one.problem or None})


def _breaker_view(row: BreakerRow) -> Mapping[str, Any]:
    parked = row.parked
    more = {
        "since": row.since or None,
        "parkedJobs": parked.count if parked else None,
        "oldestParkedAt": (parked.oldest or None) if parked else None,
    }
    return {**breaker_view(row.breaker), **_known(more)}


def _named(breaker: Breaker, **more: Any) -> Mapping[str, Any]:
    return _known({"jobType": breaker.job_type, "tenant": breaker.tenant if breaker.tenant != DEFAULT_TENANT else None, **more})


def _rounded(numbers: Mapping[str, float | None]) -> Mapping[str, float]:
    return {title: round(number, 1) for title, number in numbers.items() if number is not None}


def _round(number: float | None) -> float | None:
    return None if number is None else round(number, 1)


def _known(view: Mapping[str, Any]) -> Mapping[str, Any]:
    return {title: value for title, value in view.items() if value is not None}

"""Expressions of PromQL as the dashboard needs them.

Facts of the fleet are told by every control plane alike, so they are taken by `max`; what processes count for themselves is added up.
"""

from __future__ import annotations

import re
from typing import Final

from sickbay.domain.breaker import BreakerState

TYPE: Final = 'job_type=~"$job_type"'
TENANT: Final = 'tenant=~"$tenant"'
OURS: Final = 'grpc_service=~"sickbay[.].+"'
NAMED: Final = 'job_type!="other"'
"""Without the sum of those that have no series of their own."""
RATE: Final = "[$__rate_interval]"
QUANTILES: Final = ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))

_METRIC: Final = re.compile(r"\b((?:sickbay|grpc_server|process)_\w+)(?:\{([^}]*)\})?")


def of_fleets(expression: str) -> str:
    """The expression, asking only for the fleets (namespaces) that the page shows."""

    def narrowed(found: re.Match[str]) -> str:
        labels = ['namespace=~"$namespace"', *filter(None, [found[2]])]
        return f"{found[1]}{{{','.join(labels)}}}"

    return _METRIC.sub(narrowed, expression)


def only(metric: str, *labels: str) -> str:
    """The series of a metric with these labels."""
    return f"{metric}{{{','.join(labels)}}}"


def added(expression: str, *labels: str) -> str:
    """The sum, by these labels."""
    return f"sum by ({', '.join(labels)}) ({expression})" if labels else f"sum({expression})"


def fact(series: str, *labels: str) -> str:
    """A fact of each fleet by these labels, whichever control planes tell it."""
    return f"max by ({', '.join(('namespace', *labels))}) ({series})"


def facts(series: str, *labels: str) -> str:
    """The sum of a fact over all fleets, by these labels; `labels` have to tell apart what is no copy of the same fact."""
    return added(fact(series, *labels), *labels)


def a_second(counter: str, *labels: str) -> str:
    """The pace of a counter over all processes, by these labels."""
    return added(f"rate({counter}{RATE})", *labels)


def news(counter: str) -> str:
    """What came to a counter from one point of a line to the next."""
    return f"increase({counter}{RATE})"


def quantile(share: float, buckets: str, *labels: str) -> str:
    """How long the slowest take but for `share` of all, from a histogram's buckets."""
    return f"histogram_quantile({share}, {a_second(buckets, *labels, 'le')})"


def spread(histogram: str, *labels: str) -> list[tuple[str, str]]:
    """A histogram's median and its slow ones, with their names."""
    return [(quantile(share, only(f"{histogram}_bucket", *labels)), name) for share, name in QUANTILES]


def spread_by(histogram: str, label: str, *labels: str) -> tuple[str, str]:
    """The slowest in a hundred of each value of a label, with its name."""
    return quantile(0.99, only(f"{histogram}_bucket", *labels), label), f"{{{{{label}}}}}"


def breaker_codes(states: tuple[BreakerState, ...]) -> str:
    """Each circuit's state as its place in `states`."""
    one_hot = (only("sickbay_breaker_state", TYPE, TENANT, NAMED, f'state="{state}"') for state in states)
    return " + ".join(f"{code} * {fact(series, 'job_type', 'tenant')}" for code, series in enumerate(one_hot))

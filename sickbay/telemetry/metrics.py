"""The metrics registry of one service, and the response to a scrape.

A process that runs several services has one registry for each, so that scraping all of them counts everything once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Metric, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from sickbay.system.output import dropped
from sickbay.version import VERSION

OTHER: Final = "other"
"""The label of all names beyond a limit: clients must not be able to create an unlimited number of series."""

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets for what should take milliseconds."""
LONG_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1500.0)
"""Buckets for runs of handlers, which may take up to 25 minutes."""


class MetricsRegistry:
    """Metrics of `GET /metrics`, created with `registry`; `before_scrape` is awaited at each scrape, to read metrics from backends."""

    def __init__(self, service: str) -> None:
        """`service` is jobapi, worker or controlplane."""
        self.registry = CollectorRegistry(auto_describe=True)
        self.before_scrape: Callable[[], Awaitable[None]] | None = None
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(_Output())
        build = Gauge(
            "sickbay_build_info", "The service behind this port, and its version.", ("service", "version"), registry=self.registry
        )
        build.labels(service, VERSION).set(1)

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The body and its content type: OpenMetrics if `accept` names it, else Prometheus's own text."""
        if self.before_scrape is not None:
            await self.before_scrape()
        encode, content_type = choose_encoder(accept)
        return encode(_WithoutCreated(self.registry)), content_type


class _Output(Collector):
    """Dropped output of the whole process."""

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "sickbay_output_dropped", "Writes to standard output or error (mostly lines) that were dropped.", labels=["stream"]
        )
        for stream in ("stdout", "stderr"):
            family.add_metric([stream], dropped().get(stream, 0))
        yield family


class _WithoutCreated(Collector):
    """The registry without the creation time of each series, which doubles the size of the response and is not used."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class BoundedLabels:
    """Keeps the first `limit` different names as labels, and replaces all later ones by `other`."""

    def __init__(self, limit: int, names: Iterable[str] = ()) -> None:
        """`names` are kept regardless of the limit."""
        self._names = set(names)
        self._free_labels = limit

    def __call__(self, name: str) -> str:
        """The label for this name."""
        if name not in self._names:
            if self._free_labels <= 0:
                return OTHER
            self._free_labels -= 1
            self._names.add(name)
        return name

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

"""Numbers of what is behind a service: the broker's confirms as a port decorator, and whether each part answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.errors import Unavailable
from sickbay.ports import Broker, Message
from sickbay.telemetry.around import AroundBroker
from sickbay.telemetry.metrics import SECONDS
from sickbay.vitals import Vitals


class MeteredBroker(AroundBroker):
    """A broker whose publishes are measured, from the call to the confirm."""

    def __init__(self, broker: Broker, registry: CollectorRegistry) -> None:
        """Add the metrics to `registry`."""
        super().__init__(broker)
        self._seconds = Histogram(
            "sickbay_broker_publish_seconds",
            "From a publish to its confirm; one publish may carry many messages.",
            buckets=SECONDS,
            registry=registry,
        )
        self._messages = Counter("sickbay_broker_published_messages", "Messages the broker confirmed.", registry=registry)
        self._failures = Counter("sickbay_broker_publish_failures", "Publishes that were not confirmed in time.", registry=registry)

    async def publish(self, messages: Sequence[Message]) -> None:
        """See `Broker.publish`."""
        began = perf_counter()
        try:
            await self._broker.publish(messages)
        except Unavailable:
            self._failures.inc()
            raise
        self._seconds.observe(perf_counter() - began)
        self._messages.inc(len(messages))


class VitalsCollector(Collector):
    """Tells the vitals at each scrape."""

    def __init__(self, vitals: Vitals, registry: CollectorRegistry) -> None:
        """Add itself to `registry`."""
        self._vitals = vitals
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Prometheus's protocol."""
        up = GaugeMetricFamily("sickbay_backend_up", "Whether the part answers this process (1) or not (0).", labels=("backend",))
        for name, is_up in self._vitals.up.items():
            up.add_metric((name,), float(is_up()))
        yield up
        blocked = float(self._vitals.is_blocked())
        yield GaugeMetricFamily("sickbay_broker_blocked", "Whether the broker takes no messages for want of memory or disk.", blocked)

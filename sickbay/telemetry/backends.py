"""Metrics of the backends of a service: publishes and their confirms, and the status of each backend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.domain.backend_status import BackendStatus
from sickbay.domain.errors import Unavailable
from sickbay.domain.health import Health, Mark
from sickbay.observer import Observer
from sickbay.ports import Message
from sickbay.telemetry.metrics import SECONDS


class PublishMetrics(Observer):
    """Counts what is published, and times it from the call to the confirm."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add the metrics to `registry`."""
        self._seconds = Histogram(
            "sickbay_broker_publish_seconds",
            "Time from a publish to its confirm; one publish may carry many messages.",
            buckets=SECONDS,
            registry=registry,
        )
        self._messages = Counter("sickbay_broker_published_messages", "Messages confirmed by the broker.", registry=registry)
        self._failures = Counter("sickbay_broker_publish_failures", "Publishes that were not confirmed in time.", registry=registry)

    def published(self, messages: Sequence[Message], seconds: float, error: BaseException | None) -> None:
        """Record one publish."""
        if isinstance(error, Unavailable):
            self._failures.inc()
        elif error is None:
            self._seconds.observe(seconds)
            self._messages.inc(len(messages))


class HealthCollector(Collector):
    """Reports at each scrape the state of `GET /health`."""

    def __init__(self, health: Health, registry: CollectorRegistry) -> None:
        """Add itself to `registry`."""
        self._health = health
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        state = self._health.state
        yield GaugeMetricFamily("sickbay_healthy", "Whether the service does its work: GET /health answers 200.", float(state.serving))
        yield GaugeMetricFamily("sickbay_ready", "Whether it accepts traffic: GET /health/ready answers 200.", float(state.ready))
        text = "0 for each part that is down: without it this service is degraded, or does not do its work."
        checks = GaugeMetricFamily("sickbay_health_check", text, labels=("check",))
        for finding in state.findings:
            checks.add_metric((finding.name,), float(finding.mark is not Mark.DOWN))
        yield checks


class BackendStatusCollector(Collector):
    """Reports the status of the backends at each scrape."""

    def __init__(self, status: BackendStatus, registry: CollectorRegistry) -> None:
        """Add itself to `registry`."""
        self._status = status
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        text = "Whether the part answers this process and accepts its test writes (1) or not (0)."
        up = GaugeMetricFamily("sickbay_backend_up", text, labels=("backend",))
        for name, is_up in self._status.up.items():
            up.add_metric((name,), float(is_up()))
        yield up
        text = "1 for each job type whose breaker refuses jobs in this process alone, because Redis is unavailable."
        shut = GaugeMetricFamily("sickbay_breaker_shut_here", text, labels=("job_type",))
        for job_type in sorted(self._status.shut_here()):
            shut.add_metric((job_type,), 1)
        yield shut
        blocked = float(self._status.is_blocked())
        yield GaugeMetricFamily(
            "sickbay_broker_blocked", "Whether the broker accepts no messages because it is out of memory or disk.", blocked
        )

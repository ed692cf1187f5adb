"""Metrics of the settings file: whether it is valid as it is now, since when its settings are in force, and what became of its changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.domain.settings_status import SettingsFileStatus


class SettingsFileCollector(Collector):
    """Reports at each scrape how the settings file fares; no value if there is none."""

    def __init__(self, status: Callable[[], SettingsFileStatus | None], registry: CollectorRegistry) -> None:
        """Add itself to `registry`."""
        self._status = status
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        text = "Whether the settings file as it is now is in force (1), or an earlier one, because it is invalid or gone (0)."
        valid = GaugeMetricFamily("sickbay_settings_file_valid", text, labels=())
        text = "When the settings in force were read, since the epoch."
        loaded = GaugeMetricFamily("sickbay_settings_file_loaded_timestamp_seconds", text, labels=())
        text = "Changes of the settings file that were noticed: applied or rejected."
        reloads = CounterMetricFamily("sickbay_settings_file_reloads", text, labels=("result",))
        if (status := self._status()) is not None:
            valid.add_metric((), float(status.valid))
            loaded.add_metric((), status.loaded_at_s)
            reloads.add_metric(("applied",), status.applied)
            reloads.add_metric(("rejected",), status.rejected)
        yield from (valid, loaded, reloads)

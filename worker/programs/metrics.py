"""Metrics of the connected programs, read at a scrape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from worker.programs.call import Ignored
from worker.programs.connected import Connected

_SLOTS: Final = "Slots of connected programs: how many there are, taken ones, and those of them whose run does not count any more."


class ProgramMetrics(Collector):
    """Counts programs, their slots, and what went wrong with them."""

    def __init__(self, registry: CollectorRegistry, connected: Connected) -> None:
        """Add the metrics to `registry`."""
        self._connected = connected
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        programs = tuple(self._connected.programs)
        yield GaugeMetricFamily(
            "sickbay_programs", "Connected programs in any language.", sum(one.registration is not None for one in programs)
        )
        slots = GaugeMetricFamily("sickbay_program_slots", _SLOTS, labels=["state"])
        slots.add_metric(["all"], sum(one.slots for one in programs))
        slots.add_metric(["taken"], sum(one.slots_in_use for one in programs))
        slots.add_metric(["overdue"], sum(one.overdue for one in programs))
        yield slots
        yield CounterMetricFamily("sickbay_program_runs_lost", "Runs whose program was lost.", self._connected.lost)
        text = "Messages of programs that send too many, after which their next ones waited."
        yield CounterMetricFamily("sickbay_program_messages_delayed", text, self._connected.delayed)
        ignored = CounterMetricFamily("sickbay_program_messages_ignored", "Messages of programs that change nothing.", labels=["reason"])
        for why in Ignored:
            ignored.add_metric([why], self._connected.ignored[why])
        yield ignored

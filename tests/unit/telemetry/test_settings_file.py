"""The settings file's metrics."""

from sickbay.domain.settings_status import SettingsFileStatus
from sickbay.telemetry.metrics import MetricsRegistry
from sickbay.telemetry.settings_file import SettingsFileCollector
from tests.support.scraped_metrics import numbers


async def test_how_the_file_fares_is_told():
    """As it is at the scrape."""
    told = MetricsRegistry("worker")
    SettingsFileCollector(lambda: SettingsFileStatus(valid=False, loaded_at_s=1.5, applied=2, rejected=1), told.registry)
    assert await numbers(told, "sickbay_settings_file_valid") == {(): 0}
    assert await numbers(told, "sickbay_settings_file_loaded_timestamp_seconds") == {(): 1.5}
    assert await numbers(told, "sickbay_settings_file_reloads_total") == {("applied",): 2, ("rejected",): 1}


async def test_without_a_file_nothing_is_told():
    """An alert on it stays quiet."""
    told = MetricsRegistry("worker")
    SettingsFileCollector(lambda: None, told.registry)
    assert await numbers(told, "sickbay_settings_file_valid") == {}

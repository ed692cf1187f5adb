"""Settings are read once, and a bad one is a sentence that names its variable."""

import re
from pathlib import Path

import pytest

from sickbay.domain.errors import MissingSetting, SettingsError
from sickbay.domain.incident import IncidentRules
from sickbay.domain.limits import Limits
from sickbay.runtime.settings import Settings, describe_settings

PAGE = Path(__file__).parents[3] / "docs/configuration.md"


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in describe_settings():
        monkeypatch.delenv(name, raising=False)


def test_the_documented_defaults():
    settings = Settings.read()
    assert (settings.failure_threshold, settings.cooldown_period, settings.max_retries, settings.retry_delay_ms) == (5, 60, 3, 5000)
    assert settings.breaker_config.cooldown_ms == 60_000
    assert settings.retry_policy.delay_ms == 5_000


def test_variables_are_read_and_options_come_first(monkeypatch):
    monkeypatch.setenv("COOLDOWN_PERIOD", "1.5")
    monkeypatch.setenv("MAX_RETRIES", "7")
    settings = Settings.read(max_retries=2, job_handlers=None)
    assert (settings.breaker_config.cooldown_ms, settings.max_retries) == (1_500, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COOLDOWN_PERIOD", "abc"),
        ("COOLDOWN_PERIOD", "0"),
        ("COOLDOWN_PERIOD", "nan"),
        ("FAILURE_THRESHOLD", "0"),
        ("FAILURE_THRESHOLD", "2.5"),
        ("MAX_RETRIES", "-1"),
        ("RETRY_DELAY_MS", "x"),
        ("CONCURRENCY", "0"),
        ("HANDLER_TIMEOUT", "100000"),
        ("BREAKER_RAMP", "maybe"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_LEVEL", "INFO,worker.engine=LOUD"),
        ("LOG_LEVEL", "INFO,DEBUG"),
        ("LOG_LEVEL", "INFO,worker engine=DEBUG"),
        ("LOG_FORMAT", "xml"),
        ("SQLITE_SYNCHRONOUS", "OFF"),
        ("RABBITMQ_URL", "http://x"),
        ("REDIS_URL", "localhost:6379"),
        ("DATABASE_URL", "mysql://x"),
        ("WEBHOOK_URL", "example.com/hook"),
        ("WEBHOOK_SECRET", "whsec_without_a_url"),
        ("INCIDENT_REOPEN_WINDOW", "-1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://localhost:4317"),
        ("OTEL_SDK_DISABLED", "maybe"),
        ("GRPC_KEEPALIVE_TIME", "0"),
        ("GRPC_KEEPALIVE_TIMEOUT", "0.5"),
        ("GRPC_PING_INTERVAL", "0"),
        ("GRPC_MAX_METADATA_BYTES", "1000"),
        ("GRPC_MAX_MESSAGE_BYTES", "1000000"),
        ("GRPC_MAX_MESSAGE_BYTES", "134217729"),  # more than GRPC_BODY_BUFFER_BYTES
    ],
)
def test_a_bad_value_is_one_sentence_that_names_the_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as caught:
        Settings.read()
    assert "\n" not in str(caught.value)


def test_secrets_are_shown_nowhere(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@localhost")
    assert "hunter2" not in repr(Settings.read())
    monkeypatch.setenv("REDIS_URL", "ftp://:hunter2@localhost")
    with pytest.raises(SettingsError) as caught:
        Settings.read()
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("REDIS_URL", "")
    monkeypatch.setenv("WEBHOOK_URL", "https://example.com/hunter2")
    monkeypatch.setenv("WEBHOOK_SECRET", "whsec_hunter2")
    assert "hunter2" not in repr(Settings.read())


def test_incidents_are_announced_if_there_is_a_webhook(monkeypatch):
    assert Settings.read().incident_rules == IncidentRules()
    monkeypatch.setenv("WEBHOOK_URL", "https://example.com/hook")
    monkeypatch.setenv("INCIDENT_REOPEN_WINDOW", "1.5")
    assert Settings.read().incident_rules == IncidentRules(window_ms=1_500, announces=True)


def test_an_empty_variable_is_no_variable(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "")
    assert Settings.read().redis_url is None


def test_the_page_about_configuration_has_every_variable_its_default_and_meaning():
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE))
    for name, (default, meaning) in describe_settings().items():
        shown = f"`{default}`" if default else ""
        assert table.get(name) == f"{shown} | {meaning}", name


@pytest.mark.parametrize(
    ("env", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317"}, "http://a:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "a:4317"}, "a:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://b"}, "https://b"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, None),
    ],
)
def test_traces_are_sent_only_where_somebody_asks_for_them(monkeypatch, env, endpoint):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert Settings.read().traces_endpoint == endpoint


def test_a_protocol_that_is_not_spoken_is_a_settings_error(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_PROTOCOL must be grpc"):
        Settings.read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RABBITMQ_URL", "amqp://jobapi:CHANGE_ME_jobapi@rabbitmq:5672/"),
        ("REDIS_URL", "redis://:CHANGE_ME@redis:6379/0"),
        ("DATABASE_URL", "postgresql://sickbay:change_me_postgres@postgres/sickbay"),
        ("DATABASE_URL", "postgresql://sickbay:CHANGE%5FME_postgres@postgres/sickbay"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:CHANGE_ME@collector:4317"),
    ],
)
def test_the_password_of_an_example_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(MissingSetting) as caught:
        Settings.read()
    assert name in str(caught.value)
    assert caught.value.exit_code == 2
    assert "jobapi" not in str(caught.value)


def test_limits_follow_the_variables(monkeypatch):
    assert Settings.read().limits == Limits()
    monkeypatch.setenv("GRPC_MAX_CONNECTIONS", "7")
    monkeypatch.setenv("MAX_WATCHES_PER_PEER", "3")
    monkeypatch.setenv("GRPC_KEEPALIVE_TIME", "4.5")
    monkeypatch.setenv("GRPC_KEEPALIVE_TIMEOUT", "5")
    monkeypatch.setenv("GRPC_PING_INTERVAL", "6")
    monkeypatch.setenv("GRPC_MAX_METADATA_BYTES", "5000")
    monkeypatch.setenv("GRPC_MAX_MESSAGE_BYTES", "3000000")
    limits = Settings.read().limits
    assert (limits.connections, limits.connections_per_peer, limits.watches_per_peer) == (7, 4, 3)
    assert (limits.keepalive_s, limits.keepalive_timeout_s, limits.ping_interval_s) == (4.5, 5, 6)
    assert (limits.metadata_bytes, limits.message_bytes) == (5_000, 3_000_000)

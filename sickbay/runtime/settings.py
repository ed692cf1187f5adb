"""All settings: read once from the environment (`variables.py`) and validated at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr, ValidationError, model_validator

from sickbay.domain.breaker import BreakerConfig
from sickbay.domain.errors import MissingSetting, SettingsError
from sickbay.domain.foreign import foreign_tenants
from sickbay.domain.incident import IncidentRules
from sickbay.domain.limits import HttpLimits, Limits
from sickbay.domain.retry import RetryPolicy
from sickbay.runtime.variables import Variables

_SCHEMES: Final = {
    "rabbitmq_url": ("amqp", "amqps"),
    "redis_url": ("redis", "rediss", "unix"),
    "database_url": ("postgresql", "postgres", "sqlite"),
    "webhook_url": ("https", "http"),
}
_PLACEHOLDER: Final = "change_me"


class Settings(Variables):
    """The variables, and what follows from them; get them with `Settings.read()`."""

    @classmethod
    def read(cls, **overrides: Any) -> Self:
        """Read the environment; `overrides` take precedence. Raises SettingsError with one sentence that names the variable.

        MissingSetting if a value still has the password of an example, which is public.
        """
        try:
            settings = cls(**{name: value for name, value in overrides.items() if value is not None})
        except ValidationError as error:
            raise SettingsError(_sentence(error)) from None
        for name, value in settings:
            if _PLACEHOLDER in _plain(value):
                raise MissingSetting(f"{name.upper()} still has the password of an example (CHANGE_ME...); replace it with your own")
        return settings

    @model_validator(mode="after")
    def _check_urls(self) -> Self:
        for name, schemes in _SCHEMES.items():
            secret = getattr(self, name)
            if secret is not None and urlsplit(secret.get_secret_value()).scheme.partition("+")[0] not in schemes:
                raise ValueError(f"{name.upper()} must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return self

    @model_validator(mode="after")
    def _check_webhook(self) -> Self:
        if self.webhook_secret is not None and self.webhook_url is None:
            raise ValueError("WEBHOOK_SECRET signs what is sent to WEBHOOK_URL, which is not set; set both, or neither")
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("TLS needs both TLS_CERT_FILE and TLS_KEY_FILE; set both, or neither")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("TLS_CLIENT_CA_FILE needs TLS: set TLS_CERT_FILE and TLS_KEY_FILE, too")
        return self

    @model_validator(mode="after")
    def _check_foreign(self) -> Self:
        if foreign_tenants(self.foreign_tenants) is not None and not self.broker_users:
            raise ValueError(
                "FOREIGN_TENANTS needs TRUSTED_USERS, the RabbitMQ users of Job API, workers and control plane; else theirs would be"
                " foreign, too"
            )
        return self

    @property
    def broker_users(self) -> frozenset[str]:
        """The RabbitMQ users of our services."""
        return frozenset(name.strip() for name in self.trusted_users.split(",") if name.strip())

    @model_validator(mode="after")
    def _check_traces(self) -> Self:
        if self.traces_endpoint and self.otel_exporter_otlp_protocol != "grpc":
            raise ValueError("OTEL_EXPORTER_OTLP_PROTOCOL must be grpc, whose port is usually 4317; no other protocol is supported")
        if self.traces_endpoint and "://" in self.traces_endpoint and urlsplit(self.traces_endpoint).scheme not in {"http", "https"}:
            raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or, for TLS, https://")
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.grpc_max_message_bytes > self.grpc_body_buffer_bytes:
            raise ValueError(
                f"GRPC_MAX_MESSAGE_BYTES must be at most GRPC_BODY_BUFFER_BYTES ({self.grpc_body_buffer_bytes}), or no such message fits"
                f" (it is {self.grpc_max_message_bytes})"
            )
        return self

    @property
    def traces_endpoint(self) -> str | None:
        """Where traces are sent; None if they are disabled."""
        if self.otel_sdk_disabled or self.otel_traces_exporter.strip().lower() == "none":
            return None
        return self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint

    def url(self, name: str) -> str | None:
        """The plain text of `rabbitmq_url`, `redis_url`, `database_url` or another secret: pass it to a driver only."""
        secret: SecretStr | None = getattr(self, name)
        return None if secret is None else secret.get_secret_value()

    @property
    def breaker_config(self) -> BreakerConfig:
        """The configuration of breakers."""
        return BreakerConfig(
            failure_threshold=self.failure_threshold,
            cooldown_ms=round(self.cooldown_period * 1000),
            failure_window_ms=round(self.breaker_failure_window * 1000),
            trip_confirm_ms=self.breaker_trip_confirm_ms,
            ramp=self.breaker_ramp,
            max_cooldown_ms=max(round(self.breaker_max_cooldown * 1000), round(self.cooldown_period * 1000)),
        )

    @property
    def incident_rules(self) -> IncidentRules:
        """How incidents are kept."""
        return IncidentRules(window_ms=round(self.incident_reopen_window * 1000), announces=self.webhook_url is not None)

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often and after which delay failed jobs run again."""
        return RetryPolicy(self.max_retries, self.retry_delay_ms)

    @property
    def http_limits(self) -> HttpLimits:
        """The limits of each HTTP port."""
        return HttpLimits(**{field.name: getattr(self, f"http_{field.name}") for field in fields(HttpLimits)})

    @property
    def limits(self) -> Limits:
        """The limits of the gRPC port, and of all watches."""
        return Limits(
            connections=self.grpc_max_connections,
            connections_per_peer=self.grpc_max_connections_per_peer or (self.grpc_max_connections + 1) // 2,
            handshake_s=self.grpc_handshake_timeout,
            idle_s=self.grpc_idle_timeout,
            keepalive_s=self.grpc_keepalive_time,
            keepalive_timeout_s=self.grpc_keepalive_timeout,
            ping_interval_s=self.grpc_ping_interval,
            metadata_bytes=self.grpc_max_metadata_bytes,
            message_bytes=self.grpc_max_message_bytes,
            body_s=self.grpc_body_timeout,
            write_s=self.grpc_write_timeout,
            body_buffer_bytes=self.grpc_body_buffer_bytes,
            streams=self.grpc_max_streams,
            calls=self.grpc_max_calls,
            watches=self.max_watches,
            watches_per_peer=self.max_watches_per_peer or (self.max_watches + 1) // 2,
        )


def describe_settings() -> Mapping[str, tuple[str, str]]:
    """Every variable with its default and meaning, for `--help` and the check of docs/configuration.md."""
    rows = {}
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory else "" if field.default is None else str(field.default)
        rows[name.upper()] = (default, field.description or "")
    return rows


def _plain(value: object) -> str:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value if isinstance(value, str) else ""
    return unquote(text).casefold()


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    what = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return what
    name = str(first["loc"][0]).upper()
    secret = name.endswith(("_URL", "_SECRET"))
    return f"{name}: {what[0].lower()}{what[1:]}" + ("" if secret else f" (it is {first['input']!r})")

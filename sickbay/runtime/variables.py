"""The environment variables, each with its default and meaning."""

from __future__ import annotations

import os
import socket
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from sickbay.domain.breaker import BreakerScope
from sickbay.domain.foreign import foreign_tenants
from sickbay.domain.job import MAX_PAYLOAD_BYTES, NAME_PATTERN
from sickbay.domain.program import WorkStream
from sickbay.handlers.registry import MAX_TIMEOUT_S
from sickbay.ports import PREFETCH_BYTES
from sickbay.server.access.control import exempt
from sickbay.system.hostnames import allowed_hosts
from sickbay.system.origins import cors_origins
from sickbay.telemetry.levels import parse

Port = Annotated[int, Field(ge=0, le=65_535)]


def _log_level(value: str) -> str:
    parse(value)
    return value


def _hosts(value: str) -> str:
    allowed_hosts(value)
    return value


def _origins(value: str) -> str:
    cors_origins(value)
    return value


class AuthMode(StrEnum):
    """Whether callers must prove who they are."""

    OFF = "off"
    REQUIRED = "required"


def _exempt(value: str) -> str:
    exempt(value)
    return value


def _tenants(value: str) -> str:
    foreign_tenants(value)
    return value


class Variables(BaseSettings):
    """The variables one by one; a default of None means "not set". `Settings` checks those that depend on each other."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=False)

    port: Port | None = Field(None, description="HTTP port: 3000 Job API, 3001 worker, 3002 control plane")
    grpc_port: Port | None = Field(None, description="gRPC port: 50051 Job API, 50052 worker, 50053 control plane")
    bind_host: str = Field("0.0.0.0", description="Address to listen on (`sickbay up` listens on 127.0.0.1)")  # noqa: S104 - a service in a container must be reachable
    allowed_hosts: Annotated[str, AfterValidator(_hosts)] = Field(
        "",
        description="Additional allowed host names over HTTP, comma separated, .example.com for a domain; not set: any, except on loopback",
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] = Field(
        "", description="Origins whose web pages may call over HTTP, comma separated, such as https://app.example.com; not set: none"
    )
    auth: AuthMode | None = Field(
        None, description="required: nothing but health answers without a credential; off: everybody may do everything"
    )
    auth_exempt: Annotated[str, AfterValidator(_exempt)] = Field(
        "", description="What needs no credential even so, comma separated: metrics, docs (with the OpenAPI document), reflection"
    )
    api_keys_file: str | None = Field(None, description="File of API keys, made by `sickbay keys`; re-read when it changes; not set: none")
    audit_retention_days: int = Field(365, ge=0, le=36_500, description="Days after which entries of the audit log are deleted; 0: never")
    tls_cert_file: str | None = Field(
        None, description="Certificate (PEM, with its chain) of all ports of the service; read again when it changes; not set: no TLS"
    )
    tls_key_file: str | None = Field(None, description="The private key of TLS_CERT_FILE, without a password")
    tls_client_ca_file: str | None = Field(
        None, description="Authority (PEM) whose certificate each client must then have, over gRPC and REST; not set: none is asked for"
    )
    health_port: Port | None = Field(
        None, description="Port with gRPC's health alone and never TLS, for probes of Kubernetes; not set: none; not for `sickbay up`"
    )
    jwt_issuer: str | None = Field(
        None, description="Issuer of tokens (JWT) that count as credentials, as in their claim `iss`; not set: none do"
    )
    jwt_audience: str | None = Field(
        None, description="What the claim `aud` of a token must have, for example sickbay; needed with JWT_ISSUER"
    )
    jwt_jwks_url: str | None = Field(
        None, description="Where the issuer's public keys are (JWK set), by https; not set: where the issuer's OpenID document says"
    )
    jwt_jwks_file: str | None = Field(None, description="File of these keys in place of an address; re-read when it changes")
    jwt_algorithms: str = Field(
        "RS256,ES256,EdDSA", description="Algorithms of signatures that count, comma separated; asymmetric ones alone"
    )
    jwt_leeway: float = Field(30, ge=0, le=300, description="Seconds that the clocks of the issuer and of this service may differ")
    jwt_name_claim: str = Field("sub", min_length=1, description="Claim with the principal's name")
    jwt_roles_claim: str = Field(
        "roles",
        min_length=1,
        description="Claim with its roles: a list, or a text with blanks between them; dots lead into it (realm_access.roles)",
    )
    jwt_roles: str = Field(
        "",
        description="Values of that claim and their roles, comma separated: sickbay-admins=admin, shop=submit; not set: names of roles",
    )
    jwt_tenants_claim: str = Field(
        "tenants",
        min_length=1,
        description="Claim with its tenants, likewise; the value * gives all of them, a token without the claim has none",
    )
    rabbitmq_url: SecretStr | None = Field(None, description="RabbitMQ; services of their own default to amqp://guest:guest@localhost:5672")
    trusted_users: str = Field(
        "", description="RabbitMQ users of our services, comma separated, by whose messages are told from foreign ones; see FOREIGN_TENANTS"
    )
    foreign_tenants: Annotated[str, AfterValidator(_tenants)] = Field(
        "*",
        description="Tenants for which messages of other RabbitMQ users run: names, comma separated, none, or *; others are quarantined",
    )
    redis_url: SecretStr | None = Field(None, description="Redis; services of their own default to redis://localhost:6379")
    database_url: SecretStr | None = Field(None, description="The ledger's database, for example postgresql://user:password@host/db")
    data_dir: str = Field(".sickbay", description="Folder of the control plane's ledger when DATABASE_URL is not set")
    sickbay_config: str | None = Field(
        None, description="Settings file (TOML) for all job types and single ones; re-read when it changes; not set: none"
    )
    failure_threshold: int = Field(5, ge=1, le=1_000, description="Failures of one error code in a row that open a breaker")
    cooldown_period: float = Field(60, gt=0, le=86_400, description="Seconds an open breaker waits before its first probe")
    max_retries: int = Field(3, ge=0, le=100, description="Retries after a job's first run, before it is quarantined")
    retry_delay_ms: int = Field(5_000, ge=0, le=86_400_000, description="Milliseconds before a failed job runs again")
    ledger_payload_bytes: int = Field(
        65_536,
        ge=0,
        le=MAX_PAYLOAD_BYTES,
        description="Largest payload that the ledger keeps of an unfinished job, for `sickbay requeue`; 0: none",
    )
    max_job_types: int = Field(1_000, ge=1, le=1_000_000, description="Job types that a Job API knows; new ones beyond are rejected (429)")
    max_tenants: int = Field(10_000, ge=1, le=10_000_000, description="Tenants that a Job API knows; new ones beyond are rejected (429)")
    metrics_tenants: int = Field(
        20, ge=0, le=1_000, description="Tenants with metrics of their own in each service; the jobs of all others are `other`"
    )
    max_new_names_per_minute: int = Field(
        1_000, ge=1, le=1_000_000, description="New job types and tenants that a Job API accepts per minute, once it knows those in use"
    )
    http_max_connections: int = Field(
        4_096, ge=1, le=1_000_000, description="Connections of an HTTP port; when all are in use, idle ones are closed for new ones"
    )
    http_max_connections_per_peer: int = Field(
        2_048, ge=1, le=1_000_000, description="The same for one peer: an IPv4 address, or the /64 of an IPv6 address"
    )
    http_max_header_bytes: int = Field(65_536, ge=1_024, le=1_048_576, description="Bytes of a request's header with its URL")
    http_header_timeout: float = Field(10, gt=0, le=3_600, description="Seconds for a whole header, and for the first byte of a connection")
    http_body_timeout: float = Field(30, gt=0, le=3_600, description="Seconds for a body, and one more for each 16 KiB of it")
    http_body_buffer_bytes: int = Field(
        134_217_728, ge=0, le=2**40, description="Bytes of large bodies (over 64 KiB) that an HTTP port receives at a time; others wait"
    )
    http_idle_timeout: float = Field(75, gt=0, le=86_400, description="Seconds that a connection stays open between requests")
    http_write_timeout: float = Field(30, gt=0, le=3_600, description="Seconds that a client may leave its responses unread")
    grpc_max_connections: int = Field(
        4_096, ge=1, le=50_000, description="Connections of a gRPC port; fewer if the limit of open files is low"
    )
    grpc_max_connections_per_peer: int | None = Field(None, ge=1, le=50_000, description="The same for one address; not set: half of them")
    grpc_handshake_timeout: float = Field(10, gt=0, le=3_600, description="Seconds until a new connection must speak HTTP/2")
    grpc_idle_timeout: float = Field(300, gt=0, le=86_400, description="Seconds that a connection is kept without a call")
    grpc_keepalive_time: float = Field(
        60, ge=1, le=86_400, description="Seconds without data from a client after which it is pinged, to see whether it is still there"
    )
    grpc_keepalive_timeout: float = Field(
        20, ge=1, le=3_600, description="Seconds for the answer to such a ping, or for a client's machine to confirm what was sent to it"
    )
    grpc_ping_interval: float = Field(
        10, ge=0.1, le=86_400, description="Least seconds between two pings of a client; the third that comes too early ends its connection"
    )
    grpc_max_metadata_bytes: int = Field(16_384, ge=4_096, le=1_048_576, description="Bytes of the metadata of a call")
    grpc_max_message_bytes: int = Field(
        16_777_216, ge=2_097_152, le=268_435_456, description="Bytes of the message of a call; at most GRPC_BODY_BUFFER_BYTES"
    )
    grpc_body_timeout: float = Field(30, gt=0, le=3_600, description="Seconds for the message of a call to arrive")
    grpc_write_timeout: float = Field(30, gt=0, le=3_600, description="Seconds for a client to read a response, or the next one of a watch")
    grpc_body_buffer_bytes: int = Field(134_217_728, ge=16_777_216, le=2**40, description="Bytes of unfinished messages, of all clients")
    grpc_max_streams: int = Field(250, ge=1, le=10_000, description="Calls and watches at a time on one connection; clients wait for more")
    grpc_max_calls: int = Field(2_000, ge=1, le=100_000, description="Calls at a time on a gRPC port, watches not counted")
    max_watches: int = Field(5_000, ge=1, le=50_000, description="Watches of a service at a time, over REST and gRPC together")
    max_watches_per_peer: int | None = Field(None, ge=1, le=50_000, description="The same for one address; not set: half of them")
    job_handlers: str = Field("", description="Modules with @handler functions, comma separated; not set: `sickbay up` runs the demo")
    work_stream: WorkStream = Field(
        WorkStream.OFF,
        description="From where programs in any language may connect to run the worker's jobs: off, local (its loopback address) or any",
    )
    pool: str = Field(
        "",
        pattern=f"^({NAME_PATTERN})?$",
        description="The worker takes jobs from the queue of this pool alone; not set: from the common lanes",
    )
    concurrency: int = Field(100, ge=1, le=10_000, description="Jobs that one worker runs at a time")
    prefetch_bytes: int = Field(
        PREFETCH_BYTES,
        ge=1_048_576,
        le=2**40,
        description="Bytes of messages that a process holds of one queue; a larger message is held alone",
    )
    handler_timeout: float = Field(30, gt=0, le=MAX_TIMEOUT_S, description="Seconds a run may take unless its handler says otherwise")
    cancel_grace: float = Field(
        5,
        ge=0,
        le=MAX_TIMEOUT_S,
        description="Seconds an async handler may go on after a request to cancel its job, unless it says otherwise",
    )
    unknown_type_grace: float = Field(
        60,
        ge=0,
        le=86_400,
        description="Seconds that no live worker must have handled a job type before its jobs are quarantined; not with embedded queues",
    )
    breaker_scope: BreakerScope = Field(
        BreakerScope.TYPE,
        description="type: all tenants share the breaker of a job type; tenant: each has one. Set it alike in all services",
    )
    breaker_failure_window: float = Field(600, gt=0, le=86_400, description="Seconds in which the failures in a row must happen")
    breaker_trip_confirm_ms: int = Field(50, ge=0, le=60_000, description="Distributed form only: least age of the failures in a row, ms")
    breaker_ramp: bool = Field(True, description="Let jobs in gradually after a breaker closed")
    breaker_max_cooldown: float = Field(
        0, ge=0, le=86_400, description="Longest cooldown in seconds, doubled with each failed probe; 0: the cooldown does not grow"
    )
    incident_reopen_window: float = Field(
        300, ge=0, le=86_400, description="Seconds after its closing in which a breaker that opens again continues its incident"
    )
    webhook_url: SecretStr | None = Field(
        None,
        description="Where openings and closings of incidents are posted, for example https://example.com/hook; not set: nowhere",
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Signs these requests (Standard Webhooks): whsec_ and the base64 of 24 to 64 random bytes; not set: unsigned"
    )
    health_grace: float = Field(
        10,
        ge=0,
        le=600,
        description="Seconds that a server may be unavailable before health reports it; half as long it must be available again",
    )
    log_level: Annotated[str, AfterValidator(_log_level)] = Field(
        "INFO", description="DEBUG, INFO, WARNING or ERROR; other levels for modules: INFO,worker.engine=DEBUG"
    )
    log_format: str = Field("auto", pattern="^(auto|console|json)$", description="console, json, or auto: console on a terminal")
    sqlite_synchronous: Literal["FULL", "NORMAL"] = Field("FULL", description="Embedded only: NORMAL survives a kill, not a power cut")
    otel_exporter_otlp_endpoint: str | None = Field(
        None, description="Where traces are sent, by OTLP over gRPC, for example http://localhost:4317; not set: no traces"
    )
    otel_exporter_otlp_traces_endpoint: str | None = Field(None, description="Overrides the endpoint for traces")
    otel_exporter_otlp_protocol: str = Field("grpc", description="Only grpc is supported")
    otel_traces_exporter: str = Field("otlp", description="none disables traces")
    otel_sdk_disabled: bool = Field(False, description="True disables traces")
    redact: str = Field("", description="module:function that removes secrets from failures' messages, tracebacks, logs and traces")
    observers: str = Field(
        "", description="module:name of observers of your own, comma separated: they are notified of what happens to jobs"
    )
    worker_name: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        max_length=100,
        description="Name of this process in a job's history",
    )

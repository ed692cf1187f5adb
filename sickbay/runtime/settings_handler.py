"""`handler` of a job type in the settings file: an endpoint to which workers post its jobs. Secrets are named there, never written."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from sickbay.adapters.http_handler.addresses import AddressRule
from sickbay.adapters.http_handler.request import header_mistake
from sickbay.adapters.webhook.address import WebhookAddress, parse_address
from sickbay.domain.errors import SettingsError
from sickbay.domain.job import CODE_PATTERN
from sickbay.runtime.settings_durations import duration, shown_duration
from sickbay.runtime.settings_limits import Table

MAX_HEADERS: Final = 50
_Variable = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]{0,254}$")]
_Path = Annotated[str, Field(min_length=1, max_length=4_096)]
_NAMED: Final = 'name a variable, { env = "NAME" }, or a file, { file = "/path" }'


def _or_text(schema: dict[str, Any]) -> None:
    """In the JSON Schema, a text may stand for the table."""
    table = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": "string"}, table]


def _checked_url(url: str) -> str:
    try:
        parse_address(url, "it", 'sign the requests with secret, or send headers = { Authorization = { env = "NAME" } }')
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return url


class SecretTable(Table):
    """`{ env = "NAME" }` or `{ file = "/path" }`: where a worker reads a secret."""

    env: _Variable | None = Field(None, description="The environment variable of the worker that has it")
    file: _Path | None = Field(None, description="The file that has it; read again when it changes")

    @model_validator(mode="before")
    @classmethod
    def _check_table(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError(f"a secret is not written into this file: {_NAMED}")  # noqa: TRY004 - pydantic's way to report a mistake
        return value

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError(_NAMED)
        return self

    @property
    def place(self) -> str:
        """In words, for `config show`."""
        return f"variable {self.env}" if self.env is not None else f"file {self.file}"


class HeaderTable(Table):
    """`"text"`, or for a secret one `{ env = "NAME" }` or `{ file = "/path" }`."""

    model_config = ConfigDict(json_schema_extra=_or_text)

    value: str | None = Field(None, description="The value itself, if it is no secret")
    env: _Variable | None = Field(None, description="The environment variable of the worker that has it")
    file: _Path | None = Field(None, description="The file that has it; read again when it changes")

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: object) -> object:
        if isinstance(value, str):
            return {"value": value}
        if not isinstance(value, Mapping):
            raise ValueError(f"write a text, or for a secret {_NAMED}")  # noqa: TRY004 - pydantic's way to report a mistake
        return value

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if sum(one is not None for one in (self.value, self.env, self.file)) != 1:
            raise ValueError(f"write a text, or for a secret {_NAMED}")
        return self

    @property
    def place(self) -> str:
        """In words, for `config show`; the text itself may be a secret after all."""
        return "a text" if self.value is not None else f"variable {self.env}" if self.env is not None else f"file {self.file}"


class HandlerTable(Table):
    """`handler = "https://host/path"`, or a table with that as `url`."""

    model_config = ConfigDict(json_schema_extra=_or_text)

    url: Annotated[str, AfterValidator(_checked_url)] = Field(
        description="Where jobs are posted: https://host/path or http://host:port/path"
    )
    secret: SecretTable | None = Field(None, description="Signs the requests (Standard Webhooks); not set: unsigned")
    headers: Mapping[str, HeaderTable] = Field(default_factory=dict, max_length=MAX_HEADERS, description="Further headers of each request")
    connect_timeout: duration(least=1, most=60_000) = Field(  # type: ignore[valid-type]
        5_000, description="How long name and connection may take, and as long again TLS"
    )
    ca_file: _Path | None = Field(None, description="Certificates of the authorities to trust (PEM); not set: those of the system")
    cert_file: _Path | None = Field(None, description="The worker's own certificate (PEM), with its key or with key_file")
    key_file: _Path | None = Field(None, description="The key of cert_file (PEM), without a password")
    allow_private: bool = Field(default=True, description="Whether its address may be private: a private network, or this machine")
    allow_link_local: bool = Field(default=False, description="Whether its address may be link-local, or that of a cloud's metadata")
    kinds: Mapping[Annotated[str, Field(pattern=f"^{CODE_PATTERN}$")], Literal["systemic", "transient", "data", "unknown"]] = Field(
        default_factory=dict, description="The kind of failure of error codes, for example HTTP_401 = systemic"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: object) -> object:
        if isinstance(value, str):
            return {"url": value}
        if not isinstance(value, Mapping):
            raise ValueError('write "https://host/path", or a table with that as url')  # noqa: TRY004 - pydantic's way to report a mistake
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: Mapping[str, HeaderTable]) -> Mapping[str, HeaderTable]:
        for name, table in headers.items():
            if mistake := header_mistake(name, table.value):
                raise ValueError(f"the header {name[:100]!r} {mistake}")
        if len({name.lower() for name in headers}) < len(headers):
            raise ValueError("a header is named twice, with other capital letters")
        return headers

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        tls = [key for key in ("ca_file", "cert_file", "key_file") if getattr(self, key) is not None]
        if tls and not self.address.is_tls:
            raise ValueError(f"only https has {', '.join(tls)}: change url, or leave them out")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file is the key of cert_file: set that, too")
        try:
            address = ipaddress.ip_address(self.address.host)
        except ValueError:
            return self
        if objection := self.rule.objection(address):
            raise ValueError(f"the address {address} of url is not allowed: {objection}")
        return self

    @property
    def address(self) -> WebhookAddress:
        """The URL in its parts."""
        return parse_address(self.url)

    @property
    def rule(self) -> AddressRule:
        """Which addresses its host may have."""
        return AddressRule(self.allow_private, self.allow_link_local)

    def shown(self) -> Mapping[str, str]:
        """What is set, by key below `handler`, as `config show` shows it: no secret, no query of the URL, no text of a header."""
        table = {"url": self.url.partition("?")[0] + ("?..." if "?" in self.url else "")}
        if self.secret is not None:
            table["secret"] = self.secret.place
        table |= {f"headers.{name}": header.place for name, header in sorted(self.headers.items())}
        table["connect_timeout"] = shown_duration(self.connect_timeout)
        table |= {key: f"file {value}" for key in ("ca_file", "cert_file", "key_file") if (value := getattr(self, key)) is not None}
        table |= {key: str(getattr(self, key)).lower() for key in ("allow_private", "allow_link_local")}
        return table | {f"kinds.{code}": kind for code, kind in sorted(self.kinds.items())}

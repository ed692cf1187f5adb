"""The handlers that the settings file has: endpoints to which a worker posts jobs.

The adapter, and httpcore with it, is imported when there is the first one.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from sickbay.domain.errors import SettingsError
from sickbay.domain.outcome import OutcomeKind
from sickbay.handlers.registry import HandlerSpec
from sickbay.ports import Clock
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.runtime.settings_file import SettingsFile
from sickbay.runtime.settings_handler import HandlerTable, HeaderTable, SecretTable

if TYPE_CHECKING:
    from sickbay.adapters.http_handler.credentials import Place
    from sickbay.adapters.http_handler.spans import RequestSpans

_EXTRA: Final = "pip install 'sickbay[server]'"


class _Made(NamedTuple):
    """A handler and the table it was made of."""

    table: HandlerTable
    spec: HandlerSpec


class HttpHandlers:
    """Those of one worker. A handler whose table has not changed stays the same, with its connections."""

    def __init__(self, policies: Policies, clock: Clock, spans: RequestSpans | None = None) -> None:
        """Make those of the file in force. SettingsFileError if a secret or a certificate cannot be read, now and for each changed file."""
        self._policies = policies
        self._clock = clock
        self._spans = spans
        self._made: Mapping[str, _Made] = {}
        self._next: Mapping[str, _Made] = {}
        policies.check_with(self._make)
        self._made = self._next

    @property
    def specs(self) -> Sequence[HandlerSpec]:
        """The handlers of the file that is in force."""
        return [one.spec for one in self._made.values()]

    def on_change(self, listener: Callable[[Sequence[HandlerSpec]], object]) -> None:
        """Call it with the handlers of each changed file, once that is in force."""

        def take() -> None:
            self._made = self._next
            listener(self.specs)

        self._policies.on_change(take)

    def _make(self, file: SettingsFile) -> None:
        """Make those of a file, which is not in force yet."""
        made = {}
        for job_type, table in file.handlers.items():
            before = self._made.get(job_type)
            made[job_type] = before if before is not None and before.table == table else _Made(table, self._spec(job_type, table))
        self._next = made

    def _spec(self, job_type: str, table: HandlerTable) -> HandlerSpec:
        from sickbay.adapters.http_handler.credentials import Credentials  # noqa: PLC0415 - see the module's docstring
        from sickbay.adapters.http_handler.endpoint import Endpoint  # noqa: PLC0415
        from sickbay.adapters.http_handler.handler import HttpHandler  # noqa: PLC0415
        from sickbay.adapters.http_handler.spans import UNTRACED  # noqa: PLC0415

        key = f"types.{job_type}.handler"
        secret = None if table.secret is None else _place(table.secret, f"{key}.secret")
        headers = {name: _place(one, f"{key}.headers.{name}") if one.value is None else one.value for name, one in table.headers.items()}
        function = HttpHandler(
            Endpoint(table.address, table.rule, table.connect_timeout / 1_000, _tls(table, key)),
            Credentials(secret, headers),
            timeout_s=lambda: self._policies.timeout_s(job_type, None),
            clock=self._clock,
            spans=self._spans or UNTRACED,
        )
        kinds = {code: OutcomeKind(kind) for code, kind in table.kinds.items()}
        return HandlerSpec(job_type, function, kinds=kinds, place=f"{key} of the settings file")


def has_http_handlers(settings: Settings) -> bool:
    """Whether the settings file names a handler: then a worker needs no module. SettingsFileError if the file is invalid."""
    return bool(settings.sickbay_config) and bool(Policies(settings).file.handlers)


def _place(table: SecretTable | HeaderTable, key: str) -> Place:
    from sickbay.adapters.http_handler.credentials import Place  # noqa: PLC0415 - see the module's docstring

    return Place(key, table.env or "", table.file or "")


def _tls(table: HandlerTable, key: str) -> ssl.SSLContext | None:
    if not table.address.is_tls:
        return None
    try:
        context = ssl.create_default_context(cafile=table.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{key}.ca_file: the certificates in {table.ca_file} cannot be read: {_why(error)}") from None
    if table.cert_file is not None:
        try:
            context.load_cert_chain(table.cert_file, table.key_file, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"{key}.cert_file: the certificate, or its key, cannot be read: {_why(error)}") from None
    return context


def _why(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__

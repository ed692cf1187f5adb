"""Options that commands share: addresses, timeouts, and the output format."""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from sickbay.domain.priority import Priority
from sickbay.domain.service_ports import DEFAULT_PORTS, JOB_API
from sickbay.jobs.v1 import job_pb2
from sickbay_cli.durations import parse_span
from sickbay_cli.streams import is_text

Function = TypeVar("Function", bound=Callable[..., Any])

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):\d{1,5}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service to call: its name for people, the option for another address, the address, and the timeout of a call in seconds."""

    title: str
    option: str
    address: str
    timeout: float

    @property
    def variable(self) -> str:
        """The environment variable of the address."""
        return _variable(self.option)


class _Address(click.ParamType[str]):
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if _ADDRESS.fullmatch(text) is None or not is_text(text):
            self.fail(f"{text!r} is not an address; write HOST:PORT of the gRPC port, for example localhost:{JOB_API.grpc}", param, ctx)
        return text


class _Span(click.ParamType[int]):
    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_span(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Priority(click.Choice):  # type: ignore[type-arg]  # generic only since click 8.2
    """The name of a priority, as people write it; the command gets the contract's number."""

    def __init__(self) -> None:
        super().__init__([priority.value for priority in Priority], case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, int) else job_pb2.Priority.Value(f"PRIORITY_{super().convert(value, param, ctx)}")


class _Folder(click.ParamType[Path]):
    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value).strip():
            self.fail("the folder's name is empty; omit the option for .sickbay, or write . for the current folder", param, ctx)
        return Path(value)


class _SettingsFile(click.ParamType[Path]):
    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value).strip():
            self.fail(
                "the file's name is empty; omit the option for SICKBAY_CONFIG, or for no settings file if that is not set", param, ctx
            )
        return Path(value)


ADDRESS: Final = _Address()
FOLDER: Final = _Folder()
SETTINGS_FILE: Final = _SettingsFile()
PRIORITY: Final = _Priority()
SPAN: Final = _Span()
"""A duration such as 10m; the command gets milliseconds."""

TITLES: Final = {"jobapi": "Job API", "worker": "worker", "control-plane": "control plane"}
_DEFAULTS: Final = {service: f"localhost:{ports.grpc}" for service, ports in DEFAULT_PORTS.items()}


def endpoints(*services: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the address options of `services` and --timeout; the command gets one `Endpoint` for each, named `jobapi` and so on."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(*args: Any, timeout: float, **options: Any) -> Any:
            for service in services:
                name = service.replace("-", "_")
                options[name] = Endpoint(TITLES[service], f"--{service}", options[name], timeout)
            return function(*args, **options)

        for service in reversed(services):
            command = _address_option(service)(command)
        return _timeout(command)

    return decorate


def _address_option(service: str) -> Callable[[Function], Function]:
    option = f"--{service}"
    return click.option(
        option,
        type=ADDRESS,
        envvar=_variable(option),
        default=_DEFAULTS[service],
        show_default=True,
        show_envvar=True,
        help=f"gRPC address of the {TITLES[service]}.",
    )


def _variable(option: str) -> str:
    return f"SICKBAY_{option.removeprefix('--').replace('-', '_').upper()}"


_timeout = click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="Timeout of one call, in seconds."
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON in the form of the REST API.")
tenant = click.option("--tenant", default="", help="Only this tenant.")
tenant_name = click.option("--tenant", default="", help="The tenant; `default` unless tenants are used.")
breaker_tenant = click.option("--tenant", default="", help="The tenant, if each has breakers of its own (BREAKER_SCOPE=tenant).")
job_type = click.option("--type", "job_type", default="", help="Only this job type.")
priority = click.option("--priority", type=PRIORITY, default=job_pb2.PRIORITY_UNSPECIFIED, help="Only jobs of this priority.")
limit = click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Show at most this many.")
page_token = click.option("--page-token", default="", help="Continue where an earlier list ended (its nextPageToken).")
settings_file = click.option(
    "--config",
    type=SETTINGS_FILE,
    metavar="FILE",
    help="Settings file (SICKBAY_CONFIG), re-read when it changes; `sickbay config check FILE` checks it.",
)
reload = click.option(
    "--reload",
    is_flag=True,
    help="For development: load the handlers anew whenever their source changes; running jobs finish as they began.",
)
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")


patience = click.option(
    "--for", "patience", type=SPAN, metavar="SPAN", help="Wait no longer than this: 60s, 10m, 1h30m. Default: until the job has ended."
)
retry_for = click.option(
    "--retry-for",
    type=SPAN,
    metavar="SPAN",
    help="Wait and submit again what a limit rejects, for no longer than this: 30s, 10m. Default: do not.",
)
even_if_quarantined = click.option(
    "--even-if-quarantined", is_flag=True, help="Keep waiting while the job is quarantined and needs a person."
)


def _login() -> str:
    """The user's login name, empty if there is none, as in some containers."""
    try:
        return getpass.getuser().encode("utf-8", "replace").decode()
    except (KeyError, OSError):
        return ""


actor = click.option("--actor", default=_login, show_default="your login name", help="Who does this, for the history.")


def examples(*lines: str) -> str:
    """An epilog for a command's --help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)

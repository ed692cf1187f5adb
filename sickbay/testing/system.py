"""The whole product in memory, for tests that follow jobs over retries and outages; needs `sickbay[server]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, cast

from sickbay.handlers.payloads.typing import PayloadObject

if TYPE_CHECKING:
    from sickbay.client import Breaker, Client, Job

_GROUP: Final = "sickbay.testing"
Handler = Callable[..., Any]
Handlers = str | Sequence[Handler]
"""Modules, comma separated as in JOB_HANDLERS, or functions marked `@handler`."""


class System(Protocol):
    """Job API, worker and control plane in memory, in this process, with a clock that a test moves; in `with`, or until `close`.

    Handlers run in real time: only what waits outside of them (retries, cooldowns, the pace of releases) follows the clock.
    """

    client: Client
    """For everything else: a client of this system (docs/clients.md)."""
    address: str
    """The gRPC address of its Job API, for clients that a program under test makes (SICKBAY_JOBAPI)."""

    @property
    def now(self) -> datetime:
        """The time by the clock of this system."""

    def submit(self, job: str | Handler | PayloadObject, payload: Mapping[str, Any] | PayloadObject | None = None, **options: Any) -> str:
        """Submit a job of this type, of this handler's type, or of this payload's type (`Email(...)`), and return its id.

        Options are those of the client's `submit`.
        """

    def drain(self, *, patience: float = 30.0) -> None:
        """Wait until nothing runs and nothing is due now. TimeoutError after `patience` real seconds."""

    def advance(self, seconds: float, *, patience: float = 30.0) -> None:
        """Move the clock ahead, and do what becomes due meanwhile, each thing at its time, without sleeping.

        TimeoutError if jobs run for longer than `patience` real seconds in between.
        """

    def job(self, job_id: str) -> Job:
        """The job as clients see it: state, attempt, errors, and so on. NotFound if it is not in the ledger yet: `drain` first."""

    def result(self, job_id: str) -> Any:
        """What clients get of what the handler returned, decoded from JSON; None if there is none, or if it is not kept."""

    def breaker(self, job: str | Handler) -> Breaker:
        """The breaker of this job type, or of this handler's type. NotFound if no job of it has run."""

    def close(self) -> None:
        """Stop it; running jobs are cancelled."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def start_system(handlers: Handlers, settings: Mapping[str, object] | None = None) -> System:
    """Start the product with these handlers; `settings` are variables of docs/configuration.md, and none of the environment is read.

    Raises SettingsError if a module cannot be loaded or a setting is invalid, TypeError for a function that is no handler, and
    ModuleNotFoundError without `sickbay[server]`.
    """
    # By its name: what runs services lies above everything in `sickbay`, which must not import it (CONTRIBUTING.md, the import rule).
    from importlib.metadata import entry_points  # noqa: PLC0415 - takes longer than all else of `sickbay.testing`, which rarely needs it

    found = next(iter(entry_points(group=_GROUP, name="system")))
    try:
        make = cast("Callable[[Handlers, Mapping[str, object]], System]", found.load())
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the system in memory needs more than the SDK ({error.name} is missing): pip install 'sickbay[server]'", name=error.name
        ) from error
    return make(handlers, settings or {})

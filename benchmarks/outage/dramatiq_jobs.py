"""The same jobs for Dramatiq, with its usual retries, alone or with an in-process breaker: actors in threads that call the dependency.

Used as their documentation says. The first delay of a retry is that of our run, so that nobody waits longer by default; everything else
is left as it is: exponential back-off with jitter, 20 retries. A 429 is retried when it says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from benchmarks.outage.client import Limited, ThreadClients
from benchmarks.outage.scenarios import ON_DEPENDENCY

KINDS: Final = ("email", "invoice", "sms", "report")
REPORT_S: Final = 0.2
THRESHOLD: Final = 5


def broker(url: str) -> Any:
    """Dramatiq on RabbitMQ; a message is sent when the server has confirmed it."""
    made = import_module("dramatiq.brokers.rabbitmq").RabbitmqBroker(url=url, confirm_delivery=True)
    import_module("dramatiq").set_broker(made)
    return made


def actors(made: Any, retry_s: float, run: Callable[[str, int], None]) -> Mapping[str, Any]:
    """One for each type, each on a queue of its own; the arguments are the type and the job's number."""
    library: Any = import_module("dramatiq")
    options = {"broker": made, "min_backoff": max(1, round(retry_s * 1_000))}
    return {kind: library.actor(run, actor_name=kind, queue_name=kind, **options) for kind in KINDS}


class Work:
    """What the actors do."""

    def __init__(self, breaker: str, cooldown_s: float) -> None:
        """`breaker` names the library, empty for none."""
        self._starts = _opened("OUTAGE_STARTS")
        self._clients = ThreadClients(int(os.environ["OUTAGE_PORT"]), float(os.environ["OUTAGE_TIMEOUT"]))
        guarded = BREAKERS[breaker](cooldown_s) if breaker else {}
        self._guards: Mapping[str, Callable[[Callable[[], None]], None]] = guarded

    def run(self, kind: str, number: int) -> None:
        """One job."""
        retry: Any = import_module("dramatiq").errors.Retry
        try:
            self._guards.get(kind, _bare)(lambda: self._job(kind, number))
        except Limited as error:
            raise retry(str(error), delay=int(error.retry_after * 1_000)) from None

    def _job(self, kind: str, number: int) -> None:
        os.write(self._starts, f"{time.monotonic():.6f} {kind} {number}\n".encode())
        if kind in ON_DEPENDENCY:
            self._clients.call(kind, number)
        elif kind == "report":
            time.sleep(REPORT_S)


def _bare(job: Callable[[], None]) -> None:
    job()


def _opened(variable: str) -> int:
    return os.open(os.environ[variable], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _noter(kind: str) -> Callable[[str], None]:
    """Writes down what a circuit becomes."""
    states = _opened("OUTAGE_STATES")

    def note(state: str) -> None:
        os.write(states, f"{time.monotonic():.6f} {kind} {state}\n".encode())

    return note


def _pybreaker(cooldown_s: float) -> Mapping[str, Callable[[Callable[[], None]], None]]:
    library: Any = import_module("pybreaker")

    def made(kind: str) -> Any:
        note = _noter(kind)

        class Listener(library.CircuitBreakerListener):  # type: ignore[misc]  # of a library that may be missing
            """Hears of every change."""

            def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
                """The library's call."""
                note(str(new_state.name).upper().replace("-", "_"))

        return library.CircuitBreaker(fail_max=THRESHOLD, reset_timeout=cooldown_s, listeners=[Listener()]).call

    return {kind: made(kind) for kind in ON_DEPENDENCY}


def _purgatory(cooldown_s: float) -> Mapping[str, Callable[[Callable[[], None]], None]]:
    library: Any = import_module("purgatory")
    factory = library.SyncCircuitBreakerFactory(THRESHOLD, cooldown_s)
    notes = {kind: _noter(kind) for kind in ON_DEPENDENCY}

    def hear(name: str, event: str, payload: Any) -> None:
        if event == "state_changed":
            notes[name](str(payload.state).upper().replace("-", "_").replace("OPENED", "OPEN"))

    factory.add_listener(hear)

    def guard(kind: str) -> Callable[[Callable[[], None]], None]:
        def guarded(job: Callable[[], None]) -> None:
            with factory.get_breaker(kind):
                job()

        return guarded

    return {kind: guard(kind) for kind in ON_DEPENDENCY}


BREAKERS: Final = {"purgatory": _purgatory, "pybreaker": _pybreaker}
"""The latter lets one call run at a time, so a process of it cannot do the normal load."""

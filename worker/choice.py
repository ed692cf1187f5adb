"""Which handlers a worker runs. Those of the demo only simulate work, so they run only on request, with a warning in the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from sickbay.domain.errors import MissingSetting
from sickbay.handlers.loading import load_handlers
from sickbay.handlers.registry import HandlerSpec
from worker.demo import allow_crash

DEMO: Final = "worker.demo"
"""The module of the demo's handlers, as JOB_HANDLERS names it."""

log = logging.getLogger("sickbay")


def missing(why: str = "JOB_HANDLERS is not set", demo: str = f"JOB_HANDLERS={DEMO}") -> MissingSetting:
    """The error for a start without handlers; `demo` is how to request the demo."""
    return MissingSetting(
        f"{why}: name the modules with your @handler functions, for example JOB_HANDLERS=my_handlers, "
        "or an endpoint as the handler of a type in the settings file; "
        f"for the demo, which only simulates email, sms and webhook, use {demo}"
    )


def is_demo(modules: str) -> bool:
    """Whether the demo is among the modules, comma separated."""
    return DEMO in names_of(modules)


def is_demo_alone(modules: str) -> bool:
    """Whether only the demo is named."""
    return names_of(modules) == {DEMO}


def load_chosen(modules: str, *, has_own_queue: bool = False, has_others: bool = False) -> Mapping[str, HandlerSpec]:
    """The handlers by job type; raises MissingSetting if no module is named, otherwise like `load_handlers`.

    `has_others`: there are handlers in the settings file, or programs may bring theirs, so none need be named.
    `has_own_queue`: no other process consumes jobs from this one's queue. Only then, and without other handlers, the demo's `crash` is
    enabled: elsewhere a payload would kill workers with real jobs.
    """
    if not names_of(modules):
        if has_others:
            return {}
        raise missing()
    handlers = load_handlers(modules, ours={DEMO})
    if has_own_queue and not has_others and is_demo_alone(modules):
        allow_crash()
    return handlers


def warn_if_demo(modules: str) -> None:
    """Log a warning if the demo runs."""
    if is_demo(modules):
        log.warning("the handlers of the demo are running (%s): jobs of email, sms and webhook are only simulated, nothing is sent", DEMO)


def names_of(modules: str) -> set[str]:
    """The names of modules in JOB_HANDLERS."""
    return {name.strip() for name in modules.split(",")} - {""}

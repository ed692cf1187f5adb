"""Enters the lifespans of the handlers' modules before a worker takes jobs, and leaves them after its last one, both within bounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Final

from sickbay.domain.errors import SettingsError
from sickbay.domain.raised import text_of
from sickbay.handlers.call import error_text
from sickbay.handlers.checks import HandlerMistake
from sickbay.handlers.lifespan import lifespans_of
from sickbay.handlers.registry import HandlerSpec
from sickbay.handlers.resources import Resources

ENTER_S: Final = 30.0
LEAVE_S: Final = 5.0
"""For the async ones, and again for the plain ones."""

log = logging.getLogger(__name__)


class Lifespans:
    """The lifespans of the handlers' modules in one worker, also after a reload. Belongs to the worker's loop."""

    def __init__(self, outdated: Callable[[Mapping[str, HandlerSpec]], int]) -> None:
        """`outdated` says how many runs there are of handlers that are not among these."""
        self._outdated = outdated
        self._in_force: Mapping[str, HandlerSpec] | None = None
        """After a reload, while runs need lifespans of before."""
        self.resources = Resources()

    async def enter(self, specs: Iterable[HandlerSpec], within_s: float = ENTER_S) -> None:
        """Enter all, and check that each handler gets what it takes. SettingsError if one fails, or takes longer than that."""
        try:
            async with asyncio.timeout(within_s):
                for spec in specs:
                    if lifespans_of(spec.scope):
                        await _enter(self.resources, spec)
        except TimeoutError:
            raise SettingsError(f"JOB_HANDLERS: the lifespans of {spec.scope.get('__name__')!r} took longer than {within_s:g} s") from None

    async def leave(self, within_s: float = LEAVE_S) -> None:
        """Leave all; one that does not end is left behind, and the log says so."""
        for end in (self.resources.end, self.resources.end_plain):
            await _wait(end, within_s)

    def leave_unused(self, handlers: Mapping[str, HandlerSpec]) -> None:
        """Leave those of modules that none of these handlers is in, once the last run of one of before has ended."""
        self._in_force = handlers
        if self._outdated(handlers) == 0:
            self._in_force = None
            self.resources.keep(handlers.values())

    def on_run_end(self) -> None:
        """A run has ended, perhaps the last one that needs lifespans of before."""
        if self._in_force is not None:
            self.leave_unused(self._in_force)


async def _enter(resources: Resources, spec: HandlerSpec) -> None:
    try:
        await resources.bound_async(spec)
    except HandlerMistake as error:
        raise SettingsError(f"JOB_HANDLERS: {spec.place}: {text_of(error)}") from error
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        name = spec.scope.get("__name__")
        raise SettingsError(f"JOB_HANDLERS: a lifespan of module {name!r} failed at the start: {error_text(error)}") from error


async def _wait(end: Callable[[], Sequence[Future[None]]], within_s: float) -> None:
    ended = {asyncio.wrap_future(one) for one in end()}
    if not ended:
        return
    _, late = await asyncio.wait(ended, timeout=within_s)
    if late:
        log.error("%d lifespans did not end within %g s; they are left behind", len(late), within_s)

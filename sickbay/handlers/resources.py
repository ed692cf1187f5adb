"""Enters the lifespans of modules and gives their values to handlers.

Of each module the plain ones live in a thread, and the async ones in a task on one event loop, from the first need of them to `end`: a pool
belongs to the loop on which it was made.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from typing import Any

from sickbay.handlers.checks import HandlerMistake
from sickbay.handlers.lifespan import Lifespan, homes_of, lifespans_of
from sickbay.handlers.registry import HandlerSpec

Values = Mapping[str, Any]

log = logging.getLogger(__name__)


def own_lifespans(home: Mapping[str, Any], *, is_async: bool) -> Sequence[Lifespan]:
    """Those that are defined in this module: first what makes something, then what is called at the end."""
    own = [one for one in lifespans_of(home) if one.home is home and one.is_async is is_async]
    return sorted(own, key=lambda one: one.mark == "shutdown")


class PlainLife:
    """The life of a module's plain lifespans, in a thread."""

    def __init__(self, home: Mapping[str, Any]) -> None:
        """Begin it."""
        self.home = home
        self.entered: Future[Values] = _future()
        self.ended: Future[None] = _future()
        self._stop = threading.Event()
        self._home = home  # by whose id it is found
        self._lifespans = own_lifespans(home, is_async=False)
        if not self._lifespans:
            self.entered.set_result({})
            self.ended.set_result(None)
            return
        threading.Thread(target=self._live, name="lifespans", daemon=True).start()

    def end(self) -> None:
        """Leave them; `ended` is set then."""
        self._stop.set()

    def _live(self) -> None:
        try:
            with ExitStack() as stack:
                values: dict[str, Any] = {}
                for one in self._lifespans:
                    values |= one.given(stack.enter_context(one.open(values)))
                self.entered.set_result(values)
                self._stop.wait()
        except BaseException as error:  # noqa: BLE001 - it is told to whoever waits
            _fail(self.entered, error)
        finally:
            self.ended.set_result(None)


class AsyncLife:
    """The life of a module's async lifespans, in a task on one event loop."""

    def __init__(self, home: Mapping[str, Any], plain: Values, loop: asyncio.AbstractEventLoop) -> None:
        """Begin it, in any thread; `plain` is what the module's plain ones give."""
        self.home = home
        self.entered: Future[Values] = _future()
        self.ended: Future[None] = _future()
        self._plain = plain
        self._loop = loop
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._home = home  # by whose id it is found
        self._lifespans = own_lifespans(home, is_async=True)
        if not self._lifespans:
            self.entered.set_result({})
            self.ended.set_result(None)
            return
        loop.call_soon_threadsafe(self._begin)

    def end(self) -> None:
        """Leave them; `ended` is set then, unless the loop is blocked."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._stop.set)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._live(), name="lifespans")

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                values: dict[str, Any] = {}
                for one in self._lifespans:
                    values |= one.given(await stack.enter_async_context(one.open_async({**self._plain, **values})))
                self.entered.set_result(values)
                await self._stop.wait()
        except BaseException as error:  # noqa: BLE001 - as above
            _fail(self.entered, error)
        finally:
            self.ended.set_result(None)


def _future() -> Future[Any]:
    """One that who waits for it cannot cancel."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def _fail(entered: Future[Values], error: BaseException) -> None:
    if not entered.done():
        entered.set_exception(error)
    elif not isinstance(error, asyncio.CancelledError):  # the loop is closed
        log.error("a lifespan failed at its end", exc_info=error)


class Resources:
    """The lifespans of all modules in one process, as the handlers on one event loop and in threads get their values. Thread-safe."""

    def __init__(self) -> None:
        """Nothing is entered before the first need."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._plain: dict[int, PlainLife] = {}
        self._async: dict[int, AsyncLife] = {}
        self._bound: dict[int, tuple[HandlerSpec, HandlerSpec]] = {}
        """By the id of the handler, which is kept with it."""
        self._lock = threading.Lock()

    def use(self, loop: asyncio.AbstractEventLoop) -> None:
        """Async handlers run on this loop from now on: nothing that was made on another is given any more."""
        with self._lock:
            self._loop, self._async, self._bound = loop, {}, {}

    def bound(self, spec: HandlerSpec) -> HandlerSpec:
        """The handler with the values it takes, in a thread that may wait. Raises what entering raises."""
        kept = self._bound
        if (known := kept.get(id(spec))) is not None:
            return known[1]
        values: dict[str, Any] = {}
        for home in homes_of(spec.scope):
            plain = self._plain_life(home).entered.result()
            values.update(plain)
            values.update(self._async_life(home, plain).entered.result())
        return _keep(kept, spec, bind(spec, values))

    async def bound_async(self, spec: HandlerSpec) -> HandlerSpec:
        """The same on a loop."""
        kept = self._bound
        if (known := kept.get(id(spec))) is not None:
            return known[1]
        values: dict[str, Any] = {}
        for home in homes_of(spec.scope):
            plain = await asyncio.wrap_future(self._plain_life(home).entered)
            values.update(plain)
            entered = await asyncio.wrap_future(self._async_life(home, plain).entered)
            values.update(entered)
        return _keep(kept, spec, bind(spec, values))

    def keep(self, specs: Iterable[HandlerSpec]) -> None:
        """Leave those that none of these handlers has; plain ones after the async ones of the same module, which may use what they made."""
        specs = list(specs)
        homes = {id(home) for spec in specs for home in homes_of(spec.scope)}
        handlers = {id(spec) for spec in specs}
        with self._lock:
            plain = [self._plain.pop(key) for key in self._plain.keys() - homes]
            gone = [self._async.pop(key) for key in self._async.keys() - homes]
            for key in self._bound.keys() - handlers:
                del self._bound[key]
        leaving = {id(life.home): _ended(life) for life in gone}
        for life in plain:
            before = leaving.get(id(life.home))
            if before is None:
                life.end()
            else:
                before.add_done_callback(functools.partial(_then_end, life))

    def end(self) -> Sequence[Future[None]]:
        """Leave the async ones on the present loop, and say what to wait for; after that call `end_plain`."""
        return [_ended(life) for life in self._async.values()]

    def end_plain(self) -> Sequence[Future[None]]:
        """The same of plain ones, which may have made what async ones use."""
        return [_ended(life) for life in self._plain.values()]

    def _plain_life(self, home: Mapping[str, Any]) -> PlainLife:
        with self._lock:
            life = self._plain.get(id(home))
            if life is None or _has_failed(life):
                life = self._plain[id(home)] = PlainLife(home)
            return life

    def _async_life(self, home: Mapping[str, Any], plain: Values) -> AsyncLife:
        with self._lock:
            life = self._async.get(id(home))
            if life is None or _has_failed(life):
                assert self._loop is not None, "the loop is known before the first run"  # noqa: S101 - our own
                life = self._async[id(home)] = AsyncLife(home, plain, self._loop)
            return life


def _keep(kept: dict[int, tuple[HandlerSpec, HandlerSpec]], spec: HandlerSpec, bound: HandlerSpec) -> HandlerSpec:
    """Nothing that was made on a loop that has been replaced meanwhile: that one's `kept` is forgotten."""
    kept[id(spec)] = (spec, bound)
    return bound


def bind(spec: HandlerSpec, values: Values) -> HandlerSpec:
    """The handler with the values that it takes. HandlerMistake if it takes one that nobody gives."""
    if missing := [name for name, is_needed in spec.wanted.items() if is_needed and name not in values]:
        given = f"they give {', '.join(sorted(values))}" if values else "they give nothing"
        raise HandlerMistake(
            f"the handler of {spec.job_type!r} takes {missing[0]!r}, which no @lifespan or @startup of its module gives: {given}; "
            f'yield {{"{missing[0]}": ...}}, or call the function that yields it {missing[0]}'
        )
    taken = {name: values[name] for name in spec.wanted if name in values}
    return replace(spec, function=functools.partial(spec.function, **taken), wanted={}) if taken else spec


def _has_failed(life: PlainLife | AsyncLife) -> bool:
    return life.entered.done() and life.entered.exception() is not None


def _ended(life: PlainLife | AsyncLife) -> Future[None]:
    life.end()
    return life.ended


def _then_end(life: PlainLife, _: Future[None]) -> None:
    life.end()

"""`--reload`: while one develops handlers, each change of their source is in force for the jobs that begin after it.

The user's modules are imported anew in this process (`sickbay/handlers/reloading.py`), and the worker's handlers replaced by theirs. A new
process would be the safer way to new code, but only the whole of `sickbay up` could be one: its queues, breakers and ledger are in the
process of its worker. Each change would break off streams and open connections, hold up all jobs until the slowest running one has ended,
and with `--ephemeral` lose the jobs. So what libraries remember of the user's modules (registries, metrics) is remembered here, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from sickbay.domain.errors import SettingsError
from sickbay.domain.raised import class_name
from sickbay.handlers.registry import HandlerSpec
from sickbay.handlers.reloading import Sources, reload_handlers
from worker.choice import load_chosen, names_of
from worker.handlers import Handlers, Source
from worker.runner import Runner

SETTLED_MS: Final = 100
"""So long nothing else must change: editors and `git checkout` write several files."""
LONGEST_MS: Final = 2_000
"""A change is taken up after this time although others follow."""
FIRST_LOOK_MS: Final = 500
"""By then changes are reported; one that was made before, since the start, is found by its time."""
MAX_SHOWN: Final = 5
"""Files and job types that a line of the log names."""

log = logging.getLogger("sickbay")


class Reload:
    """Watches the source of the handlers of modules, and replaces them in a running worker. Belongs to the worker's loop."""

    def __init__(self, modules: str, since: float, *, handlers: Handlers, runner: Runner, skip: Collection[Path] = ()) -> None:
        """`modules` as in JOB_HANDLERS have been loaded after `since`, in seconds since the epoch.

        `runner` runs the handlers, and has what the lifespans of their modules give. Nothing in the folders `skip` is watched.
        """
        self._modules = modules
        self._since: float | None = since
        self._handlers = handlers
        self._runner = runner
        self._sources = Sources(sorted(names_of(modules)), skip)

    async def run(self) -> None:
        """Watch until it is cancelled."""
        try:
            await self._watch(polling=None)
        except (OSError, RuntimeError) as error:  # too many watches or instances of inotify, or a file system without
            log.warning("the system does not report changes of files (%s): --reload looks for them itself", error)
            await self._watch(polling=True)

    async def reload(self, changed: Collection[Path]) -> bool:
        """Load the handlers anew and replace them; False if they cannot be loaded: then those of before go on, and the log says why.

        The lifespans of their modules are entered before, and those of the modules of before left once no run needs them.
        """
        try:
            found = await asyncio.to_thread(reload_handlers, self._sources, changed, self._load)
            await self._runner.enter_lifespans(found.values())
        except SettingsError as error:
            log.warning("not reloaded, the handlers of before go on: %s", error)
            self._runner.leave_unused(self._handlers)
            return False
        before = self._handlers.of(Source.MODULES)
        self._handlers.replace(Source.MODULES, found.values())
        self._runner.leave_unused(self._handlers)
        log.info(
            "reloaded %s, since %s changed: %s%s",
            self._modules,
            _named(changed),
            _difference(before, found),
            _still(self._runner.outdated(self._handlers)),
        )
        return True

    def _load(self) -> Mapping[str, HandlerSpec]:
        try:
            return load_chosen(self._modules)
        except Exception:
            raise
        except BaseException as error:  # a module that is being imported can raise KeyboardInterrupt or CancelledError, too
            raise SettingsError(f"JOB_HANDLERS: {self._modules} failed while it was imported: {class_name(type(error))}") from error

    async def _watch(self, *, polling: bool | None) -> None:
        from watchfiles import awatch  # noqa: PLC0415 - only who develops needs it

        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it counts changes
        log.info("--reload watches the files of Python in %s", ", ".join(map(str, self._sources.folders)))
        changes = awatch(
            *self._sources.folders,
            watch_filter=self._is_source,
            debounce=LONGEST_MS,
            step=SETTLED_MS,
            rust_timeout=FIRST_LOOK_MS,
            yield_on_timeout=True,
            force_polling=polling,
            ignore_permission_denied=True,
        )
        async for batch in changes:
            changed = {Path(path) for _, path in batch}
            if self._since is not None:
                changed |= self._sources.changed_since(self._since)
                self._since = None  # from now on none is missed
            if changed:
                await self.reload(changed)

    def _is_source(self, _: Any, path: str) -> bool:
        return path.endswith(".py") and self._sources.have(Path(path))


def _named(changed: Collection[Path]) -> str:
    here = Path.cwd()
    names = sorted(str(path.relative_to(here)) if path.is_relative_to(here) else str(path) for path in changed)
    return _some(names)


def _still(count: int) -> str:
    """What is added to the line of the log if so many runs go on with handlers of before."""
    if not count:
        return ""
    return "; 1 job still runs with the code of before" if count == 1 else f"; {count:,} jobs still run with the code of before"


def _difference(before: Collection[str], now: Collection[str]) -> str:
    new, gone = sorted(set(now) - set(before)), sorted(set(before) - set(now))
    parts = [f"{word}: {_some(names)}" for word, names in (("new", new), ("gone", gone)) if names]
    handlers = "1 handler" if len(now) == 1 else f"{len(now):,} handlers"
    return f"{handlers} ({'; '.join(parts)})" if parts else handlers


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN:,} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more

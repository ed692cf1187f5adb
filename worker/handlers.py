"""The handlers of a worker by job type, which may change while it runs.

They come from several sources: the modules that JOB_HANDLERS names, the settings file, and programs that are connected. Each source is
replaced as a whole. A run goes on with the handler it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Any

from sickbay.handlers.registry import HandlerSpec


class Source(IntEnum):
    """Where handlers come from; of two that handle one type, the later source wins: operators change the file at night."""

    PROGRAMS = 1
    MODULES = 2
    SETTINGS_FILE = 3


class Handlers(Mapping[str, HandlerSpec]):
    """One per worker, on its loop."""

    def __init__(self, modules: Mapping[str, HandlerSpec]) -> None:
        """Begin with the handlers of modules."""
        self._sources: dict[Source, Mapping[str, HandlerSpec]] = {Source.MODULES: dict(modules)}
        self._specs: Mapping[str, HandlerSpec] = dict(modules)
        self._listeners: list[Callable[[], None]] = []

    def __getitem__(self, job_type: str) -> HandlerSpec:
        """The handler in force; KeyError if there is none."""
        return self._specs[job_type]

    def __iter__(self) -> Iterator[str]:
        """The job types that have a handler."""
        return iter(self._specs)

    def __len__(self) -> int:
        """How many job types have a handler."""
        return len(self._specs)

    def get(self, job_type: str, default: Any = None) -> Any:
        """The handler in force, or `default`; asked for each job."""
        return self._specs.get(job_type, default)

    def of(self, source: Source) -> Mapping[str, HandlerSpec]:
        """What a source has given, also where another one wins."""
        return self._sources.get(source, {})

    def source_of(self, job_type: str) -> Source | None:
        """The source whose handler is in force; None if there is no handler."""
        return max((source for source, specs in self._sources.items() if job_type in specs), default=None)

    def replace(self, source: Source, specs: Iterable[HandlerSpec]) -> bool:
        """Replace all handlers of a source; returns whether others are in force now. Then the listeners have been called."""
        self._sources[source] = {spec.job_type: spec for spec in specs}
        before = self._specs
        self._specs = {name: spec for source in Source for name, spec in self.of(source).items()}
        if before == self._specs:
            return False
        for listener in self._listeners:
            listener()
        return True

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call it whenever other handlers are in force."""
        self._listeners.append(listener)

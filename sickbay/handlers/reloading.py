"""Loads handlers anew from source while the process runs: the user's modules are forgotten, and imported as at the start.

Not `importlib.reload`, which executes a module's new text in its old namespace: what was removed stays, and a run that has begun would go
on in new code. Here the new modules are other objects. A run keeps the functions, and by these the globals, that it began with.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from sickbay.handlers.loading import HERE
from sickbay.handlers.registry import HandlerSpec

OURS: Final = frozenset({"sickbay", "jobapi", "worker", "controlplane", "sickbay_cli"})
"""Our own packages are never loaded anew, also if the current folder is that of our source. A user's module of such a name is in HERE."""
OTHERS: Final = frozenset({"site-packages", "dist-packages", "node_modules", "__pycache__"})
"""Folders with what others wrote, or a program did; those whose names begin with a dot are neither the user's source."""

Load = Callable[[], Mapping[str, HandlerSpec]]


class Sources:
    """The files of which handlers are made: the current folder, and those of the handlers' modules that are elsewhere."""

    def __init__(self, modules: Sequence[str], skip: Collection[Path] = ()) -> None:
        """`modules` have been loaded. Of the folders `skip` nothing is looked at, as of environments of Python."""
        here = Path.cwd().resolve()
        self.folders: Sequence[Path] = [here, *_elsewhere(modules, here)]
        environments = [Path(prefix).resolve() for prefix in {sys.prefix, sys.base_prefix}]
        inside = [one for one in environments if any(folder in one.parents for folder in self.folders)]
        self._skip = [*(one.resolve() for one in skip), *inside]

    def have(self, path: Path) -> bool:
        """Whether it is a file of Python, or a folder, that the user may edit."""
        return any(path.is_relative_to(folder) and self._is_own(path, folder) for folder in self.folders)

    def modules(self) -> Mapping[str, ModuleType]:
        """Those that are loaded from here."""
        return {name: module for name, module in list(sys.modules.items()) if self._has_module(name, module)}

    def changed_since(self, time: float) -> set[Path]:
        """The files of loaded modules that have been written after a time, in seconds since the epoch."""
        files = {place for module in self.modules().values() for place in _places(module) if place.suffix == ".py"}
        return {file for file in files if _written(file) > time}

    def _is_own(self, path: Path, folder: Path) -> bool:
        parts = path.relative_to(folder).parts
        named = not any(part.startswith(".") or part in OTHERS for part in parts)
        return named and not any(path.is_relative_to(other) for other in self._skip)

    def _has_module(self, name: str, module: ModuleType) -> bool:
        if name == "__main__" or name.partition(".")[0] in OURS:
            return False
        return any(self.have(place) for place in _places(module))


def reload_handlers(sources: Sources, changed: Collection[Path], load: Load) -> Mapping[str, HandlerSpec]:
    """The handlers of the modules as they are written now, by `load`. If it raises, everything is as before.

    `changed` are the files that have changed. Meanwhile other threads that import one of these modules get the new one.
    """
    before = sources.modules()
    for path in {*changed, *_through_links(before.values(), changed)}:
        _forget_bytecode(path)
    _forget(before)
    importlib.invalidate_caches()  # of folders: a file that was made in this second may be missing there
    try:
        return load()
    except BaseException:
        _forget(sources.modules())
        sys.modules.update(before)
        raise


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _forget(names: Collection[str]) -> None:
    for name in names:
        sys.modules.pop(name, None)


def _forget_bytecode(path: Path) -> None:
    """Python compares size and time of a file in whole seconds: two edits within one would be one."""
    with contextlib.suppress(OSError, NotImplementedError):
        Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)


def _elsewhere(modules: Sequence[str], here: Path) -> Iterator[Path]:
    """The folders of modules outside of the current one, but not of what is installed."""
    for name in modules:
        top = name.partition(".")[0]
        module = sys.modules.get(f"{HERE}.{top}") or (None if top in OURS else sys.modules.get(top))
        if module is None:
            continue
        for place in _places(module):
            folder = place if place.is_dir() else place.parent
            if not folder.is_relative_to(here) and not OTHERS & set(folder.parts):
                yield folder


def _places(module: ModuleType) -> Iterator[Path]:
    """Its file, or the folders of a package without one; of a symbolic link also what it leads to."""
    with contextlib.suppress(Exception):  # anything can be in sys.modules
        file = getattr(module, "__file__", None)
        found = [Path(one).absolute() for one in ([file] if isinstance(file, str) else map(str, getattr(module, "__path__", ())))]
        yield from dict.fromkeys([*found, *(one.resolve() for one in found)])


def _through_links(modules: Iterable[ModuleType], changed: Collection[Path]) -> Iterator[Path]:
    """The files of modules that lead to one that has changed: their bytecode is beside the link."""
    for module in modules:
        places = list(_places(module))
        if any(place in changed for place in places):
            yield from places

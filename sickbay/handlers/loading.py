"""Loads the modules that JOB_HANDLERS names. Modules in the current folder come first.

A module there whose name is taken (by the standard library, an installed package or Sickbay itself) is loaded in a package
`handlers_here`; the imports of other modules do not change.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Final

from sickbay.domain.errors import SettingsError
from sickbay.domain.raised import class_name, text_of
from sickbay.domain.schedule import ScheduleKey
from sickbay.handlers.registry import MARK, HandlerMistake, HandlerSpec, marks_of

HERE: Final = "handlers_here"
"""The package for modules of the current folder whose names are taken."""


def load_handlers(modules: str | Sequence[str], *, ours: Collection[str] = ()) -> Mapping[str, HandlerSpec]:
    """Import the modules (comma separated, or a list) and return their handlers by job type.

    `ours` are modules that are never looked for in the current folder. Raises SettingsError, which says where and what to do, if a
    module cannot be imported, has no handler or a wrong one, or if two handle one type.
    """
    names = [name.strip() for name in modules.split(",")] if isinstance(modules, str) else list(modules)
    _add_current_folder()
    found: dict[str, HandlerSpec] = {}
    for name in filter(None, names):
        for spec in _specs(_import(name, ours), name):
            other = found.get(spec.job_type)
            if other is not None and other.function is not spec.function:
                places = f"at {_relative(other.place)} and at {_relative(spec.place)}"
                raise SettingsError(f"JOB_HANDLERS: two functions handle {spec.job_type!r}, {places}; keep one of them")
            found[spec.job_type] = spec
    _check_schedules(found.values())
    if not found:
        raise SettingsError("JOB_HANDLERS names no module with a function marked @handler(...)")
    return found


def _check_schedules(specs: Iterable[HandlerSpec]) -> None:
    """Raise if two handlers have schedules of one name."""
    owners: dict[ScheduleKey, HandlerSpec] = {}
    for spec in specs:
        for one in spec.schedules:
            other = owners.setdefault(one.key, spec)
            if other is not spec:
                raise SettingsError(
                    f"JOB_HANDLERS: two schedules are called {one.key.schedule_id!r}, at {_relative(other.place)} and at "
                    f"{_relative(spec.place)}; give one of them another schedule_id"
                )


def load_module(name: str) -> ModuleType:
    """Import one module as `load_handlers` does, with the same errors; what is in it is not looked at."""
    _add_current_folder()
    return _import(name, ())


def _add_current_folder() -> None:
    try:
        here = str(Path.cwd())
    except OSError as error:
        raise SettingsError("the current folder is gone: change to one that exists, and start again") from error
    if here not in sys.path:
        sys.path.append(here)


def _specs(module: ModuleType, name: str) -> Sequence[HandlerSpec]:
    """The handlers marked in the module, and those imported from others."""
    marked = [spec for spec in vars(module).get(MARK, ()) if isinstance(spec, HandlerSpec)]
    for spec in marked:
        _check_reachable(spec, module)
    imported = [spec for value in vars(module).values() for spec in marks_of(value)]
    specs = [*marked, *(spec for spec in imported if all(spec is not one for one in marked))]
    if not specs:
        raise SettingsError(f"JOB_HANDLERS: module {name!r} has no function marked @handler(...)")
    return specs


def _check_reachable(spec: HandlerSpec, module: ModuleType) -> None:
    """Raise if the handler's name was rebound: by a later function, or by a decorator above `@handler`."""
    function = spec.function
    if (
        not isinstance(function, FunctionType)
        or function.__globals__ is not vars(module)
        or not function.__code__.co_qualname.isidentifier()
    ):
        return  # it has no name here: from another module, or defined inside a function
    name = function.__code__.co_name  # as written; decorators may change `__qualname__`
    now = vars(module).get(name, function)
    if now is not function:
        line = getattr(getattr(now, "__code__", None), "co_firstlineno", 0)
        where = f" (line {line})" if line else ""
        raise SettingsError(
            f"JOB_HANDLERS: {_relative(spec.place)}: the handler of {spec.job_type!r} is hidden, since {name!r} means something else"
            f"{where} at the module's end; give each function a name of its own, and put @handler(...) above all other decorators"
        )


def _import(name: str, ours: Collection[str]) -> ModuleType:
    _check_name(name)
    try:
        if name not in ours and _is_here(name) and _is_taken(name.partition(".")[0]):
            return _import_in_package(name)
        return importlib.import_module(name)
    except HandlerMistake as error:
        raise SettingsError(f"JOB_HANDLERS: {_place(error, name)}: {text_of(error)}") from error
    except ModuleNotFoundError as error:
        missing = (error.name or name).removeprefix(f"{HERE}.")
        if name == missing or name.startswith(f"{missing}."):
            raise SettingsError(f"JOB_HANDLERS: there is no module {name!r} in the current folder or among the installed ones") from error
        raise SettingsError(f"JOB_HANDLERS: {_place(error, name)}: module {name!r} needs {missing!r}, which is not installed") from error
    except (Exception, SystemExit) as error:
        raise SettingsError(
            f"JOB_HANDLERS: {_place(error, name)}: module {name!r} failed while it was imported: {_describe(error)}"
        ) from error


def _check_name(name: str) -> None:
    if all(part.isidentifier() for part in name.split(".")) and not name.endswith(".py"):
        return
    path = Path(name)
    if path.suffix == ".py" or len(path.parts) > 1:
        module = ".".join(path.with_suffix("").parts).strip("./")
        raise SettingsError(
            f"JOB_HANDLERS names modules, not files: write {module} instead of {name}, and start in the folder that it begins in"
        )
    raise SettingsError(
        f"JOB_HANDLERS: {name!r} cannot be the name of a module; call the file {''.join(c if c.isalnum() else '_' for c in name)}.py"
    )


def _is_here(name: str) -> bool:
    path = Path.cwd().joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _is_taken(top: str) -> bool:
    """Whether `import top` finds something outside the current folder."""
    here = Path.cwd().resolve()
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a module without a spec
        return True
    if spec is None:
        return False
    places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
    own = {here / top, here / f"{top}.py"}
    return not any(path in own or here / top in path.parents for path in (Path(place).resolve() for place in places))


def _import_in_package(name: str) -> ModuleType:
    top = name.partition(".")[0]
    if top == "sickbay":
        raise SettingsError(
            f"JOB_HANDLERS: a module of yours cannot be called {top!r}, or it could not say `from sickbay import handler`; rename it"
        )
    package = ModuleType(HERE)
    package.__path__ = [str(Path.cwd())]
    sys.modules[HERE] = package
    own_names = (Path.cwd() / top).is_dir() and top not in sys.stdlib_module_names
    with _aliased(top) if own_names else contextlib.nullcontext():
        return importlib.import_module(f"{HERE}.{name}")


@contextlib.contextmanager
def _aliased(top: str) -> Iterator[None]:
    """While a package is imported, its modules find each other by their usual names, too, although these are taken."""
    others = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == top}
    for name in others:
        del sys.modules[name]
    finder = _AliasFinder(top)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == top]:
            del sys.modules[name]
        sys.modules.update(others)


class _AliasFinder(MetaPathFinder):
    """Finds `top...` at `handlers_here.top...`."""

    def __init__(self, top: str) -> None:
        self._top = top

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002 - its signature
        """See `MetaPathFinder`."""
        return ModuleSpec(fullname, _AliasLoader(fullname)) if fullname.partition(".")[0] == self._top else None


class _AliasLoader(Loader):
    """Returns the module of this name in `handlers_here`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002 - its signature
        """See `Loader`."""
        module = importlib.import_module(f"{HERE}.{self._name}")
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Already executed; only restores its spec."""
        module.__spec__ = self._spec


def _place(error: BaseException, name: str) -> str:
    """File and line of the user's code at which an import failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename)}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    here = str(Path.cwd())
    own = [frame for frame in frames if frame.filename.startswith(here) and "site-packages" not in frame.filename] or frames
    return f"{_relative(own[-1].filename)}:{own[-1].lineno}" if own else name


def _is_machinery(file: str) -> bool:
    return file.startswith("<frozen") or Path(file).is_relative_to(Path(__file__).parent) or Path(file).parent.name == "importlib"


def _relative(place: str) -> str:
    """The path relative to the current folder."""
    return place.removeprefix(f"{Path.cwd()}/")


def _describe(error: BaseException) -> str:
    text = " ".join(text_of(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{class_name(type(error))}: {text}" if text else class_name(type(error))

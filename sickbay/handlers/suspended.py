"""Where a suspended task waits: its frames, and the tasks that it awaits.

asyncio has no API for that before Python 3.14, so it is read from the internals of tasks, groups and `gather`. Nothing here raises: what
cannot be read is not followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FrameType, FunctionType
from typing import Any, Final

from sickbay.domain.raised import attribute, is_a

MAX_FRAMES: Final = 100_000
MAX_LOOKED_AT: Final = 1_000
"""The most tasks of a group, or callbacks of a future, that are looked at."""
_NEAR: Final = 4
"""How many of the innermost frames are searched for the one that holds the tasks."""
_HOLDERS: Final = ("_tasks", "_todo")
"""The attributes with a group's tasks: of asyncio's TaskGroup, of anyio's, and of `asyncio.as_completed` since Python 3.13."""
_LOCALS: Final[dict[CodeType, str]] = {
    function.__code__: name
    for function, name in ((attribute(asyncio.tasks, "_wait"), "fs"), (attribute(asyncio.tasks, "wait_for"), "fut"))
    if isinstance(function, FunctionType)
}
"""The local variable in which a function of asyncio keeps the tasks that it awaits."""


def frames_of(task: object) -> Iterator[FrameType]:
    """The frames of a suspended task, from the outermost to the innermost."""
    begin: Any = attribute(task, "get_coro")
    coroutine = begin() if begin is not None else None
    for _ in range(MAX_FRAMES):
        for prefix, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = attribute(coroutine, f"{prefix}_frame")
            if is_a(frame, FrameType):
                yield frame
                coroutine = attribute(coroutine, inner)
                break
        else:
            return


def awaited_by(task: object, frames: Sequence[FrameType]) -> list[object]:
    """The tasks, or futures, that a task with these frames awaits; none if it waits for something else."""
    try:
        future = attribute(task, "_fut_waiter") if attribute(task, "get_coro") is not None else task
        return [one for one in _find_awaited(future, frames) if is_a(one, asyncio.Future) and one is not task and not _done(one)]
    except BaseException:  # noqa: BLE001 - may run the user's code
        return []


_done: Final[Any] = asyncio.Future.done


def _find_awaited(future: object, frames: Sequence[FrameType]) -> Iterable[object]:
    if future is None or attribute(future, "get_coro") is not None:
        return [future]
    gathered = attribute(future, "_children")
    if is_a(gathered, list):
        return _first(gathered)
    for frame in frames[: -_NEAR - 1 : -1]:
        held = _held(frame)
        if held:
            return held
    return _shielded(future)


def _held(frame: FrameType) -> Iterable[object]:
    name = _LOCALS.get(frame.f_code)
    if name is not None:
        held = frame.f_locals.get(name)
        return _first(held) if is_a(held, set) or is_a(held, list) else [held]
    if "self" in frame.f_code.co_varnames[:1]:
        owner = frame.f_locals.get("self")
        for holder in _HOLDERS:
            held = attribute(owner, holder)
            if is_a(held, set):
                return _first(held)
    return ()


def _shielded(future: object) -> Iterable[object]:
    """A future of `asyncio.shield` has a callback that knows the task inside."""
    callbacks = attribute(future, "_callbacks")
    for callback, *_ in _first(callbacks) if is_a(callbacks, list) else ():
        if attribute(callback, "__module__") == "asyncio.tasks":
            yield from (cell.cell_contents for cell in attribute(callback, "__closure__") or ())


def _first(many: Any) -> list[Any]:
    return [one for one, _ in zip(list(many), range(MAX_LOOKED_AT), strict=False)]

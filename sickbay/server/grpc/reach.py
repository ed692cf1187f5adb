"""The context of a call whose message is still incomplete: grpc.aio creates one for the handler only when the message is complete.

Cancelling the call's task alone would leave the call open inside core, together with the bytes received. The state of the call is reachable
from the coroutine of its task, one or two references away; if a newer grpcio has it elsewhere, there is no context, and the call stays open
until its client or its connection ends.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any, Final

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no types

_STEPS: Final = 4


def context_of(task: asyncio.Task[Any]) -> Any:
    """A context for the call that this task serves; None if it cannot be found. Slow, so only for calls that are to be aborted."""
    return _context(_state(task.get_coro()), task)


def context_of_call(task: asyncio.Task[Any]) -> Any:
    """A context for the call that this task begins to serve; None if it cannot be found. Fast, since every call pays for it.

    Not for a task that has ended: core has freed its call then.
    """
    for one in gc.get_referents(*gc.get_referents(task.get_coro())):
        if type(one).__name__ == "RPCState":
            return _context(one, task)
    return None


def _context(state: Any, task: asyncio.Task[Any]) -> Any:
    make = getattr(cygrpc, "_ServicerContext", None)
    if state is None or make is None:
        return None
    try:
        return make(state, None, None, task.get_loop())
    except TypeError:
        return None


def _state(root: Any) -> Any:
    objects: list[Any] = [root]
    for _ in range(_STEPS):
        objects = [one for holder in objects for one in gc.get_referents(holder) if type(one).__module__ != "builtins"]
        found = next((one for one in objects if type(one).__name__ == "RPCState"), None)
        if found is not None:
            return found
    return None

"""The caller of a call, as servicers see it: `caller_of(context)`.

The interceptor gives servicers a context with the caller; without access control everybody is `ANYBODY`. Over REST the middleware finds the
principal, and the context of the in-process call takes it from there: nothing that a client can send has any part in it.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from sickbay.domain.access import ANYBODY, Principal
from sickbay.ports.access import Credentials


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal, and the credentials by which it was found."""

    principal: Principal
    credentials: Credentials


NOBODY: Final = Caller(ANYBODY, Credentials())
REST_CALLER: Final[ContextVar[Caller | None]] = ContextVar("rest_caller", default=None)
"""The caller of the HTTP request that this task serves; set by the middleware alone."""


class CallContext:
    """A context of grpc with the caller; everything else is the context's."""

    __slots__ = ("_inner", "caller")

    def __init__(self, inner: Any, caller: Caller) -> None:
        self._inner, self.caller = inner, caller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def caller_of(context: Any) -> Caller:
    """Who makes this call."""
    return getattr(context, "caller", None) or NOBODY  # a context of a call in process has None while access control is off


def principal_of(context: Any) -> Principal:
    """The principal that makes this call."""
    return caller_of(context).principal

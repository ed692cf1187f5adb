"""The middleware of access control for HTTP: nothing but health is answered without a principal, not even that a path does not exist.

It finds the principal, and the call in process that a route makes has it (`caller.py`): the interceptor decides about RPCs, as over gRPC.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from sickbay.contract.access import HEALTH_PATHS, METRICS, METRICS_PATH
from sickbay.domain.access import Kind, Principal, Role
from sickbay.domain.errors import SickbayError, Unauthenticated
from sickbay.ports.access import Credentials
from sickbay.server.access.caller import REST_CALLER, Caller
from sickbay.server.access.control import Access, Exempt
from sickbay.server.access.interceptor import parse_authorization
from sickbay.server.errors import fault_of
from sickbay.server.peers import normalize
from sickbay.server.rest.docs import ASSETS
from sickbay.server.rest.errors import fault_response
from sickbay.server.tls import CERTIFICATE

_ACCESS: Final = "access"
_DOCS: Final = ("/", "/docs", "/openapi.json")

STRANGER: Final = Caller(Principal("", frozenset({Role.VIEW}), frozenset(), Kind.NOBODY), Credentials())
"""Who reads what is open to everybody; the metrics of the control plane in JSON are an RPC."""


def control_access(app: Any, access: Access) -> None:
    """Decide about the requests to this application."""
    setattr(app.state, _ACCESS, access)


class AccessGuard:
    """The middleware; it does nothing until `control_access`."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` is the application to protect."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on with its caller."""
        access: Access | None = getattr(scope["app"].state, _ACCESS, None) if scope["type"] == "http" else None
        if access is None:
            await self._app(scope, receive, send)
            return
        try:
            caller = STRANGER if _is_open(access, scope["path"]) else await _caller(access, scope)
        except SickbayError as error:
            response = fault_response(fault_of(error))
            if isinstance(error, Unauthenticated):
                response.headers["www-authenticate"] = "Bearer"
            await response(scope, receive, send)
            return
        mine = REST_CALLER.set(caller)
        try:
            await self._app(scope, receive, send)
        finally:
            REST_CALLER.reset(mine)


def _is_open(access: Access, path: str) -> bool:
    if path in HEALTH_PATHS:
        return True
    if path == METRICS_PATH:
        return Exempt.METRICS in access.exempt
    return Exempt.DOCS in access.exempt and (path in _DOCS or path.startswith(f"{ASSETS}/"))


async def _caller(access: Access, scope: Scope) -> Caller:
    """Unauthenticated, or PermissionDenied for metrics: RPCs are decided about by the interceptor."""
    method, credentials, principal = f"{scope['method']} {scope['path']}", Credentials(peer=_peer(scope)), None
    try:
        bearer = parse_authorization([value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"])
        credentials = Credentials(bearer, tuple(scope.get("extensions", {}).get(CERTIFICATE, ())), credentials.peer)
        principal = await access.identify(credentials)
        if scope["path"] == METRICS_PATH:
            access.check(principal, METRICS)
    except SickbayError as error:
        access.refused(method, credentials, principal, error)
        raise
    return Caller(principal, credentials)


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return normalize(client[0]) if client else ""

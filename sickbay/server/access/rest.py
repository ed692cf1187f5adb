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
from sickbay.server.access.caller import REST_CALLER, REST_PEER, Caller
from sickbay.server.access.control import Access, Exempt
from sickbay.server.access.interceptor import parse_authorization
from sickbay.server.errors import fault_of
from sickbay.server.peers import normalize
from sickbay.server.rest.docs import ASSETS
from sickbay.server.rest.errors import fault_response
from sickbay.server.tls import CERTIFICATE

_ACCESS: Final = "access"
_POLICY_VIOLATION: Final = 1008
_DOCS: Final = ("/", "/docs", "/openapi.json")

STRANGER: Final = Caller(Principal("", frozenset(), frozenset(), Kind.NOBODY), Credentials())
"""Who reads what is open to everybody."""
SCRAPER: Final = Caller(Principal("", frozenset({Role.VIEW}), None, Kind.NOBODY), Credentials())
"""Who reads metrics while they are open to everybody: those of the control plane in JSON are an RPC, and concern all tenants."""


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
        access: Access | None = None if scope["type"] == "lifespan" else access_of(scope["app"])
        if access is None:
            client = scope.get("client")
            peer = REST_PEER.set(client[0] if client else "")
            try:
                await self._app(scope, receive, send)
            finally:
                REST_PEER.reset(peer)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        try:
            caller = _stranger(scope["path"]) if _is_open(access, scope["path"]) else await _caller(access, scope)
        except SickbayError as error:
            response = fault_response(fault_of(error))
            if isinstance(error, Unauthenticated) and all(name != b"authorization" for name, _ in scope["headers"]):
                response.headers["www-authenticate"] = "Bearer"  # RFC 6750, section 3.1: no error if nothing was sent
            await response(scope, receive, send)
            return
        mine = REST_CALLER.set(caller)
        try:
            await self._app(scope, receive, send)
        finally:
            REST_CALLER.reset(mine)


def access_of(app: Any) -> Access | None:
    """What decides about the requests to this application; None if nothing does."""
    found: Access | None = getattr(app.state, _ACCESS, None)
    return found


def _stranger(path: str) -> Caller:
    return SCRAPER if path == METRICS_PATH else STRANGER


def _is_open(access: Access, path: str) -> bool:
    if path in HEALTH_PATHS:
        return True
    if path == METRICS_PATH:
        return Exempt.METRICS in access.exempt
    return Exempt.DOCS in access.exempt and (path in _DOCS or path.startswith(f"{ASSETS}/"))


async def _caller(access: Access, scope: Scope) -> Caller:
    """Unauthenticated, or PermissionDenied for metrics: RPCs are decided about by the interceptor."""
    method, peer = f"{scope['method']} {scope['path']}", _peer(scope)
    try:
        bearer = parse_authorization([value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"])
    except SickbayError as error:
        raise access.failed(method, Credentials(peer=peer), error) from None
    certificate = () if bearer else tuple((scope.get("extensions") or {}).get(CERTIFICATE, ()))
    credentials = Credentials(bearer, certificate, peer)
    principal = await access.admit(method, credentials)
    if scope["path"] == METRICS_PATH:
        try:
            access.check(principal, METRICS, METRICS_PATH)
        except SickbayError as error:
            access.refused(method, credentials, principal, error)
            raise
    return Caller(principal, credentials)


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return normalize(client[0]) if client else ""

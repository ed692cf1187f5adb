"""The REST gateway of a service, generated from its contract: every RPC with a `google.api.http` option has a route.

    gateway = Gateway(app)
    gateway.add(job_service_pb2.DESCRIPTOR.services_by_name["JobService"], stub)

The exceptions for messages are in `views.py`, those for an RPC in the `RouteOptions` that the service's `rest.py` passes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from inspect import Parameter, Signature, getdoc
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from fastapi.routing import APIRoute
from google.protobuf.descriptor import ServiceDescriptor
from starlette.routing import BaseRoute

from sickbay.server.access.rest import access_of
from sickbay.server.rest.app import json_response
from sickbay.server.rest.openapi import protect, streams
from sickbay.server.rest.sse import Event, event_stream, relay
from sickbay.server.rest.transcoding.comments import comment
from sickbay.server.rest.transcoding.documents import Documents, statuses
from sickbay.server.rest.transcoding.requests import RequestReader
from sickbay.server.rest.transcoding.routes import Route, routes_of
from sickbay.server.rest.views import SHAPES, render

_REQUEST: Final = "_request"
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
Endpoint = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """How the route of one RPC differs from the contract."""

    status: int = 200
    headers: Callable[[Any], Mapping[str, str]] | None = None
    """Creates headers of the response from the reply."""
    alternative: Callable[[Request, Any], Awaitable[Response | None]] | None = None
    """May return another response to the request message, for example because `Accept` names another format; None for the usual one."""
    handle: Callable[[Request], Awaitable[Response]] | None = None
    """Handles the whole request."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of request fields that are omitted or 0."""
    lenient: bool = False
    """Ignore unknown parameters in the query of a list."""
    responses: Mapping[int | str, Mapping[str, Any]] = field(default_factory=dict)
    """Additional documented responses."""
    example: Any = None
    """Example of a body."""


DEFAULT_OPTIONS: Final = RouteOptions()


class Gateway:
    """Adds the routes of services to an application."""

    def __init__(self, app: FastAPI) -> None:
        """`app` is one of `create_app`."""
        self._app = app
        self._documents = Documents(SHAPES)
        self._documented: dict[str, Callable[[], APIRoute]] = {}
        setattr(app, "openapi", self._openapi)  # noqa: B010 - the documented way in FastAPI

    def add(self, service: ServiceDescriptor, stub: Any, options: Mapping[str, RouteOptions] | None = None) -> None:
        """Add a route for each RPC; its operation id is the RPC's name, and so are the keys of `options`."""
        for route in routes_of(service):
            self._add(route, stub, (options or {}).get(route.rpc.name, DEFAULT_OPTIONS))

    def _add(self, route: Route, stub: Any, options: RouteOptions) -> None:
        reader = RequestReader(route, SHAPES, lenient=options.lenient)
        answer = _stream(route, stub) if route.rpc.server_streaming else _unary(route, stub, options)
        endpoint = _custom_endpoint(options) if options.handle else _endpoint(reader, options, answer)
        parameters = [Parameter(_REQUEST, Parameter.KEYWORD_ONLY, annotation=Request), *reader.parameters]
        setattr(endpoint, "__signature__", Signature(parameters, return_annotation=Response))  # noqa: B010 - read by FastAPI
        usual: dict[str, Any] = {
            "methods": [route.verb],
            "operation_id": route.operation_id,
            "name": route.rpc.name,
            "status_code": options.status,
            "response_class": Response,
            "response_model": None,
        }
        self._app.add_api_route(route.path, endpoint, **usual)
        served = partial(APIRoute, route.path, endpoint, **usual)
        self._documented[route.operation_id] = lambda: self._document(route, reader, options, served)

    def _document(self, route: Route, reader: RequestReader, options: RouteOptions, served: Callable[..., APIRoute]) -> APIRoute:
        """The route with its documentation, which takes as long to create as everything else about the route."""
        return served(
            summary=_HUMP.sub(" ", route.rpc.name).capitalize(),
            description=_description(route, options),
            responses=self._responses(route, reader, options),
            openapi_extra=self._documents.body(route, reader.fields, options.example),
            tags=[route.path.split("/")[1].partition(":")[0]],
        )

    def _responses(self, route: Route, reader: RequestReader, options: RouteOptions) -> dict[int | str, dict[str, Any]]:
        reply = route.rpc.output_type
        if route.rpc.server_streaming:
            response = streams(f"Events `{render.event(reply)[0]}`: {comment(reply)}")[200]
        else:
            content = {"application/json": {"schema": self._documents.response_schema(reply, route.response_body)}}
            response = {"description": comment(reply) or "OK", "content": content}
        found: dict[int | str, dict[str, Any]] = {options.status: response, **statuses(route, reader.fields)}
        for status, more in options.responses.items():
            documented = found.get(status, {})
            found[status] = {**documented, **more, "content": {**documented.get("content", {}), **more.get("content", {})}}
        return found

    def _openapi(self) -> dict[str, Any]:
        """The application's OpenAPI document, with the schemas of its messages; created when it is first asked for."""
        app = self._app
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=[self._with_documentation(route) for route in app.routes],
                separate_input_output_schemas=app.separate_input_output_schemas,
            )
            known = document.setdefault("components", {}).setdefault("schemas", {})
            known.update({name: schema for name, schema in self._documents.components.items() if name not in known})
            app.openapi_schema = protect(document, required=access_of(app) is not None)
        return app.openapi_schema

    def _with_documentation(self, route: BaseRoute) -> BaseRoute:
        create = self._documented.get(getattr(route, "operation_id", None) or "")
        return create() if create else route


def _description(route: Route, options: RouteOptions) -> str:
    """The RPC's comment, and the docstring of the alternative response."""
    return "\n\n".join(filter(None, (comment(route.rpc), getdoc(options.alternative) if options.alternative else "")))


def _endpoint(reader: RequestReader, options: RouteOptions, answer: Callable[[Request, Any], Awaitable[Response]]) -> Endpoint:
    async def endpoint(**given: Any) -> Response:
        request: Request = given[_REQUEST]
        message: Any = await reader.message(request, given)
        for name, value in options.defaults.items():
            if not getattr(message, name):
                setattr(message, name, value)
        other = await options.alternative(request, message) if options.alternative else None
        return other or await answer(request, message)

    return endpoint


def _custom_endpoint(options: RouteOptions) -> Endpoint:
    handle: Any = options.handle

    async def endpoint(**given: Any) -> Response:
        response: Response = await handle(given[_REQUEST])
        return response

    return endpoint


def _unary(route: Route, stub: Any, options: RouteOptions) -> Callable[[Request, Any], Awaitable[Response]]:
    name, view = route.rpc.name, render.answer(route.rpc.output_type, route.response_body)

    async def answer(_: Request, message: Any) -> Response:
        reply = await getattr(stub, name)(message)
        return json_response(view(reply), options.status, options.headers(reply) if options.headers else None)

    return answer


def _stream(route: Route, stub: Any) -> Callable[[Request, Any], Awaitable[Response]]:
    name = route.rpc.name
    subject, view = render.event(route.rpc.output_type)

    def event(reply: Any) -> Event:
        return subject, view(reply), getattr(reply, "resume_token", "")

    async def answer(request: Request, message: Any) -> Response:
        return await event_stream(request, relay(getattr(stub, name)(message), event))

    return answer

"""The routes in the `google.api.http` options of a service, in the form of FastAPI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor

from sickbay.server.rest.request_policy import SAFE
from sickbay.server.rest.transcoding.fields import JsonField

_VARIABLE: Final = re.compile(r"\{([a-z0-9_]+)(?:=\*)?\}")
IN_QUERY: Final = frozenset({"tenant"})
"""With a name in the path these qualify the name, so they are in the query even if all other fields are in the body."""
HEADERS: Final = frozenset({"request_id", "resume_token"})
"""Fields in headers: `Idempotency-Key` and `Last-Event-ID`."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of an RPC. `body` names the field in the body: `*` is all fields that are not in path, query or headers, empty is none."""

    rpc: MethodDescriptor
    verb: str
    path: str
    variables: tuple[str, ...]
    body: str = ""
    response_body: str = ""
    operation_id: str = ""

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return self.verb not in SAFE

    def place(self, field: FieldDescriptor) -> str:
        """Where a field of the request comes from: `path`, `header`, `body` or `query`."""
        if field.name in self.variables:
            return "path"
        if field.name in HEADERS:
            return "header"
        if self.body == field.name or (self.body == "*" and not (self.variables and field.name in IN_QUERY)):
            return "body"
        return "query"


def routes_of(service: ServiceDescriptor) -> list[Route]:
    """All routes; a path without variables precedes one with variables that would match it, too. ValueError for an unsupported rule."""
    found = [route for rpc in service.methods for route in _routes(rpc)]
    return sorted(found, key=lambda route: ["{" in part for part in route.path.split("/")])


def _routes(rpc: MethodDescriptor) -> list[Route]:
    options = rpc.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return []
    rule = options.Extensions[annotations_pb2.http]
    rules = [rule, *rule.additional_bindings]
    return [_route(rpc, one, rpc.name if number == 1 else f"{rpc.name}{number}") for number, one in enumerate(rules, 1)]


def _route(rpc: MethodDescriptor, rule: Any, operation_id: str) -> Route:
    verb = rule.WhichOneof("pattern")
    template = rule.custom.path if verb == "custom" else getattr(rule, verb)
    variables = tuple(_VARIABLE.findall(template))
    fields = rpc.input_type.fields_by_name
    path = _VARIABLE.sub(lambda found: f"{{{fields[found[1]].json_name}}}", template)
    if "*" in path or path.count("{") != len(variables):
        raise ValueError(f"the path {template!r} of {rpc.full_name} is not understood: only {{field}} is")
    return Route(
        rpc, (rule.custom.kind if verb == "custom" else verb).upper(), path, variables, rule.body, rule.response_body, operation_id
    )


def is_whole_body(route: Route) -> bool:
    """Whether the body has all remaining fields of the request."""
    return route.body == "*"


def in_place(route: Route, fields: Sequence[JsonField], place: str) -> list[JsonField]:
    """The fields in this place."""
    return [field for field in fields if route.place(field.proto) == place]

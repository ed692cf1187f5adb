"""What a worker announces of its job types: the schemas of typed payloads, and what their handlers say of themselves."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterable, Sequence

from sickbay.domain.job_type import MAX_DESCRIPTION_CHARS, MAX_SCHEMA_BYTES, TypeSchema
from sickbay.domain.raised import clean
from sickbay.handlers.checks import place_of
from sickbay.handlers.registry import HandlerSpec

log = logging.getLogger(__name__)


def schemas_of(handlers: Iterable[HandlerSpec]) -> Sequence[TypeSchema]:
    """The schemas of the handlers that take typed payloads; one that has none, or too large a one, is logged and left out."""
    found = (_schema_of(spec) for spec in handlers if spec.arguments.payload is not None)
    return [one for one in found if one is not None]


def _schema_of(spec: HandlerSpec) -> TypeSchema | None:
    payload = spec.arguments.payload
    assert payload is not None  # noqa: S101 - by the caller
    try:
        text = json.dumps(payload.schema(), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except Exception as error:  # noqa: BLE001 - code of the user's classes runs in there
        log.warning("the payload of %s is not described to others: %s has no JSON Schema: %s", spec.job_type, payload.name, error)
        return None
    if len(text) > MAX_SCHEMA_BYTES:
        log.warning(
            "the payload of %s is not described to others: the JSON Schema of %s has %d bytes, at most %d are announced",
            spec.job_type, payload.name, len(text), MAX_SCHEMA_BYTES,
        )  # fmt: skip
        return None
    return TypeSchema(spec.job_type, text, spec.validate == "submit", _description(spec.function), place_of(spec.function))


def _description(function: object) -> str:
    """The first line of the docstring of a function; other objects have that of their class."""
    text = inspect.getdoc(function) if inspect.isroutine(function) else ""
    return clean((text or "").strip().partition("\n")[0].strip(), MAX_DESCRIPTION_CHARS)

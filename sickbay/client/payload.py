"""Payloads as JSON text: what is sent, and what is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sickbay.client.errors import invalid
from sickbay.domain.errors import ErrorReason
from sickbay.domain.raised import class_name
from sickbay.handlers.payloads.finding import is_typed
from sickbay.handlers.payloads.naming import job_type_of
from sickbay.handlers.payloads.typing import PayloadObject
from sickbay.handlers.payloads.writing import is_payload_object, payload_of

Payload = Mapping[str, Any] | str | bytes | PayloadObject
"""A mapping, JSON text of an object, or an object of a class with fields."""


def named(job_type: str | PayloadObject, payload: Payload | None) -> tuple[str, Payload]:
    """The job type and the payload of `submit("email", {...})`, `submit("email", Email(...))` or `submit(Email(...))`.

    InvalidRequest if one is missing, or if the class of the payload belongs to another type.
    """
    if not isinstance(job_type, str):
        return _named_by_class(job_type, payload)
    if payload is None:
        raise _invalid("the payload is missing: give a mapping, {} for an empty one, or an object such as Email(...)")
    own = job_type_of(type(payload))
    if own and own != job_type:
        raise _invalid(f"{class_name(type(payload))} is a payload of the job type {own!r}, not of {job_type!r}")
    return job_type, payload


def _named_by_class(job: PayloadObject, payload: Payload | None) -> tuple[str, Payload]:
    if not is_payload_object(job):
        wanted = "an object of that class, not the class" if is_typed(job) else "its name, or an object such as Email(...)"
        raise invalid(f"the job type must be {wanted}, not {class_name(type(job))}", ErrorReason.INVALID_JOB_TYPE)
    name = class_name(type(job))
    if payload is not None:
        raise _invalid(f"there are two payloads: {name} is one, and says the job type by itself")
    if not (own := job_type_of(type(job))):
        raise invalid(
            f'{name} does not say its job type: write @job_type("...") of sickbay above the class, or give the type before the object',
            ErrorReason.INVALID_JOB_TYPE,
        )
    return own, job


def payload_text(payload: Payload) -> str:
    """JSON text of the payload: that of a mapping or an object is compact, text stays as it is (the service checks it).

    InvalidRequest otherwise.
    """
    if isinstance(payload, str):
        return payload
    if isinstance(payload, bytes):
        try:
            return payload.decode()
        except UnicodeDecodeError:
            raise _invalid("the payload is not UTF-8") from None
    if not isinstance(payload, Mapping) and not is_payload_object(payload):
        raise _invalid(f"the payload must be a mapping, or JSON text, not {type(payload).__name__}")
    try:
        content = dict(payload) if isinstance(payload, Mapping) else payload_of(payload)
        return json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _invalid(f"the payload cannot be written as JSON: {error}") from error


def read_payload(text: bytes) -> dict[str, Any]:
    """The object in this text; ValueError if it is none."""
    found = json.loads(text)
    if not isinstance(found, dict):
        msg = f"the payload is not a JSON object but {type(found).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - as for text that is no JSON
    return found


def _invalid(message: str) -> Exception:
    return invalid(message, ErrorReason.INVALID_PAYLOAD)

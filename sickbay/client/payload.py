"""Payloads as JSON text: what is sent, and what is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sickbay.client.errors import invalid
from sickbay.domain.errors import ErrorReason


def payload_text(payload: Mapping[str, Any] | str | bytes) -> str:
    """JSON text of the payload: that of a mapping is compact, text stays as it is (the service checks it). InvalidRequest otherwise."""
    if isinstance(payload, str):
        return payload
    if isinstance(payload, bytes):
        try:
            return payload.decode()
        except UnicodeDecodeError:
            raise _invalid("the payload is not UTF-8") from None
    if not isinstance(payload, Mapping):
        raise _invalid(f"the payload must be a mapping, or JSON text, not {type(payload).__name__}")
    try:
        return json.dumps(dict(payload), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
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

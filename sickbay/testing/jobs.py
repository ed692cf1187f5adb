"""Makes jobs as a handler gets them, and finds what `@handler` says about a function."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from sickbay.domain.job import DEFAULT_TENANT, Job, is_name, new_job_id
from sickbay.domain.priority import Priority
from sickbay.handlers.payloads.typing import PayloadObject
from sickbay.handlers.payloads.writing import is_payload_object, payload_of
from sickbay.handlers.registry import MARK, HandlerSpec, marks_of


def make_job(
    job_type: str,
    payload: Mapping[str, Any] | bytes | PayloadObject | None = None,
    *,
    attempt: int = 1,
    tenant: str = DEFAULT_TENANT,
    priority: Priority | str = Priority.NORMAL,
    job_id: str = "",
    generation: int = 0,
) -> Job:
    """A job as a handler gets it; `payload` is its content, also as an object (`Email(...)`), or any bytes in place of JSON text.

    `attempt` counts from 1 (`job.attempt` from 0); `generation` says how often the job was released from the quarantine. Without
    `job_id` the job gets a new one. Raises ValueError if something is invalid, TypeError if the payload is not JSON.
    """
    for what, name in (("job type", job_type), ("tenant", tenant)):
        if not is_name(name):
            raise ValueError(f"the {what} {name!r} is invalid: at most 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit")
    if attempt < 1 or generation < 0:
        raise ValueError(f"attempts are counted from 1, generations from 0; these are {attempt} and {generation}")
    now = time.time_ns() // 1_000_000
    return Job(
        job_id or new_job_id(now),
        job_type,
        payload if isinstance(payload, bytes) else _json_text({} if payload is None else payload),
        tenant,
        attempt - 1,
        generation,
        submitted_at=now,
        priority=Priority(priority),
    )


def spec_of(function: Callable[..., Any], job_type: str | None = None) -> HandlerSpec:
    """What `@handler` says about a function; `job_type` chooses, if it handles several.

    Raises TypeError if the function is no handler (of this type), or if it handles several types and none is chosen.
    """
    found = [*marks_of(function)] or _marked_in_modules(function)
    if not found:
        raise TypeError(
            f"{_name(function)} is not a handler: put @handler(...) on it, above all other decorators, and pass what that returns, "
            "not a function behind it"
        )
    chosen = [spec for spec in found if job_type in {None, spec.job_type}]
    types = ", ".join(sorted(spec.job_type for spec in found))
    if not chosen:
        raise TypeError(f"{_name(function)} does not handle the job type {job_type!r}, only {types}")
    if len(chosen) > 1:
        raise TypeError(f"{_name(function)} handles several job types: say with job_type=... which of {types}")
    return chosen[0]


def _marked_in_modules(function: object) -> list[HandlerSpec]:
    """What cannot have attributes, like a bound method, is marked in its module alone."""
    marks = [mark for module in list(sys.modules.values()) for mark in getattr(module, "__dict__", {}).get(MARK, ())]
    return [mark for mark in marks if isinstance(mark, HandlerSpec) and mark.function is function]


def _json_text(payload: Mapping[str, Any] | PayloadObject) -> bytes:
    if not isinstance(payload, Mapping) and not is_payload_object(payload):
        raise TypeError(f"a payload must be a dictionary, not {type(payload).__name__}")
    try:
        content = dict(payload) if isinstance(payload, Mapping) else payload_of(payload)
        return json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the payload cannot be written as JSON: {error}") from error


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))

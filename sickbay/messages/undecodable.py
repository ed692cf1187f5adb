"""What is kept of a message that is not a job, so that a person can read it."""

from __future__ import annotations

import base64
from typing import Final

import msgspec

from sickbay.domain.failure import Failure
from sickbay.domain.job import Job
from sickbay.domain.storable import digest, id_of, storable

MAX_KEPT_BYTES: Final = 10 * 1024 * 1024
"""How much of an undecodable message is kept; as base64 this, too, is less than 16 MiB."""
UNDECODABLE_TYPE: Final = "undecodable"
"""The job type under which an undecodable message is kept."""
_MAX_WHY_CHARS: Final = 1_000


def undecodable_job(body: bytes, message_id: str, why: str, now: int, traceback: str = "") -> Job:
    """A job with the bytes of an undecodable message, at most the first 10 MiB, for a person to read."""
    why = storable(why, _MAX_WHY_CHARS)  # a decoder's message may quote what it could not read
    payload: dict[str, object] = {"contentBase64": base64.b64encode(body[:MAX_KEPT_BYTES]).decode("ascii"), "problem": why}
    if len(body) > MAX_KEPT_BYTES:
        payload |= {"bytes": len(body), "keptBytes": MAX_KEPT_BYTES}
    failure = Failure(now, 0, 0, "UNDECODABLE", why, traceback)
    return Job(id_of(message_id) or digest(body), UNDECODABLE_TYPE, msgspec.json.encode(payload), failures=(failure,), submitted_at=now)

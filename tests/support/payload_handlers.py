"""Handlers that read their payload: one without care, one to the last number, one that hides why it failed."""

from __future__ import annotations

import datetime as dt
import json

from sickbay import Job, handler


@handler("careless")
def careless(job: Job) -> None:
    """Whatever is wrong with a payload shows here, in as many ways as Python has."""
    payload = job.payload
    for key in ("to", "count", "when", "items", "ratio", "text"):
        _ = payload[key]
    assert payload["count"] < 1_000, "too many"
    payload["to"].split("@")[1].encode("ascii")
    10 / int(payload["count"])
    dt.datetime.fromisoformat(payload["when"])
    payload["items"][payload["count"]]["name"].upper()
    json.loads(payload["text"])


@handler("careful")
async def careful(job: Job) -> None:
    """Reads all of it, and can write it again as UTF-8."""
    json.dumps(job.payload, allow_nan=False, ensure_ascii=False).encode()


@handler("secretive")
async def secretive(job: Job) -> None:
    """Makes something else of an unreadable payload, which would count."""
    try:
        _ = job.payload
    except ValueError:
        raise RuntimeError("something went wrong") from None

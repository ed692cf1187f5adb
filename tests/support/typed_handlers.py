"""Handlers that say what their payload is, in each library."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pydantic

from sickbay import Job, handler, job_type


class Item(pydantic.BaseModel):
    name: str
    price: float


@job_type("order")
class Order(pydantic.BaseModel):
    to: str
    items: list[Item] = []


@handler("order", validate="submit")
def take_order(payload: Order, job: Job) -> dict[str, object]:
    """Take an order."""
    return {"to": payload.to, "total": sum(item.price for item in payload.items), "type": job.job_type}


class Letter(msgspec.Struct):
    to: str
    pages: int = 1


@handler("letter")
async def send_letter(job: Job[Letter]) -> int:
    """Send a letter."""
    return job.payload.pages


@dataclass
class Fax:
    number: int
    lines: list[str] = field(default_factory=list)


@handler("fax")
def send_fax(payload: Fax) -> int:
    return payload.number + len(payload.lines)


@handler("plain")
def run_plain(job: Job) -> int:
    return len(job.payload)

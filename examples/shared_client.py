"""A client that all handlers share, a follow-up job, and a run that ends when its job is cancelled.

../.venv/bin/sickbay up --ephemeral --handlers shared_client
../.venv/bin/sickbay submit order '{"id": 7, "customer": "ada@example.com"}' --wait
../.venv/bin/sickbay submit export '{"pages": 1000}'     # prints an id
../.venv/bin/sickbay cancel ID
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sickbay import Job, JobError, handler, lifespan


class Shop:
    """Stands for a pool of connections or a client, which belongs to the event loop on which it was made."""

    def __init__(self) -> None:
        self.is_open = True

    async def reserve(self, order: int) -> str:
        """What a call of a service is."""
        await asyncio.sleep(0.01)
        return f"R-{order}"


@lifespan
async def shop() -> AsyncIterator[Shop]:
    """Made at the start of a worker, and closed after its last job. Handlers get it by its name."""
    one = Shop()
    print("the shop is open", flush=True)
    yield one
    one.is_open = False
    print("the shop is closed", flush=True)


@handler("order")
async def take_order(job: Job, shop: Shop) -> dict[str, str]:
    """Reserves, and has the invoice made by another job: once, however often this one runs."""
    reservation = await shop.reserve(job.payload["id"])
    invoice = await job.submit("invoice", {"order": job.payload["id"], "to": job.payload["customer"]})
    job.log.info("reserved", extra={"reservation": reservation})
    return {"reservation": reservation, "invoice": invoice}


@handler("invoice")
async def make_invoice(job: Job) -> str:
    """The follow-up."""
    return f"invoice of order {job.payload['order']} for {job.payload['to']}"


@handler("export", timeout=600, cancel_grace=30)
async def export(job: Job) -> int:
    """Looks between two pages whether somebody has cancelled its job."""
    pages = job.payload["pages"]
    for page in range(pages):
        if job.cancelled:
            raise JobError("STOPPED", f"after {page} pages")
        job.progress(page / pages, f"{page} of {pages} pages")
        await asyncio.sleep(0.1)
    return int(pages)

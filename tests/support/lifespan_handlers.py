"""Handlers that share a client, made by lifespans. Each line of `notes.txt` says what happened."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from sickbay import Job, handler, lifespan, shutdown, startup

HERE: Final = Path(__file__).parent


def note(what: str) -> None:
    """Write that down."""
    with (HERE / "notes.txt").open("a") as notes:
        notes.write(f"{what}\n")


class Client:
    """Can be used on its own loop alone, and only while it is open."""

    def __init__(self) -> None:
        """Open it."""
        self.loop = asyncio.get_running_loop()
        self.is_open = True

    async def send(self) -> int:
        """Something that takes a moment."""
        assert self.is_open
        assert self.loop is asyncio.get_running_loop()
        await asyncio.sleep(0)
        return os.getpid()


@startup
def settings() -> dict[str, str]:
    """What both kinds of handlers get."""
    if os.environ.get("TEST_FAILS"):
        raise ConnectionRefusedError("no database")
    return {"region": "eu"}


@lifespan
def folder(region: str) -> Iterator[Path]:
    """A plain one."""
    note(f"folder opened in {region}")
    yield HERE
    note("folder closed")


@lifespan
async def client() -> AsyncIterator[Client]:
    """An async one."""
    one = Client()
    note("client opened")
    yield one
    one.is_open = False
    note("client closed")


@shutdown
async def flush(client: Client) -> None:
    """Before that."""
    note(f"flushed {client.is_open}")


@handler("sending")
async def send(job: Job, client: Client, region: str) -> Any:
    """Uses the client."""
    return {"pid": await client.send(), "region": region}


@handler("writing")
def write(job: Job, folder: Path) -> str:
    """Uses the folder."""
    return str(folder)


@handler("slow", timeout=30)
async def wait(job: Job, client: Client) -> int:
    """Uses the client once more at the end of a drain."""
    note("waiting")
    while not (HERE / "release").exists():
        await asyncio.sleep(0.02)
    return await client.send()

"""A job that a handler submits while it runs: what is asked for, and the answer, to be awaited or waited for."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

MAX_REQUEST_ID_CHARS: Final = 128


@dataclass(frozen=True, slots=True)
class NewFollowUp:
    """What a handler asks for. `request_id` is the idempotency key.

    `job_type` is its name, or an object of a class that has one and is the payload; `payload` is an object, or its JSON text. It is to run
    `delay` seconds (or a timedelta) later, or at `run_at`, an aware datetime; at once if both are None.
    """

    job_type: Any
    payload: Any
    tenant: str
    priority: str
    request_id: str = ""
    delay: float | timedelta | None = None
    run_at: datetime | None = None


class FollowUp:
    """The answer: `await` it in an async handler, or call `result()` in a plain one; both return the job's id."""

    __slots__ = ("_future", "has_key", "is_seen", "job_type", "request_id")

    def __init__(self, job_type: str, request_id: str, *, has_key: bool) -> None:
        """`has_key`: its handler has given it a key."""
        self._future: Future[str] = Future()
        self.job_type = job_type
        self.request_id = request_id
        self.has_key = has_key
        self.is_seen = False
        """Whether the handler has asked how it ended."""

    def begin(self, future: Future[str]) -> None:
        """`future` has the job's id, or a SubmitError."""
        self._future = future

    def result(self, timeout: float | None = None) -> str:
        """Wait in this thread until the job is durable and return its id. Raises SubmitError, or TimeoutError after so many seconds."""
        if not self._future.done() and _in_event_loop():
            raise RuntimeError("in an async handler write `await job.submit(...)`: result() would block all others")
        self.is_seen = True
        return self._future.result(timeout)

    def __await__(self) -> Generator[Any, None, str]:
        """The same in an async handler."""
        self.is_seen = True
        return asyncio.wrap_future(self._future).__await__()

    async def wait(self) -> BaseException | None:
        """Wait until it has ended; returns why it was not accepted."""
        await asyncio.wait([asyncio.wrap_future(self._future)])
        return self._future.exception()


Submit = Callable[[NewFollowUp], Future[str]]
"""Begins to submit, in any thread. Raises SubmitError at once for what is invalid."""


def request_id_of(idempotency_key: str, name: str) -> str:
    """The idempotency key of a follow-up: the same for every run of its job in this generation."""
    text = f"follow-up.{idempotency_key}.{name}"
    if len(text) <= MAX_REQUEST_ID_CHARS and text.isascii() and text.isprintable():
        return text
    return f"follow-up.{hashlib.blake2b(text.encode('utf-8', 'replace'), digest_size=16).hexdigest()}"


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

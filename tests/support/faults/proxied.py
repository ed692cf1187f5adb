"""A proxy in a thread of its own, for tests without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.faults.proxy import Proxy


@contextmanager
def proxied(url: str) -> Iterator[tuple[str, Callable[[str], None]]]:
    """The URL of a proxy before a server, and what calls the proxy's methods in the proxy's own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(method: str) -> None:
        async def act() -> None:
            done = getattr(proxy, method)()
            if done is not None:
                await done

        asyncio.run_coroutine_threadsafe(act(), loop).result(10)

    proxy = Proxy.before(url)
    call("__aenter__")
    try:
        yield proxy.through(url), call
    finally:
        asyncio.run_coroutine_threadsafe(_end(proxy), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(proxy: Proxy) -> None:
    """With a few turns of the loop for its connections to be closed in."""
    await proxy.__aexit__()
    for _ in range(20):
        await asyncio.sleep(0.005)

"""An event between a test and its handlers, which run on a loop of their own."""

import asyncio
import threading


class Flag:
    """Like `asyncio.Event`, for any loops and threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._waiters = []
        self._set = threading.Event()

    def set(self):
        with self._lock:
            self._set.set()
            waiters, self._waiters = self._waiters, []
        for loop, future in waiters:
            loop.call_soon_threadsafe(_wake, future)

    def clear(self):
        self._set.clear()

    def is_set(self):
        return self._set.is_set()

    def wait_in_thread(self):
        return self._set.wait(30)

    async def wait(self):
        with self._lock:
            if self._set.is_set():
                return True
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            self._waiters.append((loop, future))
        return await future


def _wake(future):
    if not future.done():
        future.set_result(True)

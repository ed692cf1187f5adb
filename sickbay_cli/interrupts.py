"""What Ctrl-C does while other threads work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupt_calls(callback: Callable[[], None]) -> Iterator[None]:
    """Inside, Ctrl-C calls `callback`, which may only set a flag or put into a SimpleQueue.

    Python's own KeyboardInterrupt comes between any two steps of the main thread, also while `concurrent.futures` holds a lock that
    the other threads need: they would wait for it forever, and so would the exit of the process.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as with `nohup` and `&`
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: callback())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

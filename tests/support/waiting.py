"""A bounded poll, for facts that nothing announces."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

PATIENCE_S: Final = 60.0


def until(condition: Callable[[], Any], within_s: float = PATIENCE_S, *, pause_s: float = 0.05) -> Any:
    """Look again and again until there is something to be seen; that."""
    deadline = time.monotonic() + within_s
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"in vain for {within_s:g} s"
        time.sleep(pause_s)
    return seen

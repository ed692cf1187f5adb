"""Deletes the breakers of tenants that no job asks any more, because all tenants share the breaker of their job type.

They come from before an upgrade, or from before BREAKER_SCOPE was changed to `type`. While workers of the old kind still run beside new
ones, they use theirs, so an open one stays until nobody has probed it for a while. A hold ends at once, and a warning names it: new workers
do not heed it, and nobody should believe that it still holds.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from typing import Final

from sickbay.domain.breaker import Action, BreakerScope, BreakerState, Command, Snapshot
from sickbay.domain.errors import NotFound
from sickbay.ports import Breakers

UNUSED_MS: Final = 600_000
"""An open breaker whose probe has been due for so long has no worker that uses it: its parked jobs are released meanwhile."""

_HELD: Final = frozenset({BreakerState.FORCED_OPEN, BreakerState.DISABLED, BreakerState.METRICS_ONLY})

log = logging.getLogger(__name__)


class LeftoverBreakers:
    """One per healer; several may delete the same breaker."""

    def __init__(self, breakers: Breakers, scope: BreakerScope) -> None:
        self._breakers = breakers
        self._scope = scope

    async def retire(self, breakers: Iterable[Snapshot]) -> None:
        """Delete those among `breakers` that no job asks; closed ones expire by themselves."""
        for breaker in breakers:
            if self._scope.is_in_use(breaker.key):
                continue
            if breaker.state in _HELD:
                log.warning(
                    "%s no longer holds for the %s jobs of tenant %s%s: tenants have no breakers of their own (BREAKER_SCOPE)",
                    breaker.state, breaker.key.job_type, breaker.key.tenant, _origin(breaker),
                )  # fmt: skip
            elif breaker.state is BreakerState.OPEN and breaker.now - (breaker.probe_at or 0) >= UNUSED_MS:
                log.info("the breaker %s of an earlier version was %s and is deleted: nobody uses it", breaker.key.name, breaker.state)
            else:
                continue
            with contextlib.suppress(NotFound):
                await self._breakers.command(breaker.key, Command(Action.RESET))


def _origin(breaker: Snapshot) -> str:
    """Who began a hold, and why, as far as it is known."""
    said = ": ".join(filter(None, (f"by {breaker.forced_by}" if breaker.forced_by else "", breaker.forced_why)))
    return f" ({said})" if said else ""

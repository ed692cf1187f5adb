"""Deletes the breakers that no job asks any more, because all tenants share that of their job type, or types that of their dependency.

They come from before an upgrade, or from before BREAKER_SCOPE or the settings file was changed. While workers of the old kind still run
beside new ones, they use theirs, so an open one stays until nobody has probed it for a while. A hold means nothing to new workers, and a
warning names it: nobody should believe that it still holds. That of a tenant is deleted at once. One that the settings file has made a
leftover is deleted later, because another control plane may not have read the file yet.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Final

from sickbay.domain.breaker import Action, BreakerKey, BreakerRule, BreakerState, Command, Snapshot
from sickbay.domain.errors import NotFound
from sickbay.ports import Breakers

UNUSED_MS: Final = 600_000
"""An open breaker whose probe has been due for so long has no worker that uses it: its parked jobs are released meanwhile."""

_HELD: Final = frozenset({BreakerState.FORCED_OPEN, BreakerState.DISABLED, BreakerState.METRICS_ONLY})

log = logging.getLogger(__name__)


class LeftoverBreakers:
    """One per healer; several may delete the same breaker. Remembers since when those that are held have been leftovers."""

    def __init__(self, breakers: Breakers, scope: BreakerRule) -> None:
        self._breakers = breakers
        self._scope = scope
        self._since: dict[BreakerKey, int] = {}

    async def retire(self, breakers: Sequence[Snapshot]) -> None:
        """Delete those among `breakers`, which are all that there are, that no job asks; closed ones expire by themselves."""
        leftovers = [breaker for breaker in breakers if not self._scope.is_in_use(breaker.key)]
        self._since = {breaker.key: self._since[breaker.key] for breaker in leftovers if breaker.key in self._since}
        for breaker in leftovers:
            if breaker.state in _HELD:
                if not self._ends_hold(breaker):
                    continue
            elif breaker.state is BreakerState.OPEN and breaker.now - (breaker.probe_at or 0) >= UNUSED_MS:
                log.info("the breaker %s was %s and is deleted: no job asks it any more", breaker.key.name, breaker.state)
            else:
                continue
            with contextlib.suppress(NotFound):
                await self._breakers.command(breaker.key, Command(Action.RESET))

    def _ends_hold(self, breaker: Snapshot) -> bool:
        """Whether the hold is over; it is named once."""
        if breaker.key not in self._since:
            self._since[breaker.key] = breaker.now
            log.warning("%s no longer holds for %s", breaker.state, self._whose(breaker))
        is_of_tenant = self._scope.key_of(*breaker.key).tenant != breaker.key.tenant
        return is_of_tenant or breaker.now - self._since[breaker.key] >= UNUSED_MS

    def _whose(self, breaker: Snapshot) -> str:
        """Whose jobs a leftover decided about, who held it, and why it does not decide any more."""
        key, now = breaker.key, self._scope.key_of(*breaker.key)
        if now.tenant != key.tenant:
            return (
                f"the {key.job_type} jobs of tenant {key.tenant}{_origin(breaker)}: tenants have no breakers of their own (BREAKER_SCOPE)"
            )
        if key.dependency:
            return f"any job{_origin(breaker)}: no job type has the dependency {key.dependency} any more (settings file)"
        return f"the {key.job_type} jobs{_origin(breaker)}: they share {now.name} now (settings file)"


def _origin(breaker: Snapshot) -> str:
    """Who began a hold, and why, as far as it is known."""
    said = ": ".join(filter(None, (f"by {breaker.forced_by}" if breaker.forced_by else "", breaker.forced_why)))
    return f" ({said})" if said else ""

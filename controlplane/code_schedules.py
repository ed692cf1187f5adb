"""Keeps the schedules in the code of handlers as live workers announce them: creates those that are missing, changes those that differ.

It never deletes one, and a paused one stays paused. Of several versions of the code the one counts that was loaded last
(`sickbay/domain/code_schedule.py`). While its workers cannot be seen, for example because Redis has lost its content, older code must not
come back: it does so only when the newer one has been gone for `GONE_S`.

All control planes do this. They come to the same result, each change is one transaction, and one that waited too long for its
transaction changes nothing and looks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Final

from sickbay.concurrency.pauses import Backoff
from sickbay.contract.payload import checked_text
from sickbay.domain.code_schedule import NOTHING_KNOWN, Announced, CodeScheduleSet, InForce, announced
from sickbay.domain.code_schedule_checks import check_code_spec
from sickbay.domain.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from sickbay.domain.job import DEFAULT_TENANT
from sickbay.domain.schedule import Origin, Schedule, ScheduleKey, ScheduleQuery
from sickbay.domain.schedule_changes import new_schedule, with_spec
from sickbay.fleet import MAX_AGE_S, FleetView
from sickbay.ports.code_schedules import CodeSchedules
from sickbay.ports.schedules import Schedules

LOOK_S: Final = 3.0
FULL_LOOK_S: Final = 15.0
"""How often the stored schedules are read although nothing else is announced: somebody may have deleted one."""
GONE_S: Final = 30.0
"""So long no live worker must have announced the code in force, before older code replaces it: twice the time to live of a worker."""
STALE_S: Final = 5.0
"""What was announced so long ago is no reason to change anything."""
FAILED_S: Final = 1.0
LONGEST_FAILED_S: Final = 10.0
_PAGE: Final = 100

log = logging.getLogger(__name__)


def _nobody() -> None:
    """Nobody wants to know."""


class CodeScheduleReconciler:
    """One per control plane."""

    def __init__(
        self,
        schedules: Schedules,
        registry: CodeSchedules | None,
        workers: FleetView,
        *,
        on_change: Callable[[], None] = _nobody,
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        """`on_change` is called when a schedule may be due earlier than before; `seconds` is a monotonic clock."""
        self._schedules = schedules
        self._registry = registry
        self._workers = workers
        self._on_change = on_change
        self._seconds = seconds
        self._sets: Mapping[str, CodeScheduleSet] = {}
        self._announced: Announced = NOTHING_KNOWN
        self._is_behind = False
        """Whether the look that goes on has left something to the next one."""
        self._reconciled: tuple[Announced, float] | None = None
        self._older_since: dict[ScheduleKey, tuple[int, float]] = {}
        """Schedules of which live workers announce only older code than that in force: when that was loaded, and since when it is so."""
        self._told: set[tuple[ScheduleKey, str]] = set()
        self._orphans: frozenset[ScheduleKey] = frozenset()
        self._backoff = Backoff(FAILED_S, LONGEST_FAILED_S)

    @property
    def orphans(self) -> int:
        """How many schedules come from code that no live worker has, as far as is known."""
        return len(self._orphans) if self._announced.has_workers else 0

    def may_be_in_code(self, schedule: Schedule) -> bool:
        """Whether a live worker has it in its code, or may have: not all of them can be seen."""
        return schedule.origin is Origin.CODE and (not self._announced.is_certain or schedule.key in self._announced.schedules)

    def is_orphaned(self, schedule: Schedule) -> bool:
        """Whether it comes from code that certainly no live worker has; no, if there is no live worker."""
        return schedule.origin is Origin.CODE and self._announced.has_workers and not self.may_be_in_code(schedule)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while self._registry is not None:
            wait_s = LOOK_S
            try:
                await self.look()
                self._backoff.reset()
            except Unavailable as error:
                wait_s = self._backoff.next_s()
                log.warning("the schedules in the code of workers are not looked after, retrying in %.1f s: %s", wait_s, error)
            await self._registry.changed(wait_s)
            if self._workers.is_new:  # what was announced just now is not in it
                await asyncio.sleep(MAX_AGE_S)

    async def look(self) -> None:
        """Look once. Unavailable if the stored schedules cannot be read or changed; without Redis it is unknown what workers announce."""
        began = self._seconds()
        self._announced = await self._read()
        self._is_behind = False
        if self._is_done(began) or not (self._announced.schedules or self._announced.has_workers):
            return
        missing = dict(self._announced.schedules)
        orphans = set()
        cursor = ""
        while True:
            page = await self._schedules.list_schedules(ScheduleQuery(origin=Origin.CODE), _PAGE, cursor)
            for stored in page.items:
                if (new := missing.pop(stored.key, None)) is not None:
                    await self._keep(stored, new, began)
                elif self.is_orphaned(stored):
                    orphans.add(stored.key)
                    self._tell_orphan(stored)
            cursor = page.cursor
            if not cursor:
                break
        for new in missing.values():
            await self._create(new, began)
        self._forget(orphans)
        self._reconciled = None if self._is_behind else (self._announced, began)

    async def _read(self) -> Announced:
        """Nothing is known while the registry is away."""
        fleet = await self._workers.look()
        if self._registry is None:
            return NOTHING_KNOWN
        if not any(worker.schedules for worker in fleet.workers):
            return announced({}, fleet)  # without a question to the registry
        try:
            self._sets = await self._registry.announced(self._sets)
        except Unavailable:
            return NOTHING_KNOWN
        return announced(self._sets, fleet)

    def _is_done(self, now: float) -> bool:
        """Whether the stored schedules are as these workers announce them, as far as was seen a moment ago."""
        if self._reconciled is None or self._older_since:
            return False
        before, at = self._reconciled
        return before == self._announced and now - at < FULL_LOOK_S

    async def _create(self, new: InForce, began: float) -> None:
        code = new.schedule
        now = await self._schedules.now()
        if not self._is_valid(new, now):
            return
        if self._seconds() - began > STALE_S:
            self._is_behind = True
            return
        made = replace(new_schedule(code.key, code.spec, now), origin=Origin.CODE, handler=code.handler, code_since=new.since)
        try:
            await self._schedules.create_schedule(made)
        except AlreadyExists:
            await self._tell_owner(new)
        except ResourceExhausted as error:
            self._tell(code.key, "full", "the schedule %r of %s cannot be created: %s", _shown(code.key), code.handler, error)
        else:
            log.info("created the schedule %r, which is in the code of %s", _shown(code.key), code.handler)
            self._on_change()

    async def _keep(self, stored: Schedule, new: InForce, began: float) -> None:
        code = new.schedule
        is_same = stored.spec == code.spec and stored.handler == code.handler
        if is_same and (stored.code_since >= new.since or not new.is_disputed):
            self._older_since.pop(stored.key, None)
            return
        if not self._may_replace(stored, new) or not self._is_valid(new, await self._schedules.now()):
            return

        def change(before: Schedule, now: int) -> Schedule:
            if before.origin is not Origin.CODE or before.code_since != stored.code_since or self._seconds() - began > STALE_S:
                return before  # another control plane was faster, or this one far too slow
            return replace(with_spec(before, code.spec, now), handler=code.handler, code_since=new.since)

        try:
            after = await self._schedules.change_schedule(stored.key, change)
        except NotFound:  # deleted meanwhile
            self._is_behind = True
            return
        self._older_since.pop(stored.key, None)
        self._is_behind |= after.spec != code.spec
        if after.revision != stored.revision and not is_same:
            log.info("changed the schedule %r, as its code in %s has", _shown(stored.key), code.handler)
            self._on_change()

    def _may_replace(self, stored: Schedule, new: InForce) -> bool:
        if new.since >= stored.code_since:
            self._older_since.pop(stored.key, None)
            return True
        now = self._seconds()
        code_since, since = self._older_since.get(stored.key, (stored.code_since, now))
        if code_since != stored.code_since:
            since = now
        self._older_since[stored.key] = stored.code_since, since
        return now - since >= GONE_S

    def _is_valid(self, new: InForce, now: int) -> bool:
        """Another version may have other rules; so does who writes into Redis."""
        code = new.schedule
        try:
            checked_text(code.spec.payload_json.decode())
            check_code_spec(code.spec, now)
        except (InvalidArgument, UnicodeDecodeError) as error:
            self._tell(code.key, f"invalid {code.spec}", "the schedule %r of %s is ignored: %s", _shown(code.key), code.handler, error)
            return False
        return True

    async def _tell_owner(self, new: InForce) -> None:
        """Log, once, that a schedule of a person has the name; one that another control plane has just created is fine."""
        code = new.schedule
        try:
            stored = await self._schedules.get_schedule(code.key)
        except NotFound:
            return
        if stored.origin is not Origin.CODE:
            self._tell(
                code.key,
                "taken",
                "the schedule %r in the code of %s is not created: somebody has created one of that name over the API, which stays as it "
                "is; delete that one, or give the other another schedule_id",
                _shown(code.key),
                code.handler,
            )

    def _tell_orphan(self, stored: Schedule) -> None:
        self._tell(
            stored.key,
            "orphaned",
            "the schedule %r is orphaned: no live worker has it in its code any more (it was in %s); it goes on running, delete it if it "
            "is no longer wanted",
            _shown(stored.key),
            stored.handler or "a handler without a name",
        )

    def _tell(self, key: ScheduleKey, about: str, text: str, *values: object) -> None:
        if (key, about) not in self._told:
            self._told.add((key, about))
            log.warning(text, *values)

    def _forget(self, orphans: set[ScheduleKey]) -> None:
        """What no longer holds is told again when it does again."""
        self._orphans = frozenset(orphans)
        kept = orphans | self._announced.schedules.keys()
        if self._announced.is_certain:
            self._told = {one for one in self._told if one[0] in kept and (one[1] == "orphaned") is (one[0] in orphans)}
            self._older_since = {key: one for key, one in self._older_since.items() if key in self._announced.schedules}


def _shown(key: ScheduleKey) -> str:
    return key.schedule_id if key.tenant == DEFAULT_TENANT else f"{key.tenant}/{key.schedule_id}"

"""Requeues jobs that are in the ledger but in no queue, because somebody purged or deleted a queue, or a broker lost its disk.

A queue cannot be searched, so three conditions are checked. Does the ledger lag? Then it may not have the jobs' latest states. Do queues
still hold messages? Then the job's copy may be among them, and most likely is. Has a run of the job begun? The workers answer that, and
begin none until it is decided (`Holds`). A job that passes is leased, published as the next generation, and finalised, like a release; the
lease cancels the old generation, so a copy that turns up later does not run as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.release import Releaser
from sickbay.domain.errors import NotFound
from sickbay.domain.job import JobState
from sickbay.domain.queries import HoldAnswer, LostCandidate, LostQuery, Page, Requeued, RequeueOrder, Verdict
from sickbay.domain.storable import MAX_COUNT
from sickbay.fleet import FleetView, count_workers
from sickbay.ports import LANES, AnyQueue, Broker, Clock, PoolQueue, Queue
from sickbay.ports.lost import Holds, Lost

UNFINISHED: Final = frozenset(state for state in JobState if not (state.is_final or state.is_in_ledger_alone))
LOST: Final = "no queue held it, and the ledger has no payload of it"


@dataclass(frozen=True, slots=True)
class _Conditions:
    """What applies to all jobs. `waiting` says which queues hold messages, `lagging` why the ledger may not be up to date."""

    waiting: str
    lagging: str
    workers: int
    heard: HoldAnswer


class Requeuer:
    """Finds and requeues lost jobs."""

    def __init__(
        self,
        *,
        lost: Lost,
        holds: Holds,
        broker: Broker,
        releaser: Releaser,
        is_behind: Callable[[], bool],
        clock: Clock,
        fleet: FleetView | None = None,
    ) -> None:
        """`is_behind` returns whether this control plane still holds unwritten events; `fleet` knows the pools."""
        self._fleet = fleet
        self._lost = lost
        self._holds = holds
        self._broker = broker
        self._releaser = releaser
        self._is_behind = is_behind
        self._clock = clock

    async def requeue(self, query: LostQuery, order: RequeueOrder, limit: int, cursor: str) -> Page[Requeued]:
        """Check a page of unfinished jobs and requeue the lost ones; NotFound if a named job is not in the ledger."""
        page = await self._lost.find_lost(query, max(limit, len(query.job_ids)), cursor)
        _check_known(query, page.items)
        ids = [found.record.job.job_id for found in page.items]
        async with self._holds.hold(ids) as hold:
            workers = await count_workers(self._broker)
            heard = await hold.ask(workers) if ids else HoldAnswer(frozenset(), workers)
            conditions = _Conditions(await self._waiting(), await self._lagging(), workers, heard)
            judged = {found.record.job.job_id: _judge(found, query, order, conditions) for found in page.items}
            if not order.validate_only:
                await self._bring_back(judged, order)
                await self._discard(judged, order)
        return Page([judged[job_id] for job_id in ids], page.cursor)

    async def _bring_back(self, judged: dict[str, Requeued], order: RequeueOrder) -> None:
        wanted = _with_verdict(judged, Verdict.REQUEUEABLE)
        leases = await self._lost.lease_lost([one.record for one in wanted.values()], order.actor) if wanted else ()
        records = await self._releaser.release(leases) if leases else ()
        done = {record.job.job_id: Requeued(record, Verdict.REQUEUED) for record in records}
        judged |= {job_id: done.get(job_id, _changed(one)) for job_id, one in wanted.items()}

    async def _discard(self, judged: dict[str, Requeued], order: RequeueOrder) -> None:
        wanted = _with_verdict(judged, Verdict.NO_PAYLOAD)
        if order.discard_without_payload and wanted:
            closed = await self._lost.discard_lost([one.record for one in wanted.values()], order.actor, LOST)
            done = {record.job.job_id: Requeued(record, Verdict.DISCARDED, LOST) for record in closed}
            judged |= {job_id: done.get(job_id, _changed(one)) for job_id, one in wanted.items()}

    async def _waiting(self) -> str:
        pools = (await self._fleet.look()).pools if self._fleet is not None else ()
        queues: list[AnyQueue] = [*LANES.values(), *map(PoolQueue, pools), Queue.RETRY]
        depths = {queue: await self._broker.depth(queue) for queue in queues}
        return " and ".join(f"{queue.value} holds {depth:,} messages" for queue, depth in depths.items() if depth)

    async def _lagging(self) -> str:
        behind = await self._broker.depth(Queue.LEDGER)
        if behind:
            return f"{behind:,} events wait in {Queue.LEDGER.value}: the ledger is not up to date"
        return "events are being written to the ledger right now" if self._is_behind() else ""


def _judge(found: LostCandidate, query: LostQuery, order: RequeueOrder, conditions: _Conditions) -> Requeued:
    record = found.record
    quiet_since = "" if record.updated_at <= query.before else "the ledger received an event of it too recently; it may be on its way"
    missing = conditions.workers - conditions.heard.workers
    doubts: list[tuple[bool | str, Verdict, str]] = [
        (record.state not in UNFINISHED, Verdict.CHANGED, f"the job is {record.state}"),
        (found.is_leased, Verdict.CHANGED, "the job is being brought back right now"),
        (
            record.job.generation >= MAX_COUNT,
            Verdict.CHANGED,
            "it has reached the maximum generation; submit it again",
        ),
        (quiet_since, Verdict.TOO_RECENT, quiet_since),
        (record.job.job_id in conditions.heard.begun, Verdict.MAY_RUN, "a worker runs it"),
        (missing > 0, Verdict.MAY_RUN, f"{missing} of {conditions.workers} workers did not answer; one of them may run it"),
        (conditions.lagging, Verdict.TOO_RECENT, conditions.lagging),
        (
            conditions.waiting if not order.even_if_waiting else "",
            Verdict.MAY_WAIT,
            f"{conditions.waiting}; its copy may be among them. Wait until they are empty, or bring it back even if it waits",
        ),
        (not found.has_payload, Verdict.NO_PAYLOAD, "the ledger has no payload of it; it can be discarded, or submitted again"),
    ]
    for doubt, verdict, message in doubts:
        if doubt:
            return Requeued(record, verdict, message)
    return Requeued(record, Verdict.REQUEUEABLE)


def _check_known(query: LostQuery, found: Sequence[LostCandidate]) -> None:
    if missing := sorted(set(query.job_ids) - {one.record.job.job_id for one in found}):
        raise NotFound(f"there is no job {missing[0]!r}")


def _with_verdict(judged: Mapping[str, Requeued], verdict: Verdict) -> dict[str, Requeued]:
    return {job_id: one for job_id, one in judged.items() if one.verdict is verdict}


def _changed(one: Requeued) -> Requeued:
    return Requeued(one.record, Verdict.CHANGED, "the ledger has just received an event of it; look again")

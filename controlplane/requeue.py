"""Brings back jobs that the ledger knows and no queue holds, because somebody purged or deleted a queue, or a broker lost its disk.

Nobody can look into a queue, so three things are asked. Does the ledger lag? Then it does not know what became of its jobs. Do queues still
hold messages? Then the job's copy may be among them, and most likely is. Has a run of the job begun? That is asked of the workers, which
begin none until it is decided (`Holds`). What passes is claimed, published as the next generation, and finalised, like a release; the
claim calls the old generation off, so even a copy that turns up after all does not run beside the new one.
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
from sickbay.ports import Broker, Clock, Queue
from sickbay.ports.lost import Holds, Lost

UNFINISHED: Final = frozenset({JobState.QUEUED, JobState.RETRYING, JobState.RUNNING})
LOST: Final = "no queue held it, and the ledger has no payload of it"


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of all jobs at once. `waiting` says which queues hold messages, `lagging` why the ledger may not be up to date."""

    waiting: str
    lagging: str
    workers: int
    heard: HoldAnswer


class Requeuer:
    """The one way back for lost jobs."""

    def __init__(
        self, *, lost: Lost, holds: Holds, broker: Broker, releaser: Releaser, is_behind: Callable[[], bool], clock: Clock
    ) -> None:
        """`is_behind` says whether this control plane still has events in its hands."""
        self._lost = lost
        self._holds = holds
        self._broker = broker
        self._releaser = releaser
        self._is_behind = is_behind
        self._clock = clock

    async def requeue(self, query: LostQuery, order: RequeueOrder, limit: int, cursor: str) -> Page[Requeued]:
        """Judge a page of unfinished jobs and bring those back that are lost; NotFound if one was named that the ledger does not know."""
        page = await self._lost.find_lost(query, max(limit, len(query.job_ids)), cursor)
        _check_known(query, page.items)
        ids = [found.record.job.job_id for found in page.items]
        async with self._holds.hold(ids) as hold:
            workers = await self._broker.consumers(Queue.MAIN)
            heard = await hold.ask(workers) if ids else HoldAnswer(frozenset(), workers)
            known = _Known(await self._waiting(), await self._lagging(), workers, heard)
            judged = {found.record.job.job_id: _judge(found, query, order, known) for found in page.items}
            if not order.validate_only:
                await self._bring_back(judged, order)
                await self._discard(judged, order)
        return Page([judged[job_id] for job_id in ids], page.cursor)

    async def _bring_back(self, judged: dict[str, Requeued], order: RequeueOrder) -> None:
        wanted = _with(judged, Verdict.REQUEUEABLE)
        claims = await self._lost.lease_lost([one.record for one in wanted.values()], order.actor) if wanted else ()
        known = await self._releaser.release(claims) if claims else ()
        done = {record.job.job_id: Requeued(record, Verdict.REQUEUED) for record in known}
        judged |= {job_id: done.get(job_id, _changed(one)) for job_id, one in wanted.items()}

    async def _discard(self, judged: dict[str, Requeued], order: RequeueOrder) -> None:
        wanted = _with(judged, Verdict.NO_PAYLOAD)
        if order.discard_without_payload and wanted:
            closed = await self._lost.discard_lost([one.record for one in wanted.values()], order.actor, LOST)
            done = {record.job.job_id: Requeued(record, Verdict.DISCARDED, LOST) for record in closed}
            judged |= {job_id: done.get(job_id, _changed(one)) for job_id, one in wanted.items()}

    async def _waiting(self) -> str:
        depths = {queue: await self._broker.depth(queue) for queue in (Queue.MAIN, Queue.RETRY)}
        return " and ".join(f"{queue.value} holds {depth:,} messages" for queue, depth in depths.items() if depth)

    async def _lagging(self) -> str:
        behind = await self._broker.depth(Queue.LEDGER)
        if behind:
            return f"{behind:,} events wait in {Queue.LEDGER.value}: the ledger is not up to date"
        return "events are being written to the ledger right now" if self._is_behind() else ""


def _judge(found: LostCandidate, query: LostQuery, order: RequeueOrder, known: _Known) -> Requeued:
    record = found.record
    quiet_since = "" if record.updated_at <= query.before else "the ledger received an event of it too recently; it may be on its way"
    missing = known.workers - known.heard.workers
    doubts: list[tuple[bool | str, Verdict, str]] = [
        (record.state not in UNFINISHED, Verdict.CHANGED, f"the job is {record.state}"),
        (found.is_leased, Verdict.CHANGED, "the job is being brought back right now"),
        (
            record.job.generation >= MAX_COUNT,
            Verdict.CHANGED,
            "it has come back as often as a job can; submit it again",
        ),
        (quiet_since, Verdict.TOO_RECENT, quiet_since),
        (record.job.job_id in known.heard.begun, Verdict.MAY_RUN, "a worker runs it"),
        (missing > 0, Verdict.MAY_RUN, f"{missing} of {known.workers} workers did not answer; one of them may run it"),
        (known.lagging, Verdict.TOO_RECENT, known.lagging),
        (
            known.waiting if not order.even_if_waiting else "",
            Verdict.MAY_WAIT,
            f"{known.waiting}; its copy may be among them. Wait until they are empty, or bring it back even if it waits",
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


def _with(judged: Mapping[str, Requeued], verdict: Verdict) -> dict[str, Requeued]:
    return {job_id: one for job_id, one in judged.items() if one.verdict is verdict}


def _changed(one: Requeued) -> Requeued:
    return Requeued(one.record, Verdict.CHANGED, "the ledger has just received an event of it; look again")

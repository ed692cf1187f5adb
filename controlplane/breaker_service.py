"""BreakerService: parse, one core call, reply."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from controlplane.breaker_access import BreakerAccess, not_found
from controlplane.breaker_messages import BreakerMessages
from controlplane.breaker_names import BreakerNames
from controlplane.held_breakers import HeldBreakers
from sickbay.breakers.v1 import breaker_service_pb2 as pb
from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceServicer
from sickbay.concurrency.pace import TokenBucket
from sickbay.concurrency.tasks import DetachedTasks, detached
from sickbay.contract import explanations, responses
from sickbay.contract import requests as parse
from sickbay.contract.paging import next_page_token, parse_paging
from sickbay.contract.requests import CommandRequest
from sickbay.contract.resume import SentBreakers
from sickbay.domain.access import Principal
from sickbay.domain.breaker import Action, BreakerKey, BreakerRule, BreakerScope, BreakerState, Snapshot
from sickbay.domain.breaker_sharing import shown_to
from sickbay.domain.errors import FailedPrecondition, Unavailable
from sickbay.domain.explain_breaker import explain_breaker
from sickbay.domain.workers import UNKNOWN, Fleet
from sickbay.fleet import Pools, no_pools
from sickbay.ports import CONSUMED, HOLDING, Breakers, Broker, Clock, LedgerWriter, PoolQueue
from sickbay.server.access.caller import principal_of
from sickbay.server.audit.notes import notes_of

BURST: Final = 250
CHANGES_PER_S: Final = 500.0
"""Limits of the changes sent by all watches: at once, and per second; of faster changes only the latest is sent (`Breakers.watch`)."""
MIN_TRACKED: Final = 1_000
"""Minimum number of breakers that a watch remembers before it checks which of them still exist."""

WORKER: Final = "worker"
"""What a breaker waits for if no live worker handles its job types."""

log = logging.getLogger(__name__)


async def _none_parked() -> Mapping[BreakerKey, int]:
    return {}


class BreakerApi(BreakerServiceServicer):
    """Serves BreakerService."""

    def __init__(
        self,
        breakers: Breakers,
        broker: Broker,
        ledger: LedgerWriter,
        clock: Clock,
        held_back: Callable[[], Collection[BreakerKey]] = frozenset,
        *,
        scope: BreakerRule = BreakerScope.TYPE,
        parked: Callable[[], Awaitable[Mapping[BreakerKey, int]]] = _none_parked,
        at_rates: Callable[[], Mapping[BreakerKey, int]] = dict,
        fleet: Callable[[], Fleet] = lambda: UNKNOWN,
        pools: Pools = no_pools,
    ) -> None:
        """`broker` and `ledger` are used for metrics only. `scope` says which breaker decides about a tenant's jobs.

        `parked` counts the parked jobs, by type and tenant, `at_rates` those of them that wait for a rate.
        `fleet` returns the live workers, without waiting.

        `held_back` returns breakers whose releases are held back, because a worker uses its own breaker: they are shown as degraded, even
        if the shared store has no such breaker.
        """
        self._held_back = held_back
        self._parked = parked
        self._at_rates = at_rates
        self._scope = scope
        self._access = BreakerAccess(scope)
        self._fleet = fleet
        self._pools = pools
        self._breakers = breakers
        self._held = HeldBreakers(breakers)
        self._names = BreakerNames()
        self._messages = BreakerMessages(scope, self._waiting_for)
        self._redacted_messages = BreakerMessages(scope, self._waiting_for)
        self._rate_limit = TokenBucket(BURST, CHANGES_PER_S)
        self._broker = broker
        self._ledger = ledger
        self._clock = clock
        self.detached = DetachedTasks()

    async def ListBreakers(self, request: pb.ListBreakersRequest, context: Any) -> pb.ListBreakersResponse:
        """See the contract."""
        principal, tenant = principal_of(context), parse.tenant_filter(request.tenant)
        paging = parse_paging(request, principal.name)
        known = await self._breakers.keys()
        if held_back := self._held_back():
            known = sorted({*known, *held_back})
        page, cursor = self._names.page(known, paging.cursor, paging.limit, self._access.filter(tenant, principal))
        breakers = filter(self._is_shown, await self._snapshots(page))
        if principal.tenants is None:
            listed = self._messages.of(breakers)
        else:
            listed = self._redacted_messages.of(shown_to(self._scope, one, principal.tenants) for one in breakers)
        return pb.ListBreakersResponse(breakers=listed, next_page_token=next_page_token(request, cursor, principal.name))

    async def GetBreaker(self, request: pb.GetBreakerRequest, context: Any) -> pb.GetBreakerResponse:
        """See the contract."""
        asked, breaker = await self._find(request, principal_of(context))
        return pb.GetBreakerResponse(breaker=self._reply(breaker, asked.job_type))

    async def ExplainBreaker(self, request: pb.ExplainBreakerRequest, context: Any) -> pb.ExplainBreakerResponse:
        """See the contract."""
        principal = principal_of(context)
        asked, breaker = await self._find(request, principal)
        parked = await self._count_parked(breaker.key, principal)
        explained = explain_breaker(
            breaker, parked, self._scope.job_types(breaker.key), lacks_worker=self._lacks_worker(breaker.key, asked.job_type)
        )
        return pb.ExplainBreakerResponse(explanation=explanations.breaker(self._reply(breaker, asked.job_type), parked, explained))

    @detached
    async def ResetBreaker(self, request: pb.ResetBreakerRequest, context: Any) -> pb.ResetBreakerResponse:
        """See the contract."""
        return pb.ResetBreakerResponse(breaker=await self._command(request, context))

    @detached
    async def ForceOpenBreaker(self, request: pb.ForceOpenBreakerRequest, context: Any) -> pb.ForceOpenBreakerResponse:
        """See the contract."""
        return pb.ForceOpenBreakerResponse(breaker=await self._command(request, context))

    @detached
    async def DisableBreaker(self, request: pb.DisableBreakerRequest, context: Any) -> pb.DisableBreakerResponse:
        """See the contract."""
        return pb.DisableBreakerResponse(breaker=await self._command(request, context))

    @detached
    async def SetBreakerMetricsOnly(self, request: pb.SetBreakerMetricsOnlyRequest, context: Any) -> pb.SetBreakerMetricsOnlyResponse:
        """See the contract."""
        return pb.SetBreakerMetricsOnlyResponse(breaker=await self._command(request, context))

    @detached
    async def SetBreakerAuto(self, request: pb.SetBreakerAutoRequest, context: Any) -> pb.SetBreakerAutoResponse:
        """See the contract."""
        return pb.SetBreakerAutoResponse(breaker=await self._command(request, context))

    @detached
    async def ProbeBreaker(self, request: pb.ProbeBreakerRequest, context: Any) -> pb.ProbeBreakerResponse:
        """See the contract."""
        return pb.ProbeBreakerResponse(breaker=await self._command(request, context))

    async def WatchBreakers(self, request: pb.WatchBreakersRequest, context: Any) -> AsyncIterator[pb.WatchBreakersResponse]:
        """See the contract."""
        kind, tenant = parse.breaker_filter(request.job_type), parse.tenant_filter(request.tenant)
        principal = principal_of(context)
        is_theirs = self._access.filter(tenant, principal)

        def matches(breaker: Snapshot) -> bool:
            is_asked = not kind or breaker.key == self._scope.key_of(kind, breaker.key.tenant)
            return is_asked and (is_theirs is None or is_theirs(breaker.key))

        def reply(breaker: Snapshot) -> pb.WatchBreakersResponse:
            sent.add(breaker)
            breaker = shown_to(self._scope, breaker, principal.tenants)
            return pb.WatchBreakersResponse(breaker=self._reply(breaker, kind), resume_token=sent.token)

        async with self._breakers.watch() as changes:
            present = [one for one in await self._snapshots() if matches(one) and self._is_shown(one)]
            revs = {breaker.key: breaker.rev for breaker in present}
            max_tracked = _prune_above(len(revs))
            sent = SentBreakers(present)
            if sent.token != request.resume_token:
                sent = SentBreakers()
                for breaker in present:
                    yield reply(breaker)
            async for breaker in changes:
                if matches(breaker) and breaker.rev > revs.get(breaker.key, 0):
                    revs[breaker.key] = breaker.rev
                    yield reply(breaker)
                    await self._rate_limit.acquire()
                if len(revs) > max_tracked:
                    keys = await self._existing_keys(revs)
                    revs = {key: rev for key, rev in revs.items() if key in keys}
                    sent.retain(keys)
                    max_tracked = _prune_above(len(revs))

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: Any) -> pb.GetMetricsResponse:
        """See the contract."""
        return responses.metrics(
            await self._snapshots(),
            jobs=await self._ledger.counts(),
            depths={queue.value: await self._broker.depth(queue) for queue in (*HOLDING, *map(PoolQueue, await self._pools()))},
            consumers={queue.value: await self._broker.consumers(queue) for queue in CONSUMED},
            duplicates=await self._ledger.duplicates(),
            now=self._clock(),
        )

    async def _command(self, request: CommandRequest, context: Any) -> Breaker:
        principal = principal_of(context)
        named, command = parse.command(request, principal)
        asked = self._access.asked(named, request.tenant, principal)
        key = self._scope.key_of(*asked)
        self._access.check_change(key, principal)
        if key.tenant != asked.tenant:
            raise FailedPrecondition(
                f"all tenants share the breaker of {asked.job_type} (BREAKER_SCOPE is type): leave out the tenant to change it for all"
            )
        if not self._scope.is_in_use(key):
            raise not_found(key)
        await self._held.check(key, command.action)
        await self._note_before(key, context)
        after = await self._breakers.command(key, command)
        if command.action is Action.PROBE:
            _report_probe(after)
        self._held.record(key, command.action)
        return self._reply(after, asked.job_type)

    async def _note_before(self, key: BreakerKey, context: Any) -> None:
        """Note its state for the audit log; that it cannot be read is for the command to say."""
        with suppress(Unavailable):
            for breaker in await self._breakers.snapshots([key]):
                notes_of(context).before = breaker.state.value

    def _reply(self, breaker: Snapshot, asked: str = "") -> Breaker:
        """The breaker under the name by which it was asked for: that of a dependency has those of its job types, too."""
        return responses.breaker(breaker, asked, self._scope.job_types(breaker.key), self._waiting_for(breaker))

    def _waiting_for(self, breaker: Snapshot) -> str:
        """What it waits for beside its time; a breaker that is simply CLOSED waits for nothing."""
        is_calm = breaker.state is BreakerState.CLOSED and not breaker.recovering
        return WORKER if not is_calm and self._lacks_worker(breaker.key) else ""

    def _lacks_worker(self, key: BreakerKey, asked: str = "") -> bool:
        """Whether certainly no live worker handles any of the job types that it decides about."""
        return self._fleet().lacks_all(self._scope.job_types(key) or [asked or key.job_type])

    def _is_shown(self, breaker: Snapshot) -> bool:
        """Whether it belongs into a list: not if it is closed and no job asks it any more."""
        return breaker.state is not BreakerState.CLOSED or self._scope.is_in_use(breaker.key)

    async def _find(self, request: pb.GetBreakerRequest | pb.ExplainBreakerRequest, principal: Principal) -> tuple[BreakerKey, Snapshot]:
        """The type and tenant that were asked for, and the breaker that decides about them, as the principal may see it."""
        asked = self._access.asked(parse.breaker_key(request.job_type, request.tenant), request.tenant, principal)
        for breaker in await self._snapshots([self._scope.key_of(*asked)]):
            return asked, shown_to(self._scope, breaker, principal.tenants)
        raise not_found(asked)

    async def _count_parked(self, breaker: BreakerKey, principal: Principal) -> int | None:
        """How many parked jobs that the principal sees wait for a breaker.

        None if the ledger is unavailable, which is no reason to explain nothing.
        """
        try:
            parked = await self._parked()
        except Unavailable:
            return None
        at_rates = self._at_rates()
        theirs = ((key, count) for key, count in parked.items() if principal.sees(key.tenant))
        return sum(max(0, count - at_rates.get(key, 0)) for key, count in theirs if self._scope.key_of(*key) == breaker)

    async def _existing_keys(self, revs: Collection[BreakerKey]) -> Collection[BreakerKey]:
        """Those that still exist; all of them while the store is unavailable."""
        try:
            return {*await self._breakers.keys(), *self._held_back()}
        except Unavailable:
            return revs

    async def _snapshots(self, keys: Sequence[BreakerKey] | None = None) -> Sequence[Snapshot]:
        """All breakers by name, or those among `keys`, in the order given."""
        found = await self._breakers.snapshots(keys) if keys is None or keys else ()
        held_back = self._held_back()
        if keys is not None and not (held_back := set(held_back).intersection(keys)):
            return found
        known = {breaker.key: breaker for breaker in found}
        for key in held_back:
            known[key] = replace(known.get(key) or Snapshot(key, BreakerState.CLOSED, 0, 0, 0), degraded=True)
        return [known[key] for key in keys or sorted(known, key=attrgetter("name")) if key in known]


def _prune_above(known: int) -> int:
    """How many breakers a watch remembers before it checks which of them still exist."""
    return max(MIN_TRACKED, 2 * known)


def _report_probe(breaker: Snapshot) -> None:
    """Log a requested probe; FailedPrecondition if this state has none, which is why the command changed nothing."""
    name = breaker.key.name
    if breaker.probe_job_id and breaker.state is not BreakerState.FORCED_OPEN:
        log.info("a probe of %s was requested; job %s is running as one already", name, breaker.probe_job_id)
    elif breaker.state is BreakerState.OPEN:
        log.info("a probe of %s was requested: its next job is the probe", name)
    else:
        hint = "; end the hold first (auto)" if breaker.state is BreakerState.FORCED_OPEN else ""
        raise FailedPrecondition(f"the breaker of {name} is {breaker.state}, and only an OPEN one can be probed{hint}")

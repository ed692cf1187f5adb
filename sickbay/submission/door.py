"""The door: which new jobs are accepted, by the rates of submissions and the bounds on waiting jobs of the settings file.

Without a limit in force a submit asks for nothing here: no store is called. With rates, each call (a submit, or a whole batch) is one round
trip to the store that all Job APIs share. If that store is unavailable jobs are accepted unlimited, and counted: a limit protects the
others, and rejecting all of them would do what it is to prevent.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from time import monotonic
from typing import Final, TypeVar

from sickbay.domain.errors import ErrorReason, Quota, ResourceExhausted, Unavailable
from sickbay.domain.job import Job, JobState
from sickbay.domain.rate_limit import Bucket, Claim, Grant
from sickbay.domain.spans import span
from sickbay.ports.limits import RateLimiter
from sickbay.runtime.door_rules import DoorRules, LimitKind
from sickbay.submission.waiting import WaitingJobs

LOG_AGAIN_S: Final = 60.0
QUEUED_WAIT_S: Final = 2.0
"""Nobody knows when waiting jobs have run; they are counted again once a second."""
MAX_NAMES: Final = 200
OTHER: Final = "other"
_US: Final = 1_000_000
_WORDS: Final = {LimitKind.TENANT: "tenant", LimitKind.TYPE: "job type", LimitKind.PRINCIPAL: "principal"}

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
Verdict = ResourceExhausted | None
"""None: the job is accepted."""


class Door:
    """Judges the new jobs of this Job API; duplicates never come here."""

    def __init__(self, rules: DoorRules, limiter: RateLimiter, waiting: WaitingJobs, now: Callable[[], float] = monotonic) -> None:
        """`now` is a monotonic clock in seconds, for the log."""
        self._rules = rules
        self._limiter = limiter
        self._waiting = waiting
        self._now = now
        self._logged_at: dict[str, float] = {}
        self.rejected: Counter[tuple[str, str]] = Counter()
        """Rejected jobs by limit (a LimitKind, tenant_queued, queued) and name; later names than the first MAX_NAMES are `other`."""
        self.unlimited = 0
        """Jobs accepted although a rate is set, because the store did not answer."""

    @property
    def has_limits(self) -> bool:
        """Whether any limit is in force."""
        return self._rules.limits_rates or self._rules.limits_waiting

    @property
    def limits_principals(self) -> bool:
        """Whether `admit` has anything to say."""
        return self._rules.limits_principals

    async def admit(self, principals: Sequence[str]) -> Sequence[Verdict]:
        """One verdict for each submission, by the name of who makes it, before any work is done for it: no key, no name, no place.

        So a repeat, and one that is rejected later, count too. Never raises Unavailable.
        """
        buckets = {name: self._rules.bucket_of(name) for name in dict.fromkeys(principals)}
        return await self._take(principals, {name: (bucket,) for name, bucket in buckets.items() if bucket is not None})

    async def judge(self, jobs: Sequence[Job]) -> Sequence[Verdict]:
        """One verdict for each job, in order: each takes its place, or is rejected, for itself. Never raises Unavailable.

        A job that is to run later takes no place now.
        """
        verdicts: list[Verdict] = [None] * len(jobs)
        if self._rules.limits_waiting:
            verdicts = [self._place(job) for job in jobs]
        if self._rules.limits_rates:
            open_to = [place for place, verdict in enumerate(verdicts) if verdict is None]
            for place, verdict in zip(open_to, await self._rated([jobs[place] for place in open_to]), strict=True):
                verdicts[place] = verdict
                if verdict is not None:
                    self.give_back([jobs[place]])
        return verdicts

    def give_back(self, jobs: Sequence[Job]) -> None:
        """These were not accepted after all, so they do not wait; what they took of a rate is spent."""
        for job in jobs:
            if job.first_state is JobState.QUEUED:
                self._waiting.remove(job)

    def _place(self, job: Job) -> Verdict:
        if job.first_state is JobState.SCHEDULED:
            return None
        for limit, name, bound in (
            ("tenant_queued", job.tenant, self._rules.queued(job.tenant)),
            ("queued", "", self._rules.queued_in_all),
        ):
            if bound is None or (count := self._waiting.count(job.tenant if name else None)) is None or count < bound:
                continue
            whose = f"jobs of tenant {name}" if name else "jobs of all tenants"
            why = f"{count:,} {whose} wait, and {bound:,} may"
            self._note(limit, name, why)
            return ResourceExhausted(_message(why, QUEUED_WAIT_S), ErrorReason.TOO_MANY_QUEUED, retry_after=QUEUED_WAIT_S)
        self._waiting.add(job)
        return None

    async def _rated(self, jobs: Sequence[Job]) -> Sequence[Verdict]:
        keys = [(job.job_type, job.tenant) for job in jobs]
        return await self._take(keys, {key: self._rules.buckets(*key) for key in dict.fromkeys(keys)})

    async def _take(self, keys: Sequence[K], buckets: Mapping[K, tuple[Bucket, ...]]) -> Sequence[Verdict]:
        """A verdict for each key, in order: each takes one from all of the buckets of its key."""
        places: dict[K, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(key, []).append(place)
        asked = [key for key in places if buckets.get(key)]
        if not asked:
            return [None] * len(keys)
        try:
            grants = await self._limiter.take([Claim(buckets[key], len(places[key])) for key in asked])
        except Unavailable:
            self.unlimited += sum(len(places[key]) for key in asked)
            self._log("store", "jobs are accepted without limits on rates, because their store is unavailable")
            return [None] * len(keys)
        verdicts: list[Verdict] = [None] * len(keys)
        for key, grant in zip(asked, grants, strict=True):
            if grant.limited_by is not None:
                for late, place in enumerate(places[key][grant.granted :]):
                    verdicts[place] = self._too_fast(grant, grant.limited_by, late)
        return verdicts

    def _too_fast(self, grant: Grant, bucket: Bucket, late: int) -> ResourceExhausted:
        """The rejection of the one that comes after so many others of the same call, each of which has to wait longer."""
        kind, _, name = bucket.name.partition(":")
        frequency = bucket.rate.frequency
        wait_s = (grant.wait_us + late * bucket.rate.period_us / frequency.count) / _US
        why = f"the limit of {_WORDS[LimitKind(kind)]} {name} is {frequency}, with {bucket.rate.burst:,} at once"
        quota = Quota(kind, frequency.count, frequency.period_ms // 1_000, -(-grant.reset_us // _US))
        self._note(kind, name, why)
        return ResourceExhausted(_message(why, wait_s), ErrorReason.SUBMISSION_RATE_EXCEEDED, retry_after=wait_s, quota=quota)

    def _note(self, limit: str, name: str, why: str) -> None:
        """Count a rejection."""
        counted = (limit, name)
        self.rejected[counted if counted in self.rejected or len(self.rejected) < MAX_NAMES else (limit, OTHER)] += 1
        self._log(limit, f"jobs are rejected: {why}")

    def _log(self, about: str, text: str) -> None:
        """Once a minute for each kind of limit."""
        now = self._now()
        if now - self._logged_at.get(about, -LOG_AGAIN_S) >= LOG_AGAIN_S:
            self._logged_at[about] = now
            log.warning("%s", text)


def _message(why: str, wait_s: float) -> str:
    return f"{why}; the job was not accepted, try again in {span(max(1_000, round(wait_s * 1_000)))}"

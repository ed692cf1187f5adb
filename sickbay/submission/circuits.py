"""The circuits as producers meet them: what happens to a job that is submitted now, and whether it is to be rejected instead."""

from __future__ import annotations

from collections.abc import Sequence

from sickbay.contract.requests import Submission
from sickbay.domain.access import Tenants
from sickbay.domain.breaker import BreakerKey, BreakerRule, BreakerScope, Snapshot
from sickbay.domain.breaker_sharing import shown_to
from sickbay.domain.errors import ErrorReason, FailedPrecondition, SickbayError
from sickbay.domain.on_open import rejection_of
from sickbay.ports import BreakerView


class Circuits:
    """The breakers that this Job API can see, in memory: a submit while all are closed costs a look into a dictionary."""

    def __init__(self, view: BreakerView | None = None, scope: BreakerRule = BreakerScope.TYPE) -> None:
        """`view` is None if this Job API cannot see any; `scope` says which breaker decides about a tenant's jobs."""
        self._view = view
        self._scope = scope

    def key_of(self, job_type: str, tenant: str) -> BreakerKey:
        """The breaker that decides about these jobs."""
        return self._scope.key_of(job_type, tenant)

    def job_types(self, key: BreakerKey) -> Sequence[str]:
        """The job types that share the breaker of a dependency; none for that of one type."""
        return self._scope.job_types(key)

    def get(self, job_type: str, tenant: str) -> Snapshot | None:
        """The breaker that decides about these jobs; None if that is unknown here."""
        return self._view.get(self.key_of(job_type, tenant)) if self._view is not None else None

    def unless_closed(self, job_type: str, tenant: str) -> Snapshot | None:
        """The same; None also if it is CLOSED."""
        return self._view.unless_closed(self.key_of(job_type, tenant)) if self._view is not None else None

    def shown(self, breaker: Snapshot, tenants: Tenants, own_job: str = "") -> Snapshot:
        """The breaker as those see it who have only these tenants (`shown_to`)."""
        return shown_to(self._scope, breaker, tenants, own_job)

    def rejection(self, submission: Submission) -> SickbayError | None:
        """The error if the job is to be rejected rather than parked, and would be parked."""
        if not submission.rejects:
            return None
        breaker = self.unless_closed(submission.job_type, submission.tenant)
        return rejection_of(self.shown(breaker, submission.tenants)) if breaker is not None else None

    def blindness(self, submission: Submission) -> SickbayError | None:
        """The error if the job is to be rejected rather than parked, and this Job API could not tell."""
        if not submission.rejects or self._view is not None:
            return None
        return FailedPrecondition(
            "rejecting jobs while their circuit is open needs REDIS_URL, which is not set for this service", ErrorReason.NOT_CONFIGURED
        )

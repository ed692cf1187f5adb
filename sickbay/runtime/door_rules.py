"""The limits in force for submissions: from the settings file, as it is at each question."""

from __future__ import annotations

from enum import StrEnum

from sickbay.domain.rate_limit import Bucket, Frequency, Rate
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings_file import SettingsFile


class LimitKind(StrEnum):
    """Whose submissions a limit is about."""

    TENANT = "tenant"
    TYPE = "type"
    PRINCIPAL = "principal"
    """Who calls; a bucket of its own, asked before anything else is done for the call."""


class DoorRules:
    """One per Job API."""

    def __init__(self, policies: Policies) -> None:
        """The rules of the file that `policies` reads."""
        self._policies = policies
        self.limits_rates = False
        """Whether any rate of submissions is limited: if not, a submit asks for no buckets."""
        self.limits_principals = False
        """Whether the submissions of any principal are limited."""
        self.limits_waiting = False
        """Whether the waiting jobs of any tenant, or of all, are limited."""
        policies.on_change(self._refresh)
        self._refresh()

    def buckets(self, job_type: str, tenant: str) -> tuple[Bucket, ...]:
        """The buckets from which a job of this type and tenant takes; a new kind of limit is one more bucket here."""
        file = self._policies.file
        own, every = file.tenants.get(tenant, file.defaults.tenant), file.defaults.tenant
        of_tenant = _rate(own.submit or every.submit, own.submit_burst or every.submit_burst)
        table, defaults = file.policies(job_type)
        of_type = _rate(table.submit or defaults.submit, table.submit_burst or defaults.submit_burst)
        named = ((LimitKind.TENANT, tenant, of_tenant), (LimitKind.TYPE, job_type, of_type))
        return tuple(Bucket(f"{kind}:{name}", rate) for kind, name, rate in named if rate is not None)

    def bucket_of(self, principal: str) -> Bucket | None:
        """The bucket from which everything takes that this principal submits; None without a limit, and for nobody."""
        file = self._policies.file
        own, every = file.principals.get(principal, file.defaults.principal), file.defaults.principal
        rate = _rate(own.submit or every.submit, own.submit_burst or every.submit_burst) if principal else None
        return None if rate is None else Bucket(f"{LimitKind.PRINCIPAL}:{principal}", rate)

    def queued(self, tenant: str) -> int | None:
        """How many jobs of this tenant may wait; None without a limit."""
        file = self._policies.file
        return file.tenants.get(tenant, file.defaults.tenant).queued or file.defaults.tenant.queued

    @property
    def queued_in_all(self) -> int | None:
        """How many jobs of all tenants may wait; None without a limit."""
        return self._policies.file.limits.queued

    def _refresh(self) -> None:
        file = self._policies.file
        of_tenants = any(table.submit is not None for table in (file.defaults.tenant, *file.tenants.values()))
        of_types = any(table.submit is not None for table in (file.defaults, *file.types.values()))
        self.limits_rates = of_tenants or of_types
        self.limits_principals = any(table.submit is not None for table in (file.defaults.principal, *file.principals.values()))
        self.limits_waiting = _limits_waiting(file)


def _limits_waiting(file: SettingsFile) -> bool:
    tenants = [file.defaults.tenant, *file.tenants.values()]
    return file.limits.queued is not None or any(table.queued is not None for table in tenants)


def _rate(frequency: Frequency | None, burst: int | None) -> Rate | None:
    return None if frequency is None else Rate(frequency, burst or frequency.count)

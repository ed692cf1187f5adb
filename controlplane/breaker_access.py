"""Which breakers a principal asks for, sees and may change."""

from __future__ import annotations

from collections.abc import Callable

from sickbay.domain.access import Principal
from sickbay.domain.breaker import BreakerKey, BreakerRule
from sickbay.domain.breaker_sharing import concerns, is_of_all, is_shared
from sickbay.domain.errors import ErrorReason, NotFound


class BreakerAccess:
    """The rules of tenants for breakers: a tenant's own are its, and those that tenants share may be read but not changed."""

    def __init__(self, scope: BreakerRule) -> None:
        """`scope` says which breaker decides about a tenant's jobs."""
        self._scope = scope

    def asked(self, key: BreakerKey, tenant: str, principal: Principal) -> BreakerKey:
        """The type and tenant that are asked for: without a tenant the principal's own, if tenants have breakers of their own.

        NotFound for another tenant's, whether it exists or not.
        """
        if principal.tenants is None:
            return key
        if not (principal.sees(tenant) if tenant else principal.tenants):
            raise not_found(key)
        return key if tenant or is_shared(self._scope, key.job_type) else key._replace(tenant=principal.tenant())

    def filter(self, tenant: str, principal: Principal) -> Callable[[BreakerKey], bool] | None:
        """Which breakers a list for the principal has, of those that decide about jobs of `tenant` if that is not empty; None: all."""
        if principal.tenants is None and not tenant:
            return None
        theirs = principal.filter(tenant) if principal.tenants is not None else None
        return lambda key: concerns(self._scope, key, theirs) and self._decides(key, tenant)

    def check_change(self, key: BreakerKey, principal: Principal) -> None:
        """PermissionDenied if tenants that the principal does not have share the breaker."""
        if is_of_all(self._scope, key):
            name = f"the dependency {key.dependency}" if key.dependency else key.job_type
            principal.check_all_tenants(f"the breaker of {name}")

    def _decides(self, key: BreakerKey, tenant: str) -> bool:
        """Whether this breaker decides about jobs of `tenant`; every one passes if that is empty."""
        return not tenant or key == self._scope.key_of(key.job_type, tenant)


def not_found(key: BreakerKey) -> NotFound:
    """There is no such breaker."""
    if key.dependency:
        return NotFound(f"Circuit breaker of the dependency '{key.dependency}' not found", ErrorReason.BREAKER_NOT_FOUND)
    return NotFound(f"Circuit breaker for jobType '{key.job_type}' not found", ErrorReason.BREAKER_NOT_FOUND)

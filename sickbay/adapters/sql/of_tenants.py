"""Conditions and lists of the jobs of some tenants, so that the index of tenants is used and other tenants' rows are not read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Text, false, literal_column, select, union_all

from sickbay.adapters.sql.schema import jobs
from sickbay.domain.access import Tenants
from sickbay.domain.job import DEFAULT_TENANT

MAX_PARTS: Final = 50
"""Of so many tenants each one's part of a page is read by itself; a statement must not become longer without bound."""
_DEFAULT: Final = literal_column(f"'{DEFAULT_TENANT}'", Text)


def of_tenants(column: ColumnElement[str], tenants: Tenants) -> list[ColumnElement[bool]]:
    """Rows of these tenants, in any order; no condition for all of them."""
    if tenants is None:
        return []
    if not tenants:
        return [false()]
    if len(tenants) == 1:
        return [column == next(iter(tenants))]
    return [column.in_(sorted(tenants))]


def jobs_of_tenants(tenants: Tenants) -> list[ColumnElement[bool]]:
    """The same of jobs, said as the index of tenants has it: it is without the default tenant, which has most jobs."""
    wanted = of_tenants(jobs.c.tenant, tenants)
    return [*wanted, jobs.c.tenant != _DEFAULT] if tenants and DEFAULT_TENANT not in tenants else wanted


def first_jobs(
    columns: Sequence[Any], wanted: Sequence[ColumnElement[bool]], tenants: Tenants, order: Sequence[ColumnElement[Any]], limit: int
) -> Select[Any]:
    """The first `limit` jobs of these tenants in this order.

    Of several tenants the first of each are found by the index, and put in order together: a page costs the same whatever they have.
    """
    if tenants is None or not 1 < len(tenants) <= MAX_PARTS:
        return select(*columns).where(*wanted, *jobs_of_tenants(tenants)).order_by(*order).limit(limit)
    parts = [
        select(jobs.c.job_id).where(*wanted, *jobs_of_tenants(frozenset({one}))).order_by(*order).limit(limit).subquery()
        for one in sorted(tenants)
    ]
    found = union_all(*(select(part.c.job_id) for part in parts))
    return select(*columns).where(jobs.c.job_id.in_(found)).order_by(*order).limit(limit)

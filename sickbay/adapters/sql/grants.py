"""The privileges of each service's role on the tables of PostgreSQL; the control plane, which owns them, grants them to existing roles.

`deploy/postgresql/roles.sql` creates the roles; without them nothing is granted.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, text

_READ: Final = ("SELECT",)
_WRITE: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")

GRANTS: Final = {
    "sickbay_jobapi": {
        "alembic_version": _READ,
        "jobs": _READ,
        "job_changes": _READ,
        "job_duplicates": _READ,
        "job_results": _READ,
        "job_progress": _READ,
        "idempotency_keys": _WRITE,
    },
    "sickbay_worker": {"alembic_version": _READ, "jobs": _READ, "suspects": _WRITE},
}
"""The minimum; verified by a contract test."""

_LACKING: Final = text(
    """
    SELECT role, name, privilege
    FROM unnest(CAST(:roles AS text[]), CAST(:tables AS text[]), CAST(:privileges AS text[])) AS wanted (role, name, privilege)
    JOIN pg_roles ON rolname = role
    JOIN pg_class AS made ON made.oid = to_regclass(quote_ident(name))
    WHERE NOT has_table_privilege(pg_roles.oid, made.oid, privilege) AND pg_has_role(made.relowner, 'USAGE')
    """
)


def lacking(connection: Connection) -> list[tuple[str, str, str]]:
    """Role, table and privilege of each missing grant that we may make; none on SQLite."""
    if connection.dialect.name != "postgresql":
        return []
    wanted = [(role, table, privilege) for role, tables in GRANTS.items() for table, several in tables.items() for privilege in several]
    roles, tables, privileges = (list(column) for column in zip(*wanted, strict=True))
    found = connection.execute(_LACKING, {"roles": roles, "tables": tables, "privileges": privileges})
    return [(row[0], row[1], row[2]) for row in found]


def grant(connection: Connection) -> None:
    """Make the missing grants."""
    for role, table, privilege in lacking(connection):
        connection.execute(text(f'GRANT {privilege} ON "{table}" TO "{role}"'))

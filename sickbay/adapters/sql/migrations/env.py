"""Alembic's entry point: runs the migrations on the connection of `migrate.py`, inside its transaction if it has begun one."""

from __future__ import annotations

from alembic import context

from sickbay.adapters.sql.grants import grant
from sickbay.adapters.sql.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
    grant(connection)  # so that nobody ever sees tables that he may not read yet

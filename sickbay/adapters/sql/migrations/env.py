"""Alembic's entry point: runs the migrations on the connection of `migrate.py`, inside its transaction if it has begun one."""

from __future__ import annotations

from alembic import context

from sickbay.adapters.sql.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()

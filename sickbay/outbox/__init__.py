"""The transactional outbox: a job exists if and only if the transaction that submitted it has committed. docs/outbox.md explains it.

`submit(session, ...)` writes a row into the table `sickbay_outbox` in your transaction; a relay (`sickbay outbox relay`, or `Relay`) reads
committed rows, submits them with the keys that are stored in them, and deletes what was accepted.

SQLAlchemy, psycopg and Django are yours: importing this loads neither. `pip install 'sickbay[outbox]'` brings what checking a job needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sickbay.outbox.writing import submit, submit_async

if TYPE_CHECKING:
    from sickbay.outbox.relay import Relay
    from sickbay.outbox.store import OutboxStore
    from sickbay.outbox.tables import table

__all__ = ["OutboxStore", "Relay", "submit", "submit_async", "table"]


def __getattr__(name: str) -> Any:
    """What needs SQLAlchemy is imported when it is used."""
    if name == "Relay":
        from sickbay.outbox.relay import Relay  # noqa: PLC0415 - not everybody has SQLAlchemy

        return Relay
    if name == "OutboxStore":
        from sickbay.outbox.store import OutboxStore  # noqa: PLC0415 - the same

        return OutboxStore
    if name == "table":
        from sickbay.outbox.tables import table  # noqa: PLC0415 - the same

        return table
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)

"""What the audit log says about a change of a schedule."""

from __future__ import annotations

from sickbay.contract.audit import words_of
from sickbay.contract.schedules import spec_message
from sickbay.domain.schedule import Schedule


def schedule_change(before: Schedule | None, after: Schedule | None) -> tuple[str, str]:
    """A schedule before and after a change: its state, and what differs in its spec. None: it did not exist, or does no longer.

    Such as `ACTIVE, cron=0 3 * * *`. Payloads are never told, only their lengths.
    """
    was, became = _fields(before), _fields(after)
    differing = {name for name in was.keys() | became.keys() if was.get(name) != became.get(name)}
    if before is not None and after is not None and before.spec.payload_json != after.spec.payload_json:
        differing.add("payload_json")
    return _told(before, was, differing), _told(after, became, differing)


def _fields(schedule: Schedule | None) -> dict[str, str]:
    return {} if schedule is None else words_of(spec_message(schedule.spec))


def _told(schedule: Schedule | None, fields: dict[str, str], differing: set[str]) -> str:
    if schedule is None:
        return ""
    return ", ".join([schedule.state.value, *(f"{name}={words}" for name, words in fields.items() if name in differing)])

"""The header of a released job whose run is paid for: its type has a rate of runs, and the control plane has taken for it (`run_rate.py`).

Only the released copy has it. A retry is another message without it, so it pays anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sickbay.ports import Message

PAID: Final = "rate-paid-at"
_MAX_DIGITS: Final = 16


def with_payment(message: Message, paid_at: int) -> Message:
    """The message of a job that was paid for at this time (microseconds, by the clock of the rates' store); 0: it was not."""
    return replace(message, headers={**message.headers, PAID: str(paid_at)}) if paid_at else message


def paid_at(headers: Mapping[str, str]) -> int:
    """When the job was paid for; 0 if it was not, or the header is invalid."""
    text = headers.get(PAID, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else 0

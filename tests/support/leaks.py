"""What a message for a client must never have in it."""

from __future__ import annotations

from typing import Final

LEAKS: Final = (
    "traceback",
    "sqlite",
    "sqlalchemy",
    "msgspec",
    "pydantic",
    "exception",
    "nonetype",
    "object at 0x",
    "errno",
    "psycopg",
    ".py",
)
MAX_CHARS: Final = 400


def assert_for_people(message: str) -> None:
    """One readable sentence without the machinery's words."""
    assert message
    assert "\n" not in message
    assert len(message) <= MAX_CHARS
    for leak in LEAKS:
        assert leak not in message.casefold(), message

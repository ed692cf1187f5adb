"""The format of times in REST."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as for example `2024-01-01T00:00:00.000Z`."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def millis(time: Timestamp) -> int:
    """A Timestamp as milliseconds since the epoch."""
    return time.seconds * 1000 + time.nanos // 1_000_000

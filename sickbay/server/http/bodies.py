"""A byte budget for large bodies that arrive or are processed; the others wait, unread, until there is room."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from sickbay.server.http.limits import STALLED_S


class Upload(Protocol):
    """A connection whose request has a large body."""

    def may_go_on(self) -> None:
        """There is room now: continue reading."""

    def lose_room(self) -> None:
        """Close it: it has stalled while others wait for room. Its room is already free."""


class BodyBudget:
    """Reserves room for a whole body or not at all, so that every upload with room can finish; in the order of requests.

    An upload that has room and sends nothing for a second loses it if another one waits. A body larger than the whole budget comes alone.
    """

    def __init__(self, room: int) -> None:
        """`room` in bytes."""
        self._room = room
        self._given: dict[Upload, int] = {}
        self._arriving: OrderedDict[Upload, float] = OrderedDict()
        self._queue: OrderedDict[Upload, int] = OrderedDict()
        self._held: dict[Upload, int] = {}
        self._held_bytes = 0
        self.taken = 0

    @property
    def waiting(self) -> int:
        """The number of uploads that wait for room."""
        return len(self._queue)

    def ask(self, upload: Upload, size: int, now: float) -> None:
        """Request room for a body of this size: `may_go_on` is called once there is, possibly at once."""
        self._queue[upload] = size
        self.settle(now)

    def hold(self, upload: Upload, size: int) -> bool:
        """Count bytes that were read before there was room; False if all such bytes, counted separately, exceed the whole budget."""
        self._held_bytes += size - self._held.pop(upload, 0)
        if size:
            self._held[upload] = size
        return self._held_bytes <= self._room

    def moved(self, upload: Upload, now: float) -> None:
        """Enough of its body has arrived to count as progress."""
        if upload in self._arriving:
            self._arriving[upload] = now
            self._arriving.move_to_end(upload)

    def arrived(self, upload: Upload) -> None:
        """Its body is complete: it keeps its room until `done`, and can no longer lose it."""
        self._arriving.pop(upload, None)

    def done(self, upload: Upload, now: float) -> None:
        """Its request is answered, or its connection is closed. Calling it twice is harmless."""
        self._queue.pop(upload, None)
        self.hold(upload, 0)
        if self._release(upload):
            self.settle(now)

    def settle(self, now: float) -> None:
        """Give room to waiting uploads, in order; also called every second."""
        while self._queue:
            upload, size = next(iter(self._queue.items()))
            if self._given and self.taken + size > self._room and not self._reclaim(size, now):
                return
            del self._queue[upload]
            self._given[upload] = size
            self.taken += size
            self._arriving[upload] = now
            upload.may_go_on()

    def _reclaim(self, size: int, now: float) -> bool:
        """Take room from stalled uploads, the longest stalled first, until there is enough."""
        while self._given and self.taken + size > self._room:
            stalled = next(iter(self._arriving), None)
            if stalled is None or now - self._arriving[stalled] < STALLED_S:
                return False
            self._release(stalled)
            stalled.lose_room()
        return True

    def _release(self, upload: Upload) -> bool:
        self._arriving.pop(upload, None)
        size = self._given.pop(upload, 0)
        self.taken -= size
        return bool(size)

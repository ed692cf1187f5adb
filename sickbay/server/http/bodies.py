"""Room for large bodies: so many bytes in all for those that arrive or are worked on; the others wait, unread, for their turn."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from sickbay.server.http.limits import STALLED_S


class Upload(Protocol):
    """A connection whose request has a large body."""

    def may_go_on(self) -> None:
        """There is room now: read it."""

    def lose_room(self) -> None:
        """It has stalled while others wait for room: close it. Its room is free already."""


class Bodies:
    """Room is given for a whole body or not at all, so that whoever has it can come to an end; in the order of asking.

    Who has room and sends nothing for a second loses it as soon as somebody waits. A body larger than all the room comes alone.
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
        """How many wait for room."""
        return len(self._queue)

    def ask(self, upload: Upload, size: int, now: float) -> None:
        """Room for a body of this size: `may_go_on` is called once there is, perhaps at once."""
        self._queue[upload] = size
        self.settle(now)

    def hold(self, upload: Upload, size: int) -> bool:
        """So many bytes of it were read before their time; False if all such bytes, which are counted apart, are more than all room."""
        self._held_bytes += size - self._held.pop(upload, 0)
        if size:
            self._held[upload] = size
        return self._held_bytes <= self._room

    def moved(self, upload: Upload, now: float) -> None:
        """A good piece of its body has arrived."""
        if upload in self._arriving:
            self._arriving[upload] = now
            self._arriving.move_to_end(upload)

    def arrived(self, upload: Upload) -> None:
        """Its body is complete: it keeps its room until `done`, and cannot lose it any more."""
        self._arriving.pop(upload, None)

    def done(self, upload: Upload, now: float) -> None:
        """Its request is answered, or its connection is gone. Twice is harmless."""
        self._queue.pop(upload, None)
        self.hold(upload, 0)
        if self._release(upload):
            self.settle(now)

    def settle(self, now: float) -> None:
        """Give room to those who wait, in order; to be called every second as well."""
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
        """Take room from those who stall, the longest first, until there is enough."""
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

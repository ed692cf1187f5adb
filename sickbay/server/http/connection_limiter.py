"""The connections of an HTTP port, and which one is closed when it is full: the one that has been idle longest."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Protocol

from sickbay.domain.limits import HttpLimits
from sickbay.server.http.limits import SPARE


class Member(Protocol):
    """A connection."""

    @property
    def peer(self) -> str:
        """Its client; see `peer_of`."""

    def make_room(self) -> None:
        """Close it; it is already unregistered."""


class Entry(Enum):
    """How a new connection is treated."""

    ACCEPTED = "welcome"
    PORT_FULL = "all_taken"
    """It may only request the health; all other requests are rejected."""
    PEER_FULL = "peer_taken"
    """The same, because its peer has too many."""


class _Peer:
    __slots__ = ("members", "waiting")

    def __init__(self) -> None:
        self.members = 0
        self.waiting: OrderedDict[Member, None] = OrderedDict()


class ConnectionLimiter:
    """Counts connections in all and by peer, and orders those that wait for their client, longest first.

    A new connection replaces the first of them, however short its wait: clients send their requests as soon as they are connected, so
    only thousands of simultaneous connections could make that the wrong one.
    """

    def __init__(self, limits: HttpLimits) -> None:
        """Start without connections."""
        self._limits = limits
        self._members: dict[Member, _Peer] = {}
        self._spare: OrderedDict[Member, None] = OrderedDict()
        self._peers: dict[str, _Peer] = {}
        self._waiting: OrderedDict[Member, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._members) + len(self._spare)

    def enter(self, member: Member) -> Entry:
        """Add a new connection, if necessary in place of the one that has waited for its client longest."""
        entry = self._entry(member.peer)
        if entry is Entry.ACCEPTED:
            peer = self._members[member] = self._peers.setdefault(member.peer, _Peer())
            peer.members += 1
            self.waits(member)
        else:
            if len(self._spare) >= SPARE:
                self._close(next(iter(self._spare)))
            self._spare[member] = None
        return entry

    def leave(self, member: Member) -> None:
        """Remove a connection that is closed or about to be. Calling it twice is harmless."""
        self._spare.pop(member, None)
        self.served(member)
        peer = self._members.pop(member, None)
        if peer is None:
            return
        peer.members -= 1
        if not peer.members:
            del self._peers[member.peer]

    def waits(self, member: Member) -> None:
        """From now on this connection waits for its client, for a request or for it to read."""
        if peer := self._members.get(member):
            for waiting in (self._waiting, peer.waiting):
                waiting[member] = None
                waiting.move_to_end(member)

    def served(self, member: Member) -> None:
        """From now on this client waits for us."""
        if member in self._waiting:
            del self._waiting[member]
            del self._members[member].waiting[member]

    def _entry(self, peer: str) -> Entry:
        known = self._peers.get(peer)
        if known and known.members >= self._limits.max_connections_per_peer and not self._make_room(known.waiting):
            return Entry.PEER_FULL
        if len(self._members) >= self._limits.max_connections and not self._make_room(self._waiting):
            return Entry.PORT_FULL
        return Entry.ACCEPTED

    def _make_room(self, waiting: OrderedDict[Member, None]) -> bool:
        first = next(iter(waiting), None)
        if first is not None:
            self._close(first)
        return first is not None

    def _close(self, member: Member) -> None:
        self.leave(member)
        member.make_room()

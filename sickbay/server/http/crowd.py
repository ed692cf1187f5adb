"""Who is connected to an HTTP port, and who goes when it is full: the one who has kept us waiting longest."""

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
        """Whose it is; see `peer_of`."""

    def make_room(self) -> None:
        """Close it; it has left the crowd already."""


class Entry(Enum):
    """What becomes of a new connection."""

    WELCOME = "welcome"
    ALL_TAKEN = "all_taken"
    """It may ask for health; whatever else it asks is refused."""
    PEER_TAKEN = "peer_taken"
    """The same, since its peer has too many."""


class _Peer:
    __slots__ = ("members", "waiting")

    def __init__(self) -> None:
        self.members = 0
        self.waiting: OrderedDict[Member, None] = OrderedDict()


class Crowd:
    """Counts connections in all and by peer, and keeps those that wait for their client in order, longest first.

    A new connection takes the place of the first of them, however short its wait: a client sends its request as soon as it is
    connected, so thousands must come at once before that is the wrong one.
    """

    def __init__(self, limits: HttpLimits) -> None:
        """Nobody is here yet."""
        self._limits = limits
        self._members: dict[Member, _Peer] = {}
        self._spare: OrderedDict[Member, None] = OrderedDict()
        self._peers: dict[str, _Peer] = {}
        self._waiting: OrderedDict[Member, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._members) + len(self._spare)

    def enter(self, member: Member) -> Entry:
        """A new connection. Who has kept us waiting longest makes room for it."""
        entry = self._entry(member.peer)
        if entry is Entry.WELCOME:
            peer = self._members[member] = self._peers.setdefault(member.peer, _Peer())
            peer.members += 1
            self.waits(member)
        else:
            if len(self._spare) >= SPARE:
                self._send_away(next(iter(self._spare)))
            self._spare[member] = None
        return entry

    def leave(self, member: Member) -> None:
        """It is closed, or about to be. Twice is harmless."""
        self._spare.pop(member, None)
        self.served(member)
        peer = self._members.pop(member, None)
        if peer is None:
            return
        peer.members -= 1
        if not peer.members:
            del self._peers[member.peer]

    def waits(self, member: Member) -> None:
        """We wait for this client, for its request, or for it to read: from now on."""
        if peer := self._members.get(member):
            for waiting in (self._waiting, peer.waiting):
                waiting[member] = None
                waiting.move_to_end(member)

    def served(self, member: Member) -> None:
        """This client waits for us."""
        if member in self._waiting:
            del self._waiting[member]
            del self._members[member].waiting[member]

    def _entry(self, peer: str) -> Entry:
        known = self._peers.get(peer)
        if known and known.members >= self._limits.max_connections_per_peer and not self._made_room(known.waiting):
            return Entry.PEER_TAKEN
        if len(self._members) >= self._limits.max_connections and not self._made_room(self._waiting):
            return Entry.ALL_TAKEN
        return Entry.WELCOME

    def _made_room(self, waiting: OrderedDict[Member, None]) -> bool:
        first = next(iter(waiting), None)
        if first is not None:
            self._send_away(first)
        return first is not None

    def _send_away(self, member: Member) -> None:
        self.leave(member)
        member.make_room()

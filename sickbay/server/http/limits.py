"""The fixed limits of an HTTP port, per connection, per peer and in all. `docs/limits.md` says what clients see."""

from __future__ import annotations

from typing import Final

MIB: Final = 1024 * 1024

SEND_BUFFER_BYTES: Final = 128 * 1024
"""The send buffer requested from the kernel (it doubles that); by default it would buffer some 4 MB of unread responses."""
MAX_HEADERS: Final = 128
"""Header lines of a request; Python's own HTTP client accepts 100 from a server."""
MAX_URL_BYTES: Final = 16 * 1024
CHUNK_BYTES: Final = 20
"""The longest frame of a chunk without an extension: 16 digits and two line ends."""
MAX_CHUNK_EXTRA: Final = 16 * 1024
"""Bytes of a chunked body that are neither data nor frames: extensions, trailers and leading zeros."""
SMALL_BODY: Final = 64 * 1024
"""Bodies up to this size need no room; the server buffers as much of each anyway."""
LARGEST_BODY: Final = 16 * MIB
"""A batch, the largest body that any route accepts; as much is reserved for a chunked body once it is no longer small."""
LEAST_RATE: Final = 16 * 1024
"""Each so many bytes of a body extend its `body_timeout` by a second."""
LINGER_BYTES: Final = 64 * MIB
"""Bytes that are read and discarded after a response, so that a client that writes before it reads sees the response and no reset."""
LINGER_S: Final = 30.0
MAX_LINGERING: Final = 64
"""Connections that are read after a response; beyond that, the one that was answered first is aborted."""
STALLED_S: Final = 1
"""A body that made progress less than this many seconds ago keeps its room, even if others wait for it."""
SPARE: Final = 64
"""Connections beyond the limit that are accepted, for health probes and to tell other clients to retry."""
CHUNK_PIECE: Final = 4 * 1024
"""Bytes of a chunked body that are parsed at a time: chunks may be tiny."""
TURN_PIECES: Final = 2
"""Pieces that are parsed as soon as data arrives, a head and the beginning of its body; all else takes turns."""
PARSE_RESTS: Final = 3
"""Parsing in turns is followed by a rest of so many times as long: whatever clients send, it takes a quarter of the event loop at most."""
READERS_A_TURN: Final = 1
"""Connections that read a piece of a large body before other work gets a turn."""
READ_RATE: Final = 128 * MIB
"""Bytes a second at which a large body is read while no other is."""
CROWDED_READ_RATE: Final = 32 * MIB
"""... of all connections together, while many are read: received data is copied on the event loop, and what waits is freed there."""
HAND_OVER_BYTES: Final = 16 * 1024
"""So much of a body, or its end, is given to the application at a time."""
GIVE_UP_RATE: Final = 4096 * MIB
"""Bytes a second of unfinished bodies that applications free, which takes about a quarter of that time: many may end at once."""
DISCARD_RATE: Final = 64 * MIB
"""Bytes a second that are read from all rejected connections together, and discarded."""

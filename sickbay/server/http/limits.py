"""The bounds of an HTTP port: what one connection, one peer and all together may take. `docs/limits.md` tells what clients see."""

from __future__ import annotations

from typing import Final

MIB: Final = 1024 * 1024

SEND_BUFFER_BYTES: Final = 128 * 1024
"""What the kernel is asked to take of a connection's answers (it takes twice as much); of those nobody reads it would take some 4 MB."""
MAX_HEADERS: Final = 128
"""Header lines of a request; Python's own HTTP client takes 100 from a server."""
MAX_URL_BYTES: Final = 16 * 1024
CHUNK_BYTES: Final = 20
"""The longest frame of a chunk without an extension: 16 digits and two line ends."""
MAX_CHUNK_EXTRA: Final = 16 * 1024
"""Bytes of a chunked body that are neither data nor frames: extensions, trailers and leading zeros."""
SMALL_BODY: Final = 64 * 1024
"""Bodies up to this size wait for nobody's room; the server buffers as much of each anyway."""
LARGEST_BODY: Final = 16 * MIB
"""A batch, the largest body that any route takes; of a chunked body as much is set aside once it is no longer small."""
LEAST_RATE: Final = 16 * 1024
"""Bytes a second by which a body earns more time than its first `body_timeout`."""
LINGER_BYTES: Final = 64 * MIB
"""What is read and thrown away after an answer, so that a client that writes before it reads sees the answer and no reset."""
LINGER_S: Final = 30.0
STALLED_S: Final = 1
"""A body that came forth less than this long ago keeps its room, whoever waits for it."""
SPARE: Final = 64
"""Connections beyond the bound that are taken all the same, for health probes and to tell the others to come again."""
CHUNK_PIECE: Final = 16 * 1024
"""Bytes of a chunked body that are parsed at once: chunks may be tiny."""
TURN_PIECES: Final = 2
"""Pieces of what one connection has sent that are parsed before others have their turn."""
READERS_A_TURN: Final = 4
"""Connections that read a piece of a large body before others have their turn."""

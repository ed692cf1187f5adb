"""What hostile clients do to a gRPC port, each for a few seconds, in the form of `http_attacks.py`; from an address of their own."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

from benchmarks.http_attacks import MIB, Attack, Ports, Seen
from benchmarks.raw_http2 import ACK, HEADERS, PING, RST_STREAM, SETTINGS, RawHttp2, frame, headers

ELSEWHERE: Final = "127.0.0.2"
SERVICE: Final = "/sickbay.jobs.v1.JobService"
CALL: Final = headers(f"{SERVICE}/GetJob")
BATCH_BYTES: Final = 16_000_000
_CALLS: Final = 200
_STREAMS: Final = 2 * _CALLS


def silent(ports: Ports, seconds: float, scale: int) -> Seen:
    """`scale` connections to each of the three gRPC ports, which say nothing."""
    end = time.monotonic() + seconds
    with ExitStack() as stack:
        lines = [_silent(stack, grpc) for _ in range(scale) for _, grpc in ports.values()]
        time.sleep(max(0.0, end - time.monotonic()))
        return {"connected": len(lines), "closed": sum(map(_is_closed, lines))}


def withheld(ports: Ports, seconds: float, scale: int) -> Seen:
    """`scale` connections, made anew when they are closed, with ten batches of 16 MB each of which the last byte does not come."""
    end, seen = time.monotonic() + seconds, {"closed": 0, "MiB": 0}
    sent = 0
    with ExitStack() as stack:
        attackers: list[tuple[RawHttp2, dict[int, int]]] = []
        while time.monotonic() < end:
            while len(attackers) < scale:
                client = stack.enter_context(RawHttp2(ports["Job API"][1], source=ELSEWHERE))
                client.read(0.05)
                attackers.append((client, {client.begin(f"{SERVICE}/BatchSubmitJobs", BATCH_BYTES): BATCH_BYTES - 1 for _ in range(10)}))
            for client, left in attackers:
                for stream in left:
                    filled = client.fill(stream, min(left[stream], MIB))
                    left[stream] -= filled
                    sent += filled
                client.read()
            seen["closed"] += sum(client.is_closed for client, _ in attackers)
            attackers = [one for one in attackers if not one[0].is_closed]
    return seen | {"MiB": sent // MIB}


def flood(frames: Callable[[int], bytes], ports: Ports, seconds: float, scale: int) -> Seen:
    """Frames without end over `scale` connections, each made anew when it is closed; `frames` gets the next free stream."""
    end, seen = time.monotonic() + seconds, {"bursts": 0, "connections": 0}
    clients: list[tuple[RawHttp2, int]] = []
    with ExitStack() as stack:
        while time.monotonic() < end:
            while len(clients) < scale:
                clients.append((stack.enter_context(RawHttp2(ports["Job API"][1], source=ELSEWHERE)), 1))
                seen["connections"] += 1
            for client, stream in clients:
                client.send(frames(stream))
                client.read()
                client.frames.clear()
                seen["bursts"] += 1
            for client, _ in clients:
                if client.is_closed:
                    client.close()
            clients = [(client, stream + _STREAMS) for client, stream in clients if not client.is_closed]
    return seen


def cancelled(stream: int) -> bytes:
    """Calls that are begun and cancelled at once."""
    reset = struct.pack(">I", 8)
    return b"".join(frame(HEADERS, 4, one, CALL) + frame(RST_STREAM, 0, one, reset) for one in range(stream, stream + _STREAMS, 2))


def pings(_: int) -> bytes:
    """Pings."""
    return frame(PING, 0, 0, bytes(8)) * 1_000


def settings(_: int) -> bytes:
    """Settings, and acknowledgements of none."""
    return (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)) + frame(SETTINGS, ACK, 0)) * 500


def _silent(stack: ExitStack, port: int) -> socket.socket:
    line = stack.enter_context(socket.socket())
    line.bind((ELSEWHERE, 0))
    line.settimeout(5)
    with suppress(OSError):
        line.connect(("127.0.0.1", port))
    return line


def _is_closed(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        while line.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


ATTACKS: Final[Mapping[str, tuple[Attack, int]]] = {
    "400 silent connections to each gRPC port": (silent, 400),
    "80 gRPC batches of 16 MB, last byte withheld": (withheld, 8),
    "gRPC calls that are cancelled at once": (partial(flood, cancelled), 1),
    "gRPC pings": (partial(flood, pings), 1),
    "gRPC settings": (partial(flood, settings), 1),
}
"""Each attack with its scale."""

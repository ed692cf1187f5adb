"""Hostile clients of the gRPC port of `sickbay up`, with a client beside them that must be served, and a bound on memory."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import grpc
import httpx
import psutil
import pytest

from benchmarks.raw_http2 import ACK, CONTINUATION, HEADERS, PING, RST_STREAM, SETTINGS, RawHttp2, frame, headers
from tests.support.grpc_victim import Victim, beside, submit
from tests.support.plain_http import NO_TLS
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(180)
SERVICE: Final = "/sickbay.jobs.v1.JobService"
ELSEWHERE: Final = "127.0.0.2"
MIB: Final = 1024 * 1024
FILES: Final = 1_024


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    """One for each test, without a log of errors at its end."""
    product = Victim(tmp_path, {"LOG_FORMAT": "json"}, ["--ephemeral"]).ready()
    try:
        yield product
    finally:
        product.stop()


def test_silent_connections_beyond_the_files(tmp_path: Path):
    """1,200 to a process that may have 1,024 files: all three services serve others."""
    victim = Victim(tmp_path, {"LOG_FORMAT": "json"}, ["--ephemeral"])
    resource.prlimit(victim.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    victim.ready()
    try:
        assert victim.logged("the limit of open files is 1024")
        with ExitStack() as stack:
            for number in range(1_200):
                silent = stack.enter_context(socket.socket())
                silent.bind((ELSEWHERE, 0))
                silent.settimeout(5)
                with contextlib.suppress(OSError):
                    silent.connect(("127.0.0.1", list(victim.ports.values())[number % 3][1]))
            until(lambda: victim.refused("peer_connections") > 0)
            for http, _ in victim.ports.values():
                assert httpx.get(f"http://127.0.0.1:{http}/health", timeout=20, verify=NO_TLS).status_code == 200
            submit(victim.grpc_port)
            assert psutil.Process(victim.process.pid).num_fds() < FILES // 2
    finally:
        victim.stop()


def test_no_file_is_left(tmp_path: Path):
    """Said and counted, and over as soon as there are files again."""
    victim = Victim(tmp_path, {"LOG_FORMAT": "json"}, ["--ephemeral"]).ready()
    try:
        submit(victim.grpc_port)
        process = psutil.Process(victim.process.pid)
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (process.num_fds() // 2, before[1]))
        assert victim.logged("too many open files")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", victim.grpc_port), timeout=1):
            pass
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{victim.ports['Job API'][0]}/health", timeout=1, verify=NO_TLS)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        until(lambda: _is_served(victim))
        assert victim.refused("files") > 0
        victim.terminate()
        assert victim.wait() == 0
        assert all("File descriptor limit reached" in entry["line"] for entry in victim.faults), "but for what grpc's core says by itself"
    finally:
        if victim.process.returncode is None:
            victim.kill()


def _is_served(victim: Victim) -> bool:
    with contextlib.suppress(grpc.RpcError, httpx.HTTPError):
        submit(victim.grpc_port)
        return httpx.get(f"http://127.0.0.1:{victim.ports['Job API'][0]}/health", timeout=5, verify=NO_TLS).status_code == 200
    return False


def test_batches_of_which_the_last_byte_does_not_come(victim: Victim):
    """Eight connections with ten of 16 MB each, made anew whenever one is closed: 1.2 GB at a time."""
    size, idle, deadline = 16_000_000, victim.memory, time.monotonic() + 10
    with beside(victim) as most, ExitStack() as stack:
        attackers: list[tuple[RawHttp2, dict[int, int]]] = []
        while time.monotonic() < deadline:
            while len(attackers) < 8:
                client = stack.enter_context(RawHttp2(victim.grpc_port, source=ELSEWHERE))
                client.read(0.05)
                attackers.append((client, {client.begin(f"{SERVICE}/BatchSubmitJobs", size): size - 1 for _ in range(10)}))
            for client, left in attackers:
                for stream in left:
                    left[stream] -= client.fill(stream, min(left[stream], MIB))
                client.read()
            attackers = [one for one in attackers if not one[0].is_closed]
        assert victim.refused("body_room") > 0
    assert most() - idle < 512 * MIB


CALL = headers(f"{SERVICE}/GetJob")
FLOODS = {
    "calls that are cancelled at once": lambda stream: b"".join(
        frame(HEADERS, 4, one, CALL) + frame(RST_STREAM, 0, one, struct.pack(">I", 8)) for one in range(stream, stream + 400, 2)
    ),
    "calls without a message": lambda stream: b"".join(frame(HEADERS, 4, one, CALL) for one in range(stream, stream + 400, 2)),
    "pings": lambda _: frame(PING, 0, 0, bytes(8)) * 1_000,
    "settings": lambda _: frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)) * 1_000,
    "acknowledged settings": lambda _: frame(SETTINGS, ACK, 0) * 1_000,
    "a header without an end": lambda stream: (
        (frame(HEADERS, 0, 1, CALL) if stream == 1 else b"") + frame(CONTINUATION, 0, 1, headers("/x", ("x-more", "a" * 8_000))) * 4
    ),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_floods_of_frames(victim: Victim, flood: str):
    """The server may close or refuse; it does not grow, and others are answered."""
    idle, deadline = victim.memory, time.monotonic() + 4
    with beside(victim) as most:
        while time.monotonic() < deadline:
            with RawHttp2(victim.grpc_port, source=ELSEWHERE) as client:
                stream = 1
                while not client.is_closed and time.monotonic() < deadline:
                    client.send(FLOODS[flood](stream))
                    client.read()
                    client.frames.clear()
                    stream += 400
    submit(victim.grpc_port)
    assert most() - idle < 256 * MIB

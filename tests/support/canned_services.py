"""Servers that answer whatever they are asked with what they were told, for clients of real libraries."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sickbay.domain.outcome import Outcome
from sickbay.handlers.classify import classify
from sickbay.handlers.registry import HandlerSpec

PLAIN = HandlerSpec("email", print)
Talk = Callable[[socket.socket], None]


@contextmanager
def served(talk: Talk) -> Iterator[int]:
    """The port of a server that talks so with everybody who connects."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        open_ones: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                open_ones.append(peer)
                threading.Thread(target=_talk, args=(talk, peer), daemon=True).start()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for peer in open_ones:
                peer.close()
            serving.join()


def _talk(talk: Talk, peer: socket.socket) -> None:
    try:
        talk(peer)
    except OSError:
        pass
    finally:
        peer.close()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        return once.getsockname()[1]


def http(status: int, *headers: str, body: bytes = b"{}") -> Talk:
    """Answer one request with this status."""

    def talk(peer: socket.socket) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += peer.recv(65_536) or b"\r\n\r\n"
        head = [f"HTTP/1.1 {status} Because", f"Content-Length: {len(body)}", "Connection: close", *headers]
        peer.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    return talk


def silence(peer: socket.socket) -> None:
    """Take everything and say nothing."""
    while peer.recv(65_536):
        pass


def hang_up(peer: socket.socket) -> None:
    """Take something and end the connection."""
    peer.recv(65_536)


def lines(greeting: str, answers: dict[str, str], default: str = "250 ok") -> Talk:
    """Greet, then answer each line by its first word, as in SMTP, FTP or POP3."""

    def talk(peer: socket.socket) -> None:
        with peer.makefile("rb") as heard:
            peer.sendall(greeting.encode() + b"\r\n")
            for line in heard:
                word = line.split(b" ")[0].strip().decode("latin-1").upper()
                peer.sendall(answers.get(word, default).encode() + b"\r\n")

    return talk


def always(answer: bytes) -> Talk:
    """The same answer to everything."""

    def talk(peer: socket.socket) -> None:
        while peer.recv(65_536):
            peer.sendall(answer)

    return talk


async def outcome_of(doing: Awaitable[Any]) -> Outcome:
    """What the exception that this raises means."""
    try:
        await doing
    except BaseException as error:  # noqa: BLE001 - it is what is tried
        return classify(error, PLAIN)
    pytest.fail("nothing was raised")


def outcome_of_call(function: Callable[..., Any], *args: Any) -> Outcome:
    """The same for a call."""
    try:
        function(*args)
    except BaseException as error:  # noqa: BLE001 - it is what is tried
        return classify(error, PLAIN)
    pytest.fail("nothing was raised")

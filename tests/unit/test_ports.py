"""Ports for servers that are started: nobody else gets them."""

from __future__ import annotations

import socket

import pytest

from scripts.servers import free_port


def test_a_port_that_was_given_is_nobody_elses_but_a_server_can_listen_there():
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="already in use"):
        other.bind(("127.0.0.1", port))
    for _ in range(2):  # also when it comes back
        with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()


def test_the_oldest_of_many_is_given_back():
    ports = [free_port() for _ in range(201)]
    assert len(set(ports)) == len(ports)
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports[0]))

"""Addresses, TLS, tokens and the environment."""

from __future__ import annotations

import pytest

from sickbay.client import TLS, AsyncClient, Client, FailedPrecondition
from sickbay.client.calls import Server
from sickbay.client.options import from_environment, transport_from
from sickbay.client.transport import Transport, channel_options
from sickbay.runtime.variables import Variables


def test_both_services_are_on_this_machine_by_default():
    options = from_environment({})
    assert (options.address(Server.JOB_API), options.address(Server.CONTROL_PLANE)) == ("localhost:50051", "localhost:50053")
    assert (options.timeout, options.transport) == (10.0, Transport())


def test_the_control_plane_of_another_machine_must_be_named():
    with pytest.raises(FailedPrecondition, match="SICKBAY_CONTROL_PLANE") as caught:
        from_environment({"SICKBAY_JOBAPI": "jobs.example.com:443"}).address(Server.CONTROL_PLANE)
    assert caught.value.reason == "NOT_CONFIGURED"


def test_every_variable():
    options = from_environment(
        {
            "SICKBAY_JOBAPI": " jobs:1 ",
            "SICKBAY_CONTROL_PLANE": "plane:2",
            "SICKBAY_TOKEN": "secret\n",
            "SICKBAY_TLS_CA_FILE": "ca.pem",
            "SICKBAY_TLS_CERT_FILE": "cert.pem",
            "SICKBAY_TLS_KEY_FILE": "key.pem",
            "SICKBAY_TLS_SERVER_NAME": "sickbay",
            "SICKBAY_TIMEOUT": "2.5",
        }
    )
    assert (options.job_api, options.control_plane, options.timeout) == ("jobs:1", "plane:2", 2.5)
    assert options.transport == Transport(TLS("ca.pem", "cert.pem", "key.pem", "sickbay"), "secret")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SICKBAY_TIMEOUT": "soon"}, "SICKBAY_TIMEOUT"),
        ({"SICKBAY_TIMEOUT": "0"}, "SICKBAY_TIMEOUT"),
        ({"SICKBAY_TLS": "perhaps"}, "SICKBAY_TLS must be 1 or 0"),
        ({"SICKBAY_TLS_CERT_FILE": "cert.pem"}, "SICKBAY_TLS_KEY_FILE"),
        ({"SICKBAY_TOKEN": "a", "SICKBAY_TOKEN_FILE": "b"}, "token"),
        ({"SICKBAY_TOKEN": "a", "SICKBAY_JOBAPI": "jobs:1"}, "unencrypted"),
    ],
)
def test_what_is_wrong_with_a_variable(environment, expected):
    with pytest.raises(ValueError, match=expected):
        from_environment(environment)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_token_does_not_go_to_another_machine_unencrypted(kind):
    for address in ("jobs.example.com:50051", "10.0.0.1:50051", "localhost.example.com:50051", "127.example.com:50051"):
        with pytest.raises(ValueError, match="unencrypted"):
            kind(address, token="secret")
        with pytest.raises(ValueError, match="unencrypted"):
            kind("localhost:50051", control_plane=address, token="secret")
        kind(address, token="secret", tls=True)
        kind(address, token="secret", allow_plaintext_token=True)
    for address in ("localhost:50051", "127.0.0.1:50051", "[::1]:50051", "unix:/run/sickbay.sock"):
        kind(address, token="secret")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_nothing_shows_the_token(kind, tmp_path):
    client = kind(token="hunter2", tls=TLS(cert_file="c", key_file="private"))
    shown = f"{client!r} {client._options!r} {client._options.transport!r}"
    assert "hunter2" not in shown
    assert "private" not in shown
    assert repr(client) == f"{kind.__name__}('localhost:50051', control_plane='localhost:50053')"


@pytest.mark.parametrize(
    "arguments",
    [{"token": "a", "token_file": "b"}, {"timeout": 0}, {"timeout": -1.0}, {"timeout": float("nan")}],
)
def test_arguments_that_make_no_sense(arguments):
    with pytest.raises(ValueError, match=r"token_file|timeout"):
        Client(**arguments)


def test_a_certificate_without_a_key():
    with pytest.raises(ValueError, match="both cert_file and key_file"):
        TLS(cert_file="c")


def test_a_token_file_is_read_for_each_call(tmp_path):
    file = tmp_path / "token"
    file.write_text("first\n")
    transport = Transport(token_file=file)
    assert transport.metadata() == (("authorization", "Bearer first"),)
    file.write_text("second")
    assert transport.metadata() == (("authorization", "Bearer second"),)
    assert Transport().metadata() == ()


def test_a_program_with_addresses_of_its_own():
    assert transport_from({"SICKBAY_TOKEN": "a", "SICKBAY_TLS": "1"}) == Transport(TLS(), "a")
    assert transport_from({}) == Transport()
    with pytest.raises(ValueError, match="either SICKBAY_TOKEN or"):
        transport_from({"SICKBAY_TOKEN": "a", "SICKBAY_TOKEN_FILE": "b"})


def test_a_proxy_is_not_asked_for_this_machine():
    assert ("grpc.enable_http_proxy", 0) in channel_options("localhost:1")
    assert ("grpc.enable_http_proxy", 0) not in channel_options("jobs:1")


def test_a_quiet_connection_is_asked_less_often_than_services_allow():
    """Three pings that come too early end a connection."""
    options = dict(channel_options("jobs:1"))
    assert options["grpc.keepalive_time_ms"] > 2_000 * Variables().grpc_ping_interval
    assert options["grpc.keepalive_timeout_ms"] == options["grpc.http2.ping_timeout_ms"] > 0


@pytest.mark.parametrize("in_flight", [0, -1])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_at_least_one_batch_must_be_on_its_way(kind, in_flight):
    with pytest.raises(ValueError, match="in_flight"):
        kind().submit_many([], in_flight=in_flight)


@pytest.mark.parametrize(
    ("address", "instead"),
    [
        ("http://localhost:50051", "such as localhost:50051"),
        ("https://jobs.example.com/", "such as jobs.example.com:50051"),
        ("GRPC://10.0.0.1:7", "such as 10.0.0.1:7"),
        ("jobs.example.com", "such as jobs.example.com:50051"),
        ("[::1]", r"such as \[::1\]:50051"),
    ],
)
def test_what_is_no_address_of_grpcs_is_refused_with_one_that_is(address, instead):
    with pytest.raises(ValueError, match=instead):
        Client(address)


@pytest.mark.parametrize("address", ["localhost:1", "[::1]:1", "dns:///jobs.example.com:1", "unix:/run/jobs.sock", "ipv4:10.0.0.1:1"])
def test_every_form_of_an_address_of_grpcs_is_accepted(address):
    Client(address, control_plane="localhost:2").close()

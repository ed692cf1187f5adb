"""What clients of mail, clouds, databases, ... raise when a real server answers badly, slowly or not at all."""

import ftplib
import json
from concurrent.futures import ThreadPoolExecutor

import botocore.config
import botocore.session
import grpc
import grpc.aio
import grpc_testing
import msgspec
import paramiko
import pika
import pika.exceptions
import pydantic
import pymysql
import pytest
import redis
import sqlalchemy
import sqlalchemy.exc

from sickbay.domain.outcome import OutcomeKind
from sickbay.handlers.classify import classify
from sickbay.jobs.v1 import job_service_pb2
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from tests.support.canned_services import PLAIN, closed_port, hang_up, http, lines, outcome_of, outcome_of_call, served, silence

SYSTEMIC, TRANSIENT, DATA = OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.DATA


GRPC_ANSWERS = pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        ("UNAVAILABLE", "SERVICE_UNAVAILABLE", SYSTEMIC),
        ("DEADLINE_EXCEEDED", "API_TIMEOUT", SYSTEMIC),
        ("RESOURCE_EXHAUSTED", "RATE_LIMITED", TRANSIENT),
        ("ABORTED", "GRPC_ABORTED", TRANSIENT),
        ("INTERNAL", "GRPC_INTERNAL", SYSTEMIC),
        ("UNKNOWN", "GRPC_UNKNOWN", SYSTEMIC),
        ("INVALID_ARGUMENT", "VALIDATION_ERROR", DATA),
        ("NOT_FOUND", "NOT_FOUND", DATA),
        ("ALREADY_EXISTS", "GRPC_ALREADY_EXISTS", DATA),
        ("FAILED_PRECONDITION", "GRPC_FAILED_PRECONDITION", DATA),
        ("PERMISSION_DENIED", "GRPC_PERMISSION_DENIED", DATA),
        ("UNAUTHENTICATED", "GRPC_UNAUTHENTICATED", DATA),
        ("CANCELLED", "GRPC_CANCELLED", OutcomeKind.UNKNOWN),
    ],
)


@GRPC_ANSWERS
async def test_a_grpc_answer_is_its_status(status, code, kind):
    async def abort(request, context):
        await context.abort(grpc.StatusCode[status], "because")

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": grpc.unary_unary_rpc_method_handler(abort)}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            outcome = await outcome_of(channel.unary_unary("/a.B/C")(b""))
    finally:
        await server.stop(None)
    assert (outcome.code, outcome.kind) == (code, kind)


@GRPC_ANSWERS
def test_a_grpc_answer_in_a_thread_is_its_status(status, code, kind):
    """Of a handler's own stub, as its author would test it: with the channel of grpcio-testing."""
    service = job_service_pb2.DESCRIPTOR.services_by_name["JobService"]
    channel = grpc_testing.channel([service], grpc_testing.strict_real_time())
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(JobServiceStub(channel).SubmitJob, job_service_pb2.SubmitJobRequest(job_type="email"))
        _, request, rpc = channel.take_unary_unary(service.methods_by_name["SubmitJob"])
        rpc.terminate(None, (), grpc.StatusCode[status], "because")
        outcome = classify(call.exception(), PLAIN)
    assert (request.job_type, outcome.code, outcome.kind) == ("email", code, kind)


async def test_a_grpc_server_that_is_not_there_is_unavailable():
    """Also for the client in threads."""
    with grpc.insecure_channel(f"127.0.0.1:{closed_port()}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/a.B/C")(b"")
    assert classify(caught.value, PLAIN).code == "SERVICE_UNAVAILABLE"


def bucket(port):
    session = botocore.session.Session()
    session.set_credentials("key", "secret")
    quick = botocore.config.Config(retries={"max_attempts": 0}, connect_timeout=0.3, read_timeout=0.3, s3={"addressing_style": "path"})
    return session.create_client("s3", region_name="eu-west-1", endpoint_url=f"http://127.0.0.1:{port}", config=quick)


def aws(code):
    return f"<Error><Code>{code}</Code><Message>because</Message></Error>".encode()


@pytest.mark.parametrize(
    ("talk", "code", "kind"),
    [
        (http(404, body=aws("NoSuchKey")), "NOT_FOUND", DATA),
        (http(503, body=aws("SlowDown")), "RATE_LIMITED", TRANSIENT),
        (http(400, body=aws("ThrottlingException")), "RATE_LIMITED", TRANSIENT),
        (http(403, body=aws("InvalidAccessKeyId")), "AUTH_FAILED", SYSTEMIC),
        (http(400, body=aws("ExpiredToken")), "AUTH_FAILED", SYSTEMIC),
        (http(403, body=aws("AccessDenied")), "HTTP_403", DATA),
        (http(500, body=aws("InternalError")), "HTTP_500", SYSTEMIC),
        (silence, "API_TIMEOUT", SYSTEMIC),
        (hang_up, "NETWORK_ERROR", TRANSIENT),
    ],
)
def test_an_answer_of_aws_is_its_code_and_status(talk, code, kind):
    """Throttling and expired credentials come with HTTP 400."""
    with served(talk) as port:
        outcome = outcome_of_call(lambda: bucket(port).get_object(Bucket="bucket", Key="key"))
    assert (outcome.code, outcome.kind) == (code, kind)


def test_a_request_to_aws_that_cannot_be_made_is_this_jobs():
    """Nothing was asked."""
    with pytest.raises(Exception, match="Key") as caught:
        bucket(closed_port()).get_object(Bucket="bucket")
    assert (classify(caught.value, PLAIN).code, classify(caught.value, PLAIN).kind) == ("VALIDATION_ERROR", DATA)
    with pytest.raises(Exception, match="connect") as caught:
        bucket(closed_port()).get_object(Bucket="bucket", Key="key")
    assert classify(caught.value, PLAIN).code == "CONNECTION_REFUSED"


@pytest.mark.parametrize(
    "connect",
    [
        lambda port: redis.Redis(port=port, retry=None).get("key"),
        lambda port: pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, connection_attempts=1)),
        lambda port: paramiko.SSHClient().connect("127.0.0.1", port),
        lambda port: pymysql.connect(host="127.0.0.1", port=port),
        lambda port: ftplib.FTP().connect("127.0.0.1", port),  # noqa: S321 - what its exceptions mean
    ],
    ids=["redis", "pika", "paramiko", "pymysql", "ftplib"],
)
def test_what_cannot_be_reached_counts(connect):
    """Nobody listens there."""
    outcome = outcome_of_call(connect, closed_port())
    assert outcome.code in {"CONNECTION_REFUSED", "NETWORK_ERROR"}
    assert outcome.kind.is_breaker_failure


def test_a_server_that_speaks_no_ssh_counts():
    """A proxy answered."""
    with served(lines("HTTP/1.1 400 no", {})) as port, pytest.raises(paramiko.SSHException) as caught:
        paramiko.SSHClient().connect("127.0.0.1", port, banner_timeout=0.5, timeout=0.5)
    assert classify(caught.value, PLAIN).kind.is_breaker_failure


def test_what_cannot_be_decoded_or_is_not_valid_is_data():
    """Libraries that check."""

    class Model(pydantic.BaseModel):
        a: int

    class Struct(msgspec.Struct):
        a: int

    for check in (
        lambda: Model.model_validate({}),
        lambda: msgspec.json.decode(b"{}", type=Struct),
        lambda: msgspec.json.decode(b"{"),
        lambda: msgspec.convert({"a": "x"}, Struct),
        lambda: json.loads("{"),
    ):
        assert outcome_of_call(check).kind is DATA


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (pika.exceptions.ChannelClosedByBroker(404, "no queue"), "AMQP_404", DATA),
        (pika.exceptions.ChannelClosedByBroker(403, "no"), "AUTH_FAILED", SYSTEMIC),
        (pika.exceptions.ConnectionClosedByBroker(320, "shutdown"), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (pika.exceptions.ProbableAuthenticationError("no"), "AUTH_FAILED", SYSTEMIC),
        (pika.exceptions.UnroutableError([]), "UNROUTABLE_ERROR", DATA),
        (pika.exceptions.NackError([]), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (pika.exceptions.StreamLostError("gone"), "NETWORK_ERROR", TRANSIENT),
        (paramiko.AuthenticationException("no"), "AUTH_FAILED", SYSTEMIC),
        (pymysql.err.OperationalError(1213, "deadlock"), "MYSQL_1213", TRANSIENT),
        (pymysql.err.OperationalError(1040, "too many"), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (pymysql.err.IntegrityError(1062, "duplicate"), "INTEGRITY_ERROR", DATA),
        (pymysql.err.ProgrammingError(1064, "syntax"), "MYSQL_1064", DATA),
        (sqlalchemy.exc.NoResultFound(), "NOT_FOUND", DATA),
        (sqlalchemy.exc.TimeoutError(), "API_TIMEOUT", SYSTEMIC),
    ],
)
def test_what_else_libraries_raise(error, code, kind):
    """Made by hand, since a server would have to be brought to it."""
    assert (classify(error, PLAIN).code, classify(error, PLAIN).kind) == (code, kind)

"""What further libraries raise; tried where they are installed. A class that was renamed is noticed there."""

import importlib
import sys
import warnings

import pytest

from sickbay.domain.outcome import OutcomeKind
from sickbay.handlers.classify import classify
from sickbay.handlers.known import RULES
from tests.support.canned_services import PLAIN

SYSTEMIC, TRANSIENT, DATA = OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.DATA
HOMES = {
    "azure.core": "azure.core.exceptions", "google.api_core": "google.api_core.exceptions", "google.auth": "google.auth.exceptions",
    "googleapiclient": "googleapiclient.errors", "google.protobuf": "google.protobuf.json_format", "dns": "dns.resolver",
    "pymongo": "pymongo.errors", "twilio": "twilio.base.exceptions", "python_http_client": "python_http_client.exceptions",
    "slack_sdk": "slack_sdk.errors", "kubernetes": "kubernetes.client.exceptions", "opensearchpy": "opensearchpy.exceptions",
    "kafka": "kafka.errors", "aiokafka": "aiokafka.errors", "cimpl": "confluent_kafka", "kombu": "kombu.exceptions",
    "amqp": "amqp.exceptions", "nats": "nats.errors", "ldap3": "ldap3.core.exceptions", "bson": "bson.errors", "psycopg": "psycopg.errors",
    "jinja2": "jinja2.exceptions", "lxml": "lxml.etree", "cryptography": "cryptography.exceptions", "requests": "requests.exceptions",
    "urllib3": "urllib3.exceptions", "redis": "redis.exceptions", "sqlalchemy": "sqlalchemy.exc", "pika": "pika.exceptions",
    "aiormq": "aiormq.exceptions", "botocore": "botocore.exceptions", "websockets": "websockets.exceptions",
    "grpclib": "grpclib.exceptions",
    "mysql.connector": "mysql.connector.errors", "cattrs": "cattrs.errors", "pymysql": "pymysql.err", "jsonschema": "jsonschema.exceptions",
    "paramiko": "paramiko.ssh_exception", "_csv": "csv", "_lzma": "lzma", "_pickle": "pickle", "ssl": "ssl",
    "django.core": "django.core.exceptions",
}  # fmt: skip
GONE = {
    "re": {"PatternError", "error"},  # one of them, by the version of Python
    "cryptography": {"InvalidToken"},  # in cryptography.fernet
    "google.protobuf": {"DecodeError", "EncodeError"},  # in google.protobuf.message
    "dns": {"Timeout", "DNSException"},  # in dns.exception
    "kafka": {"NoBrokersAvailable"},  # until kafka-python 2
    "paramiko": {"UnknownKeyType"},  # in paramiko.pkey
    "pydantic": {"ValidationError"},  # of pydantic 1
}


def home(library):
    name = HOMES.get(library, library)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.library}: {' '.join(rule.names)[:40]}")
def test_the_classes_of_a_rule_are_there_and_say_where_they_come_from(rule):
    """In the version that is installed, so that a rule cannot rot unseen."""
    module = home(rule.library)
    for name in set(rule.names) - GONE.get(rule.library, set()):
        found = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is None and rule.library in {"asyncpg", "stripe", "httpcore", "boto"}:
            continue
        assert found is not None, name
        assert issubclass(found, BaseException)
        assert found.__qualname__ == name or any(cls.__qualname__ == name for cls in found.__mro__)
        assert any(cls.__module__ == rule.library or cls.__module__.startswith(f"{rule.library}.") for cls in found.__mro__), (
            found.__module__
        )


def made(module, name, *args, **fields):
    home(module)
    found = sys.modules[HOMES.get(module, module)]
    for part in name.split("."):
        found = getattr(found, part)
    error = found(*args)
    for field, value in fields.items():
        setattr(error, field, value)
    return error


@pytest.mark.parametrize(
    ("make", "code", "kind"),
    [
        (lambda: made("google.api_core", "NotFound", "no"), "NOT_FOUND", DATA),
        (lambda: made("google.api_core", "ServiceUnavailable", "no"), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (lambda: made("azure.core", "HttpResponseError", "no", status_code=500), "HTTP_500", SYSTEMIC),
        (lambda: made("azure.core", "ResourceNotFoundError", "no", status_code=404), "NOT_FOUND", DATA),
        (lambda: made("azure.core", "ServiceRequestError", "no"), "NETWORK_ERROR", TRANSIENT),
        (lambda: made("pymongo", "DuplicateKeyError", "no"), "DUPLICATE_KEY_ERROR", DATA),
        (lambda: made("pymongo", "OperationFailure", "no", 18), "AUTH_FAILED", SYSTEMIC),
        (lambda: made("pymongo", "OperationFailure", "no", 112), "MONGO_112", TRANSIENT),
        (lambda: made("pymongo", "ServerSelectionTimeoutError", "no"), "API_TIMEOUT", SYSTEMIC),
        (lambda: made("pymongo", "NotPrimaryError", "no"), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (lambda: made("psycopg", "UniqueViolation", "no"), "SQL_23505", DATA),
        (lambda: made("psycopg", "DeadlockDetected", "no"), "SQL_40P01", TRANSIENT),
        (lambda: made("psycopg", "AdminShutdown", "no"), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (lambda: made("psycopg", "ConnectionTimeout", "no"), "API_TIMEOUT", SYSTEMIC),
        (lambda: made("mysql.connector", "IntegrityError", "no", 1062), "INTEGRITY_ERROR", DATA),
        (lambda: made("mysql.connector", "OperationalError", "no", 2003), "CONNECTION_REFUSED", SYSTEMIC),
        (lambda: made("twilio", "TwilioRestException", 400, "uri"), "BAD_REQUEST", DATA),
        (lambda: made("twilio", "TwilioRestException", 503, "uri"), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (lambda: made("stripe", "CardError", "no", "number", "declined", None, 402), "HTTP_402", DATA),
        (lambda: made("stripe", "APIConnectionError", "no"), "NETWORK_ERROR", TRANSIENT),
        (lambda: made("stripe", "RateLimitError", "no", None, 429), "RATE_LIMITED", TRANSIENT),
        (lambda: made("kubernetes", "ApiException", 404), "NOT_FOUND", DATA),
        (lambda: made("opensearchpy", "ConnectionTimeout", "N/A", "no", "no"), "API_TIMEOUT", SYSTEMIC),
        (lambda: made("opensearchpy", "RequestError", 400, "no", "no"), "BAD_REQUEST", DATA),
        (lambda: made("kombu", "OperationalError", "no"), "NETWORK_ERROR", TRANSIENT),
        (lambda: made("amqp", "NotFound", "no", reply_code=404), "AMQP_404", DATA),
        (lambda: made("ldap3", "LDAPSocketOpenError", "no"), "CONNECTION_REFUSED", SYSTEMIC),
        (lambda: made("ldap3", "LDAPBusyResult", 51), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (lambda: made("ldap3", "LDAPNoSuchObjectResult", 32), "LDAP_32", DATA),
        (lambda: made("dns", "NXDOMAIN"), "NOT_FOUND", DATA),
        (lambda: made("dns", "NoNameservers"), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (lambda: made("kafka", "KafkaConnectionError"), "NETWORK_ERROR", TRANSIENT),
        (lambda: made("aiokafka", "KafkaTimeoutError"), "API_TIMEOUT", SYSTEMIC),
        (lambda: made("asyncssh", "ConnectionLost", "no"), "NETWORK_ERROR", TRANSIENT),
        (lambda: made("asyncssh", "SFTPNoSuchFile", "no"), "NOT_FOUND", DATA),
        (lambda: made("asyncssh", "PermissionDenied", "no"), "AUTH_FAILED", SYSTEMIC),
        (lambda: made("jsonschema", "ValidationError", "no"), "VALIDATION_ERROR", DATA),
        (lambda: made("marshmallow", "ValidationError", "no"), "VALIDATION_ERROR", DATA),
        (lambda: made("aiormq", "AMQPConnectionError", "no"), "NETWORK_ERROR", TRANSIENT),
        (lambda: made("aiormq", "ChannelNotFoundEntity", "no"), "CHANNEL_NOT_FOUND_ENTITY", DATA),
    ],
)
def test_what_further_libraries_raise(make, code, kind):
    """One or two of each."""
    error = make()
    assert (classify(error, PLAIN).code, classify(error, PLAIN).kind) == (code, kind)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("HTTPError", {"code": 503}),
        ("SMTPResponseException", {"code": 550}),
        ("ClientError", {"status": 503, "response": {"Error": {"Code": "SlowDown"}}}),
        ("RpcError", {"code": lambda self: 14}),
        ("TimeoutException", {"status_code": 500}),
    ],
)
def test_a_class_of_ones_own_is_not_taken_for_a_librarys(name, fields):
    """Neither by its name nor by an attribute that happens to be called `code` or `status`."""
    error = type(name, (Exception,), {"__module__": "my_handlers", **fields})("no")
    assert classify(error, PLAIN).kind is OutcomeKind.UNKNOWN


def test_an_error_of_an_sdk_that_carries_the_response_of_a_known_client_is_that_responses_status():
    """Most SDKs are built on one of them."""
    httpx = pytest.importorskip("httpx")

    class SdkError(Exception):
        response = httpx.Response(429, headers={"Retry-After": "4"})

    outcome = classify(SdkError("no"), PLAIN)
    assert (outcome.code, outcome.kind, outcome.retry_after_ms) == ("RATE_LIMITED", TRANSIENT, 4_000)

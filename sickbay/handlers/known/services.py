"""Mail, message brokers, SSH, DNS, and libraries that check or decode data."""

from __future__ import annotations

from typing import Final

from sickbay.handlers.known.readers import amqp_reply, os_error, smtp_recipients, smtp_reply
from sickbay.handlers.known.rule import DATA, SYSTEMIC, Known, Rule, known, read_rule, rule

_BY_REPLY: Final = "by the broker's reply code"


def _pika_connection(error: BaseException) -> Known | None:
    return amqp_reply(error) or known("NETWORK_ERROR")


def _paramiko_connect(error: BaseException) -> Known | None:
    return os_error(error) or known("CONNECTION_REFUSED")


RULES: Final[tuple[Rule, ...]] = (
    rule("aiosmtplib", "SMTPTimeoutError", "API_TIMEOUT"),
    rule("aiosmtplib", "SMTPConnectError SMTPHeloError", "SERVICE_UNAVAILABLE"),
    rule("aiosmtplib", "SMTPConnectResponseError", "SERVICE_UNAVAILABLE"),
    rule("aiosmtplib", "SMTPServerDisconnected", "NETWORK_ERROR"),
    rule("aiosmtplib", "SMTPAuthenticationError", "AUTH_FAILED", SYSTEMIC),
    read_rule("aiosmtplib", "SMTPRecipientsRefused", smtp_recipients, "by the best reply of all recipients"),
    read_rule("aiosmtplib", "SMTPResponseException", smtp_reply, "by its SMTP reply"),
    rule("pika", "ProbableAuthenticationError ProbableAccessDeniedError AuthenticationError", "AUTH_FAILED", SYSTEMIC),
    rule("pika", "ConnectionBlockedTimeout NackError", "SERVICE_UNAVAILABLE"),
    read_rule("pika", "AMQPConnectionError", _pika_connection, f"{_BY_REPLY}, else `NETWORK_ERROR`"),
    read_rule("pika", "ChannelClosed", amqp_reply, _BY_REPLY),
    rule("pika", "UnroutableError BodyTooLongError ShortStringTooLong InvalidFieldTypeException UnsupportedAMQPFieldException", "", DATA),
    rule("pika", "AMQPChannelError", "NETWORK_ERROR"),
    rule("aiormq", "ProbableAuthenticationError AuthenticationError ChannelAccessRefused ConnectionNotAllowed", "AUTH_FAILED", SYSTEMIC),
    rule("aiormq", "PublishError", "", DATA),
    rule("aiormq", "DeliveryError", "SERVICE_UNAVAILABLE"),
    rule("aiormq", "ChannelNotFoundEntity ChannelPreconditionFailed", "", DATA),
    read_rule("aiormq", "AMQPConnectionError ChannelClosed", _pika_connection, f"{_BY_REPLY}, else `NETWORK_ERROR`"),
    rule("aiormq", "ChannelInvalidStateError", "NETWORK_ERROR"),
    rule("kombu", "OperationalError LimitExceeded", "NETWORK_ERROR"),
    rule("kombu", "SerializationError", "VALIDATION_ERROR"),
    read_rule("amqp", "ConnectionError ChannelError", _pika_connection, f"{_BY_REPLY}, else `NETWORK_ERROR`"),
    rule("amqp", "MessageNacked", "SERVICE_UNAVAILABLE"),
    rule("nats", "NoServersError ConnectionClosedError StaleConnectionError NoRespondersError", "NETWORK_ERROR"),
    rule("nats", "MaxPayloadError BadSubjectError", "VALIDATION_ERROR"),
    rule("paramiko", "AuthenticationException BadHostKeyException", "AUTH_FAILED", SYSTEMIC),
    read_rule("paramiko", "NoValidConnectionsError", _paramiko_connect, "`CONNECTION_REFUSED`, or by `errno`"),
    rule("paramiko", "ConfigParseError UnknownKeyType", "", DATA),
    rule("paramiko", "SSHException", "NETWORK_ERROR"),
    rule("asyncssh", "PermissionDenied HostKeyNotVerifiable", "AUTH_FAILED", SYSTEMIC),
    rule("asyncssh", "SFTPConnectionLost SFTPNoConnection DisconnectError ChannelOpenError", "NETWORK_ERROR"),
    rule("asyncssh", "SFTPQuotaExceeded SFTPNoSpaceOnFilesystem", "SERVICE_UNAVAILABLE"),
    rule("asyncssh", "SFTPNoSuchFile SFTPNoSuchPath", "NOT_FOUND"),
    rule("asyncssh", "SFTPError", "", DATA),
    rule("dns", "Timeout", "API_TIMEOUT"),
    rule("dns", "NoNameservers", "SERVICE_UNAVAILABLE"),
    rule("dns", "NXDOMAIN NoAnswer YXDOMAIN", "NOT_FOUND"),
    rule("dns", "DNSException", "VALIDATION_ERROR"),
    rule("pydantic", "ValidationError", "VALIDATION_ERROR"),
    rule("pydantic_core", "ValidationError", "VALIDATION_ERROR"),
    rule("msgspec", "ValidationError DecodeError", "VALIDATION_ERROR"),
    rule("marshmallow", "ValidationError", "VALIDATION_ERROR"),
    rule("jsonschema", "ValidationError", "VALIDATION_ERROR"),
    rule("cattrs", "CattrsError", "VALIDATION_ERROR"),
    rule("voluptuous", "Invalid", "VALIDATION_ERROR"),
    rule("google.protobuf", "DecodeError EncodeError Error", "VALIDATION_ERROR"),
    rule("jwt", "PyJWTError", "", DATA),
    rule("cryptography", "InvalidSignature InvalidTag InvalidToken", "", DATA),
    rule("jinja2", "TemplateError", "", DATA),
    rule("lxml", "LxmlError", "", DATA),
    rule("PIL", "UnidentifiedImageError", "", DATA),
    rule("yaml", "YAMLError", "", DATA),
    rule("phonenumbers", "NumberParseException", "", DATA),
)

"""Clients of HTTP, gRPC and clouds. Responses with server errors (5xx, 429) count towards opening the breaker, and so does no response."""

from __future__ import annotations

from typing import Final

from sickbay.domain.raised import attribute, full_name, is_a, plain
from sickbay.handlers.known.readers import by_grpc_code, by_status, connection, grpc_status, http
from sickbay.handlers.known.rule import DATA, SYSTEMIC, TRANSIENT, Known, Rule, at, call_method, item, known, read_rule, rule, whole, words

BY_STATUS: Final = "by its HTTP status"
_THROTTLED: Final = words(
    "Throttling ThrottlingException ThrottledException ThrottlingError RequestThrottled RequestThrottledException TooManyRequestsException "
    "RequestLimitExceeded BandwidthLimitExceeded LimitExceededException ProvisionedThroughputExceededException SlowDown "
    "PriorRequestNotComplete TransactionInProgressException EC2ThrottledException"
)
_AUTH_FAILED: Final = words(
    "AuthFailure ExpiredToken ExpiredTokenException InvalidAccessKeyId InvalidClientTokenId RequestExpired SignatureDoesNotMatch "
    "InvalidSignatureException UnrecognizedClientException IncompleteSignature RequestTimeTooSkewed"
)
_HEAD_CODES: Final = {"400": known("BAD_REQUEST"), "403": known("HTTP_403"), "404": known("NOT_FOUND")}
"""The response to HEAD has no body, so botocore uses the status as the code."""


def _aws(error: BaseException) -> Known | None:
    response = attribute(error, "response")
    code = plain(item(response, "Error", "Code"))
    if code in _THROTTLED:
        return known("RATE_LIMITED")
    if code in _AUTH_FAILED:
        return known("AUTH_FAILED", SYSTEMIC)
    if code in {"RequestTimeout", "RequestTimeoutException"}:
        return known("API_TIMEOUT")
    return by_status(item(response, "ResponseMetadata", "HTTPStatusCode")) or _HEAD_CODES.get(code)


def _grpclib(error: BaseException) -> Known | None:
    return by_grpc_code(plain(at(error, "status.name")))


def _stripe(error: BaseException) -> Known | None:
    return by_status(attribute(error, "http_status"))


def _requests(error: BaseException) -> Known | None:
    """`requests` wraps urllib3's exception, which wraps the reason."""
    from sickbay.handlers.known import known_of  # noqa: PLC0415 - this table is a part of that

    reason = attribute(item(attribute(error, "args"), 0), "reason")
    return (known_of(reason) if is_a(reason, BaseException) else None) or known("NETWORK_ERROR")


def _slack(error: BaseException) -> Known | None:
    error_code = plain(item(attribute(error, "response"), "error"))
    if error_code in {"ratelimited", "rate_limited"}:
        return known("RATE_LIMITED")
    if error_code in {"internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"}:
        return known("SERVICE_UNAVAILABLE")
    return by_status(at(error, "response.status_code")) or (known("BAD_REQUEST") if error_code else None)


def _confluent(error: BaseException) -> Known | None:
    inner = item(attribute(error, "args"), 0)
    return known("KAFKA_RETRIABLE", TRANSIENT) if call_method(inner, "retriable") is True else None


def carried_response(error: BaseException) -> Known | None:
    """By `response`, for exceptions of unknown classes that have the response of a known client (SDKs built on it)."""
    response = attribute(error, "response")
    if full_name(type(response))[0].partition(".")[0] not in {"httpx", "requests", "aiohttp", "urllib3"}:
        return None
    status = whole(attribute(response, "status_code"))
    return by_status(attribute(response, "status") if status is None else status)


RULES: Final[tuple[Rule, ...]] = (
    read_rule("httpx", "HTTPStatusError", http("response.status_code"), BY_STATUS),
    rule("httpx", "TimeoutException", "API_TIMEOUT"),
    rule("httpx", "ConnectError", "CONNECTION_REFUSED"),
    rule("httpx", "UnsupportedProtocol InvalidURL LocalProtocolError", "VALIDATION_ERROR"),
    rule("httpx", "DecodingError", "BAD_RESPONSE", TRANSIENT),
    rule("httpx", "TooManyRedirects", "TOO_MANY_REDIRECTS", DATA),
    rule("httpx", "TransportError", "NETWORK_ERROR"),
    rule("httpcore", "TimeoutException", "API_TIMEOUT"),
    rule("httpcore", "ConnectError", "CONNECTION_REFUSED"),
    rule("httpcore", "NetworkError ProtocolError ProxyError ConnectionNotAvailable", "NETWORK_ERROR"),
    read_rule("requests", "HTTPError", http("response.status_code"), BY_STATUS),
    rule("requests", "Timeout ConnectTimeout", "API_TIMEOUT"),
    read_rule("requests", "ConnectionError", _requests, "by its reason, else `NETWORK_ERROR`"),
    rule("requests", "InvalidURL InvalidSchema MissingSchema InvalidHeader URLRequired", "VALIDATION_ERROR"),
    rule("requests", "JSONDecodeError ContentDecodingError", "BAD_RESPONSE", TRANSIENT),
    rule("requests", "InvalidJSONError", "VALIDATION_ERROR"),
    rule("requests", "TooManyRedirects", "TOO_MANY_REDIRECTS", DATA),
    rule("requests", "ChunkedEncodingError RetryError", "NETWORK_ERROR"),
    read_rule("aiohttp", "ClientResponseError", http("status"), BY_STATUS),
    rule("aiohttp", "TooManyRedirects", "TOO_MANY_REDIRECTS", DATA),
    rule("aiohttp", "ContentTypeError", "BAD_RESPONSE", TRANSIENT),
    rule("aiohttp", "ServerTimeoutError", "API_TIMEOUT"),
    read_rule("aiohttp", "ClientOSError", connection, "by `errno`, else `NETWORK_ERROR`"),
    rule("aiohttp", "ClientConnectionError ClientPayloadError", "NETWORK_ERROR"),
    rule("aiohttp", "InvalidURL NonHttpUrlClientError", "VALIDATION_ERROR"),
    rule("urllib3", "TimeoutError", "API_TIMEOUT"),
    rule("urllib3", "NameResolutionError", "NETWORK_ERROR"),
    rule("urllib3", "NewConnectionError", "CONNECTION_REFUSED"),
    rule("urllib3", "LocationValueError", "VALIDATION_ERROR"),
    rule("urllib3", "DecodeError", "BAD_RESPONSE", TRANSIENT),
    rule("urllib3", "HTTPError", "NETWORK_ERROR"),
    read_rule("websockets", "InvalidStatus", http("response.status_code"), BY_STATUS),
    rule("websockets", "ConnectionClosed InvalidHandshake", "NETWORK_ERROR"),
    rule("websockets", "InvalidURI", "VALIDATION_ERROR"),
    read_rule("grpc", "RpcError", grpc_status, "by its status"),
    rule("grpc", "FutureTimeoutError", "API_TIMEOUT"),
    read_rule("grpclib", "GRPCError", _grpclib, "by its status"),
    rule("grpclib", "StreamTerminatedError", "NETWORK_ERROR"),
    read_rule("botocore", "ClientError", _aws, "by its error code (throttling, credentials), else its HTTP status"),
    rule("botocore", "ConnectTimeoutError ReadTimeoutError", "API_TIMEOUT"),
    rule("botocore", "EndpointConnectionError ProxyConnectionError", "CONNECTION_REFUSED"),
    rule("botocore", "ConnectionError HTTPClientError SSLError IncompleteReadError", "NETWORK_ERROR"),
    rule(
        "botocore",
        "NoCredentialsError PartialCredentialsError CredentialRetrievalError TokenRetrievalError SSOError NoAuthTokenError LoginError",
        "AUTH_FAILED",
        SYSTEMIC,
    ),
    rule("botocore", "ParamValidationError ValidationError MissingParametersError InvalidDNSNameError", "VALIDATION_ERROR"),
    read_rule("boto", "BotoServerError", http("status"), BY_STATUS),
    read_rule("google.api_core", "GoogleAPICallError", http("code"), BY_STATUS),
    rule("google.api_core", "RetryError", "API_TIMEOUT"),
    rule("google.auth", "TransportError", "NETWORK_ERROR"),
    rule("google.auth", "DefaultCredentialsError RefreshError", "AUTH_FAILED", SYSTEMIC),
    read_rule("googleapiclient", "HttpError", http("resp.status"), BY_STATUS),
    read_rule("azure.core", "HttpResponseError", http("status_code"), BY_STATUS),
    rule("azure.core", "ClientAuthenticationError", "AUTH_FAILED", SYSTEMIC),
    rule("azure.core", "ServiceRequestTimeoutError ServiceResponseTimeoutError", "API_TIMEOUT"),
    rule("azure.core", "ServiceRequestError ServiceResponseError IncompleteReadError", "NETWORK_ERROR"),
    rule("azure.core", "DecodeError", "BAD_RESPONSE", TRANSIENT),
    read_rule("stripe", "StripeError", _stripe, BY_STATUS),
    rule("stripe", "APIConnectionError", "NETWORK_ERROR"),
    read_rule("twilio", "TwilioRestException", http("status"), BY_STATUS),
    read_rule("python_http_client", "HTTPError", http("status_code"), BY_STATUS),
    read_rule("slack_sdk", "SlackApiError", _slack, "by its `error`, else its HTTP status"),
    read_rule("kubernetes", "ApiException", http("status"), BY_STATUS),
    read_rule("elastic_transport", "ApiError", http("meta.status"), BY_STATUS),
    rule("elastic_transport", "ConnectionTimeout", "API_TIMEOUT"),
    rule("elastic_transport", "ConnectionError SniffingError", "NETWORK_ERROR"),
    rule("elastic_transport", "SerializationError", "VALIDATION_ERROR"),
    read_rule("opensearchpy", "TransportError", http("status_code"), BY_STATUS),
    rule("opensearchpy", "ConnectionTimeout", "API_TIMEOUT"),
    rule("opensearchpy", "ConnectionError", "NETWORK_ERROR"),
    rule("opensearchpy", "SerializationError", "VALIDATION_ERROR"),
    rule("kafka", "KafkaTimeoutError", "API_TIMEOUT"),
    rule("kafka", "KafkaConnectionError NoBrokersAvailable NodeNotReadyError MetadataEmptyBrokerList", "NETWORK_ERROR"),
    rule("kafka", "MessageSizeTooLargeError RecordListTooLargeError InvalidTopicError", "VALIDATION_ERROR"),
    rule("aiokafka", "KafkaTimeoutError RequestTimedOutError", "API_TIMEOUT"),
    rule("aiokafka", "KafkaConnectionError NoBrokersAvailable NodeNotReadyError", "NETWORK_ERROR"),
    rule("aiokafka", "MessageSizeTooLargeError RecordListTooLargeError InvalidTopicError", "VALIDATION_ERROR"),
    read_rule("cimpl", "KafkaException", _confluent, "retriable ones: `KAFKA_RETRIABLE`"),
)

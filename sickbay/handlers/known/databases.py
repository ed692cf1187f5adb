"""Databases, caches and directories. By SQLSTATE or the server's own number where there is one, else by the class of PEP 249."""

from __future__ import annotations

from typing import Final

from sickbay.domain.raised import attribute, class_name, classes, is_a, plain
from sickbay.handlers.known.rule import (
    DATA,
    SYSTEMIC,
    TRANSIENT,
    UNKNOWN,
    Known,
    Reader,
    Rule,
    item,
    known,
    read_rule,
    rule,
    whole,
    words,
)

_STATES: Final = {
    "25006": known("SERVICE_UNAVAILABLE"),
    "55P03": known("SQL_55P03", TRANSIENT),
    "57014": known("API_TIMEOUT"),
    "42501": known("AUTH_FAILED", SYSTEMIC),
}
_STATE_CLASSES: Final = {
    "08": known("NETWORK_ERROR"),
    "28": known("AUTH_FAILED", SYSTEMIC),
    "53": known("SERVICE_UNAVAILABLE"),
    "57": known("SERVICE_UNAVAILABLE"),
    "58": known("SERVICE_UNAVAILABLE"),
}
_STATE_KINDS: Final = {
    **dict.fromkeys(("02", "0A", "20", "21", "22", "23", "24", "26", "27", "34", "42", "44", "54", "P0"), DATA),
    "40": TRANSIENT,
    "XX": SYSTEMIC,
    "F0": SYSTEMIC,
}
_MYSQL: Final = {
    **dict.fromkeys((1040, 1041, 1053, 1129, 1203, 1226, 1290, 1836, 1021, 1037, 1038, 1114, 3100, 3168), known("SERVICE_UNAVAILABLE")),
    **dict.fromkeys((1044, 1045, 1130, 1142, 1143, 1227, 1698, 1820, 1862), known("AUTH_FAILED", SYSTEMIC)),
    **dict.fromkeys((2002, 2003), known("CONNECTION_REFUSED")),
    **dict.fromkeys((1158, 1159, 1160, 1161, 2005, 2006, 2013, 2026, 2055), known("NETWORK_ERROR")),
    **dict.fromkeys((1317, 3024), known("API_TIMEOUT")),
    **{number: known(f"MYSQL_{number}", TRANSIENT) for number in (1205, 1213, 3572)},
    **{number: known(f"MYSQL_{number}", DATA) for number in (1054, 1064, 1146, 1264, 1265, 1292, 1364, 1366, 1406, 1690, 3140, 3819)},
}
_SQLITE: Final = {5: "BUSY", 6: "LOCKED", 8: "READONLY", 10: "IOERR", 11: "CORRUPT", 13: "FULL", 14: "CANTOPEN", 26: "NOTADB", 7: "NOMEM"}
_MONGO: Final = {
    **dict.fromkeys((13, 18), known("AUTH_FAILED", SYSTEMIC)),
    **dict.fromkeys((50, 262), known("API_TIMEOUT")),
    **dict.fromkeys((91, 189, 6, 7, 89, 9001, 10107, 11600, 11602, 13435, 13436, 133), known("SERVICE_UNAVAILABLE")),
    **{number: known(f"MONGO_{number}", TRANSIENT) for number in (24, 112, 251)},
}
_LDAP: Final = {
    **dict.fromkeys((51, 52, 53), known("SERVICE_UNAVAILABLE")),
    **dict.fromkeys((3, 85), known("API_TIMEOUT")),
    **dict.fromkeys((7, 8, 13, 48, 49), known("AUTH_FAILED", SYSTEMIC)),
    81: known("NETWORK_ERROR"),
}
_REDIS_UNAVAILABLE: Final = words("LOADING MASTERDOWN CLUSTERDOWN MISCONF NOREPLICAS BUSY OOM READONLY TRYAGAIN")


def by_sqlstate(state: object) -> Known | None:
    """By the classes of PostgreSQL's appendix A; None if it is not an SQLSTATE."""
    text = plain(state)
    if len(text) != 5 or not text.isascii() or not text.isalnum() or text == "00000":  # noqa: PLR2004 - an SQLSTATE's length
        return None
    exact = _STATES.get(text) or _STATE_CLASSES.get(text[:2])
    return exact or known(f"SQL_{text.upper()}", _STATE_KINDS.get(text[:2], UNKNOWN))


def _postgres(error: BaseException) -> Known | None:
    return by_sqlstate(attribute(error, "sqlstate")) or by_sqlstate(attribute(error, "pgcode"))


def _mysql(error: BaseException) -> Known | None:
    number = whole(item(attribute(error, "args"), 0))
    return _MYSQL.get(number or 0)


def _sqlite(error: BaseException) -> Known | None:
    number = whole(attribute(error, "sqlite_errorcode"))
    if number is None:
        return None
    name = _SQLITE.get(number & 0xFF)
    if name in {"BUSY", "LOCKED"}:
        return known(f"SQLITE_{name}", TRANSIENT)
    if name:
        return known(f"SQLITE_{name}", SYSTEMIC)
    return known("SQLITE_ERROR", DATA) if number == 1 else None


def _sqlalchemy(error: BaseException) -> Known | None:
    """By the driver's own exception, which SQLAlchemy wraps."""
    from sickbay.handlers.known import known_of  # noqa: PLC0415 - this table is a part of that

    orig = attribute(error, "orig")
    if not is_a(orig, BaseException) or orig is error:
        return None
    if attribute(error, "connection_invalidated") is True:
        return known("NETWORK_ERROR")
    return _postgres(orig) or known_of(orig)


def _django(error: BaseException) -> Known | None:
    """By the driver's own exception, which is the cause of Django's."""
    from sickbay.handlers.known import known_of  # noqa: PLC0415 - this table is a part of that

    cause = attribute(error, "__cause__")
    if not is_a(cause, BaseException) or cause is error:
        return None
    return _postgres(cause) or known_of(cause)


def _mongo(error: BaseException) -> Known | None:
    number = whole(attribute(error, "code"))
    return None if number is None else _MONGO.get(number, known(f"MONGO_{number}" if 0 <= number < 10**9 else "MONGO_ERROR", DATA))


def _ldap(error: BaseException) -> Known | None:
    number = whole(attribute(error, "result"))
    return None if number is None else _LDAP.get(number, known(f"LDAP_{number}" if 0 <= number < 10**6 else "LDAP_ERROR", DATA))


def _redis(error: BaseException) -> Known | None:
    word = plain(item(attribute(error, "args"), 0))[:200].partition(" ")
    if word[0] in _REDIS_UNAVAILABLE or word[2].startswith("max number of clients"):
        return known("SERVICE_UNAVAILABLE")
    return known("AUTH_FAILED", SYSTEMIC) if word[0] in {"NOAUTH", "WRONGPASS", "NOPERM"} else None


def _pep_249(read: Reader) -> Reader:
    """By `read`, else by the classes of PEP 249."""

    def read_or_pep_249(error: BaseException) -> Known | None:
        found = read(error)
        if found is not None:
            return found
        names = {class_name(cls) for cls in classes(error)}
        if names & {"IntegrityError", "DataError", "ProgrammingError", "NotSupportedError"}:
            return Known("", DATA)
        if names & {"OperationalError", "InternalError"}:
            return known("SERVICE_UNAVAILABLE")
        return known("NETWORK_ERROR") if "InterfaceError" in names else None

    return read_or_pep_249


_BY_CLASS: Final = "else by its class of PEP 249"
_BY_STATE: Final = f"by SQLSTATE, {_BY_CLASS}"
_BY_NUMBER: Final = f"by MySQL's number, {_BY_CLASS}"

RULES: Final[tuple[Rule, ...]] = (
    rule("sqlalchemy", "NoResultFound", "NOT_FOUND"),
    rule("sqlalchemy", "MultipleResultsFound", "", DATA),
    rule("sqlalchemy", "TimeoutError", "API_TIMEOUT"),
    rule("sqlalchemy", "DisconnectionError", "NETWORK_ERROR"),
    read_rule("sqlalchemy", "DBAPIError", _pep_249(_sqlalchemy), f"what the driver's exception in it is, {_BY_CLASS}"),
    read_rule("sqlalchemy", "StatementError", _sqlalchemy, "what the exception in it is"),
    rule("django.core", "ObjectDoesNotExist", "NOT_FOUND"),
    rule("django.core", "MultipleObjectsReturned", "", DATA),
    rule("django.core", "ValidationError", "VALIDATION_ERROR"),
    read_rule("django.db", "Error", _pep_249(_django), f"what the driver's exception in it is, {_BY_CLASS}"),
    read_rule("asyncpg", "PostgresError InterfaceError", _pep_249(_postgres), _BY_STATE),
    rule("psycopg", "ConnectionTimeout", "API_TIMEOUT"),
    read_rule("psycopg", "Error", _pep_249(_postgres), _BY_STATE),
    rule("psycopg_pool", "PoolTimeout", "API_TIMEOUT"),
    read_rule("psycopg2", "Error", _pep_249(_postgres), _BY_STATE),
    read_rule("pymysql", "MySQLError", _pep_249(_mysql), _BY_NUMBER),
    read_rule("MySQLdb", "MySQLError", _pep_249(_mysql), _BY_NUMBER),
    rule("mysql.connector", "ConnectionTimeoutError ReadTimeoutError WriteTimeoutError", "API_TIMEOUT"),
    rule("mysql.connector", "PoolError", "SERVICE_UNAVAILABLE"),
    read_rule("mysql.connector", "Error", _pep_249(_mysql), _BY_NUMBER),
    read_rule("sqlite3", "Error", _pep_249(_sqlite), f"by SQLite's error code, {_BY_CLASS}"),
    read_rule("oracledb", "Error", _pep_249(lambda _: None), "by its class of PEP 249"),
    read_rule("pyodbc", "Error", _pep_249(lambda error: by_sqlstate(item(attribute(error, "args"), 0))), _BY_STATE),
    rule("redis", "TimeoutError", "API_TIMEOUT"),
    rule("redis", "AuthenticationError AuthorizationError NoPermissionError AuthenticationWrongNumberOfArgsError", "AUTH_FAILED", SYSTEMIC),
    rule(
        "redis",
        "BusyLoadingError ClusterDownError MasterDownError TryAgainError OutOfMemoryError ReadOnlyError MaxConnectionsError ClusterError "
        "SlotNotCoveredError",
        "SERVICE_UNAVAILABLE",
    ),
    rule("redis", "ConnectionError", "NETWORK_ERROR"),
    rule("redis", "WatchError LockError", "", TRANSIENT),
    read_rule("redis", "ResponseError", _redis, "by the first word of the answer (`LOADING`, `MISCONF`, `NOAUTH`, ...)"),
    rule("redis", "ResponseError DataError", "", DATA),
    rule("pymongo", "ServerSelectionTimeoutError NetworkTimeout WaitQueueTimeoutError ExecutionTimeout WTimeoutError", "API_TIMEOUT"),
    rule("pymongo", "NotPrimaryError", "SERVICE_UNAVAILABLE"),
    rule("pymongo", "ConnectionFailure", "NETWORK_ERROR"),
    rule("pymongo", "WriteError BulkWriteError InvalidName", "", DATA),
    read_rule("pymongo", "OperationFailure", _mongo, "by MongoDB's error code"),
    rule("bson", "BSONError", "", DATA),
    rule("pymongo", "DocumentTooLarge", "", DATA),
    rule("ldap3", "LDAPResponseTimeoutError", "API_TIMEOUT"),
    rule("ldap3", "LDAPSocketOpenError", "CONNECTION_REFUSED"),
    rule("ldap3", "LDAPBindError", "AUTH_FAILED", SYSTEMIC),
    rule("ldap3", "LDAPCommunicationError LDAPStartTLSError", "NETWORK_ERROR"),
    rule("ldap3", "LDAPMaximumRetriesError LDAPServerPoolExhaustedError", "SERVICE_UNAVAILABLE"),
    read_rule("ldap3", "LDAPOperationResult", _ldap, "by its result code"),
    rule("ldap3", "LDAPInvalidDnError LDAPInvalidFilterError LDAPObjectClassError LDAPCursorError", "VALIDATION_ERROR"),
)

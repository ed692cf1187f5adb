"""What an answer means: the result of the job, or a failure with code, kind, message and wait. Pure, and total over all answers.

2xx is a success, 202 too: whoever accepts a job and does it later has to see to it itself. A redirect is a failure, because what is
signed for one address is not sent to another. Any other status is mapped as everywhere (`sickbay.handlers.known`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.client import responses
from typing import Any, Final

from sickbay.domain.job import is_code
from sickbay.domain.outcome import FAILURE_KINDS, RATE_LIMIT_CODES, OutcomeKind
from sickbay.domain.raised import MAX_READ_CHARS
from sickbay.domain.result import MAX_RESULT_BYTES, Result, too_large
from sickbay.handlers.known import wait_of_headers
from sickbay.handlers.known.readers import by_status
from sickbay.handlers.known.rule import Known, known
from sickbay.handlers.remote import RemoteFailure
from sickbay.handlers.result import TOO_LARGE, result_of_text

PROBLEM: Final = "application/problem+json"
"""RFC 9457."""
_REDIRECTED: Final = Known("REDIRECTED", OutcomeKind.SYSTEMIC)
_SECONDS: Final = 1_000
_WORDS: Final = ("detail", "title", "message", "error", "error_description")
"""Where bodies in JSON say what is wrong, the first that is a text: RFC 9457 and what else is usual."""
_NO_BODY: Final = frozenset({204, 205})
_MAX_DIGITS: Final = 20


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer; the names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]

    @property
    def is_success(self) -> bool:
        """Whether the job is done."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's own numbers

    @property
    def media_type(self) -> str:
        """`application/json` and so on, without parameters, in lower case; empty if it is not known."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON."""
        return self.media_type == "application/json" or self.media_type.endswith("+json")

    @property
    def encoding(self) -> str:
        """How the body is compressed, which nobody has asked for; empty if it is not."""
        found = self.headers.get("content-encoding", "").strip().lower()
        return "" if found == "identity" else found

    @property
    def size(self) -> int | None:
        """The bytes of the body, if the head says that."""
        text = self.headers.get("content-length", "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None

    @property
    def has_result(self) -> bool:
        """Whether the body of this success has to be read, because it can be a result."""
        return self.status not in _NO_BODY and self.is_json and not self.encoding and (self.size or 0) <= MAX_RESULT_BYTES


def result_of_answer(head: Head, body: bytes | None) -> Result | None:
    """What is kept of a success; `body` is None if it was not read, or has more than MAX_RESULT_BYTES."""
    if head.status in _NO_BODY or not head.is_json:
        return None
    if head.encoding:
        return Result(note=f"the result is not JSON: it is compressed ({head.encoding[:40]}), which was not asked for")
    if body is None:
        return too_large(head.size) if head.size else Result(note=TOO_LARGE)
    return result_of_text(body) if body.strip() else None


def failure_of_answer(head: Head, body: bytes | None, host: str, secrets: Collection[str] = ()) -> RemoteFailure:
    """What an answer that is no success means; `host` is who has answered, `secrets` are withheld should it repeat them."""
    found = _meaning(head)
    problem = _object(head, body)
    asked = wait_of_headers({name: head.headers.get(name.lower(), "") for name in ("Retry-After", "Date")})
    code, kind = (_code(problem), _kind(problem)) if head.media_type == PROBLEM else ("", None)
    if found.code in RATE_LIMIT_CODES:
        code = ""  # the breaker knows what this code means
    return RemoteFailure(
        code or found.code,
        _without(secrets, _message(head, body, problem, host)),
        kind or found.kind,
        retry_after=None if asked is None else asked / _SECONDS,
    )


def _meaning(head: Head) -> Known:
    if 300 <= head.status < 400:  # noqa: PLR2004 - HTTP's own numbers
        return _REDIRECTED
    return by_status(head.status) or known("BAD_RESPONSE", OutcomeKind.TRANSIENT)


def _object(head: Head, body: bytes | None) -> Mapping[str, Any]:
    if body is None or not head.is_json or head.encoding:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _code(problem: Mapping[str, Any]) -> str:
    """The member `code`, as our codes are written: `out-of-stock` is OUT_OF_STOCK; empty if it is none."""
    said = problem.get("code")
    code = said.upper().replace("-", "_").replace(".", "_").replace(" ", "_") if isinstance(said, str) else ""
    return code if is_code(code) else ""


def _kind(problem: Mapping[str, Any]) -> OutcomeKind | None:
    said = problem.get("kind")
    return OutcomeKind(said) if isinstance(said, str) and said in set(FAILURE_KINDS) else None


def _message(head: Head, body: bytes | None, problem: Mapping[str, Any], host: str) -> str:
    said = f"{host} answered {head.status}"
    if 300 <= head.status < 400:  # noqa: PLR2004 - HTTP's own numbers
        return f"{said}, and redirects are not followed: name the final address in the settings file"
    words = next((text for key in _WORDS if isinstance(text := problem.get(key), str) and text.strip()), "")
    if not words and body and head.media_type == "text/plain" and not head.encoding:
        words = body.decode("utf-8", "replace")
    words = words or responses.get(head.status, "")
    return f"{said}: {' '.join(words[:MAX_READ_CHARS].split())}" if words else said


def _without(secrets: Collection[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text

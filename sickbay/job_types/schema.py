"""Checks payloads by a JSON Schema.

Schemas come from workers and payloads from anybody, so neither is trusted with the process: nothing is fetched; size, depth and the number
of subschemas that apply to one value are bounded; of a large payload only the first mistake is looked for. Patterns are matched in linear
time, and those that cannot be (with lookaround or references back) are not checked here. Neither are formats: libraries read more dates
than RFC 3339 has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import msgspec

from sickbay.domain.job_type import MAX_SCHEMA_BYTES
from sickbay.handlers.payloads.mismatch import MISSING, UNKNOWN, Problem, kind_of_value, path_of

ROOT: Final = "payload"
MAX_PROBLEMS: Final = 20
"""So many mistakes of a payload are looked for."""
MAX_SEARCHED_BYTES: Final = 8 * 1024
"""Of a larger payload the first mistake alone is told: looking for all takes 3 us for each byte, however many are wanted."""
MAX_DEPTH: Final = 100
"""Levels of a schema."""
MAX_APPLIED: Final = 10_000
"""So many subschemas may apply to one value, those of references included: each reference twice would double the work with each level."""
_PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=1024 * 1024, dfa_size_limit=1024 * 1024)
_LISTS: Final = ("allOf", "anyOf", "oneOf")
_SINGLE: Final = ("not", "if", "then", "else")
_NOUNS: Final = {
    "null": "null",
    "boolean": "a boolean",
    "number": "a number",
    "integer": "an integer",
    "string": "a string",
    "array": "a list",
    "object": "an object",
}


class UnusableSchema(ValueError):
    """Nothing can be checked by this schema; the message says why."""


class PayloadSchema:
    """A compiled schema."""

    def __init__(self, schema_json: bytes) -> None:
        """UnusableSchema if it is not one, or needs too much."""
        if len(schema_json) > MAX_SCHEMA_BYTES:
            raise UnusableSchema(f"it has {len(schema_json):,} bytes, at most {MAX_SCHEMA_BYTES:,} are read")
        try:
            schema = msgspec.json.decode(schema_json)
            _check(schema)
            _drop_slow_patterns(schema)
            self._validator = jsonschema_rs.Draft202012Validator(
                schema, validate_formats=False, mask="it", pattern_options=_PATTERNS, offline=True
            )
        except jsonschema_rs.ValidationError as error:
            raise UnusableSchema(f"{path_of(error.instance_path)}: {error.message[:200]}") from None
        except (ValueError, RecursionError) as error:
            raise UnusableSchema(str(error).partition("\n")[0]) from None

    def problems(self, payload_json: bytes) -> Sequence[Problem]:
        """What is wrong with a payload, which is valid JSON: nothing, or at most MAX_PROBLEMS mistakes."""
        payload = msgspec.json.decode(payload_json)
        if self._validator.is_valid(payload):
            return []
        if len(payload_json) > MAX_SEARCHED_BYTES:
            return [_first(self._validator, payload)]
        return list(dict.fromkeys(map(_problem, islice(self._validator.iter_errors(payload), MAX_PROBLEMS))))


def _first(validator: Any, payload: Any) -> Problem:
    try:
        validator.validate(payload)
    except jsonschema_rs.ValidationError as error:
        return _problem(error)
    raise AssertionError("a payload is valid, and is not")


def _problem(error: Any) -> Problem:
    """The mistake in an error of the validator."""
    error = _nearest(error)
    kind, steps = error.kind, list(error.instance_path)
    name = kind.name
    if name == "required":
        return Problem(path_of([*steps, kind.property], ROOT), MISSING)
    if name in {"additionalProperties", "unevaluatedProperties"} and kind.unexpected:
        return Problem(path_of([*steps, kind.unexpected[0]], ROOT), UNKNOWN)
    if name == "type":
        wanted = " or ".join(_NOUNS.get(one, one) for one in sorted(kind.types, key="null".__eq__))
        return Problem(path_of(steps, ROOT), f"expected {wanted}, got {kind_of_value(error.instance)}")
    if name in {"anyOf", "oneOf"}:
        return Problem(path_of(steps, ROOT), "it fits none of the allowed types")
    return Problem(path_of(steps, ROOT), error.message[:200])


def _nearest(error: Any) -> Any:
    """Of alternatives, the mistake in the one that got furthest: it is what the payload was meant to be."""
    while error.kind.name in {"anyOf", "oneOf"}:
        context = getattr(error.kind, "context", None) or []
        deepest = max((branch[0] for branch in context if branch), key=_depth, default=error)
        if _depth(deepest) <= _depth(error):
            return error
        error = deepest
    return error


def _depth(error: Any) -> int:
    return len(error.instance_path)


def _check(schema: Any) -> None:
    """ValueError if the schema is too deep, or if too many of its parts apply to one value."""
    if not isinstance(schema, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - as for everything else that is no usable schema
    _check_depth(schema, MAX_DEPTH)
    applied: dict[int, int] = {}
    for part in _parts(schema):
        _applied(part, schema, applied, frozenset())


def _drop_slow_patterns(schema: Any) -> None:
    for part in _parts(schema):
        pattern = part.get("pattern")
        if isinstance(pattern, str) and not _is_linear(pattern):
            del part["pattern"]


def _is_linear(pattern: str) -> bool:
    """Whether it can be matched in linear time; also of what is no pattern at all, which the schema is then rejected for."""
    for options in (_PATTERNS, jsonschema_rs.FancyRegexOptions(backtrack_limit=1)):
        try:
            jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
        except ValueError:
            continue
        return options is _PATTERNS
    return True


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(one, left - 1)


def _parts(value: Any) -> Iterable[dict[str, Any]]:
    """Every object in it."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from _parts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _parts(one)


def _applied(part: Any, root: Any, known: dict[int, int], above: frozenset[int]) -> int:
    """How many subschemas apply to a value when this one does; a reference back to one above counts once."""
    if not isinstance(part, dict) or id(part) in above:
        return 1
    if id(part) not in known:
        below = above | {id(part)}
        count = 1 + sum(_applied(one, root, known, below) for one in _beside(part, root))
        if count > MAX_APPLIED:
            raise ValueError(f"more than {MAX_APPLIED:,} of its parts apply to one value")
        known[id(part)] = count
    return known[id(part)]


def _beside(part: dict[str, Any], root: Any) -> Iterable[Any]:
    """The subschemas for the same value."""
    for name in _LISTS:
        listed = part.get(name)
        yield from listed if isinstance(listed, list) else ()
    yield from (part[name] for name in _SINGLE if name in part)
    dependent = part.get("dependentSchemas")
    yield from dependent.values() if isinstance(dependent, dict) else ()
    for name in ("$ref", "$dynamicRef"):
        if isinstance(part.get(name), str):
            yield _referenced(part[name], root)


def _referenced(reference: str, root: Any) -> Any:
    """What a reference within the schema points to; ValueError for any other, which no library of ours writes."""
    if not reference.startswith("#"):
        raise ValueError("it refers to another document")
    found = root
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found

"""The flat JSON form of a breaker's document, stored under `breaker:<type>`.

Pure. Redis's script writes the same bytes, so keys are sorted, nothing is nested, there are no floats, and empty fields are left out.
"""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from typing import Any, Final

from sickbay.breaker import ramp as ramps
from sickbay.breaker.document import Document
from sickbay.breaker.packed_run import Entries, packed, unpacked
from sickbay.breaker.ramp_state import Ramp
from sickbay.domain.breaker import BreakerKey, BreakerState
from sickbay.domain.job import DEFAULT_TENANT

VERSION: Final = 1
RAMP_NUMBERS: Final = 14
"""So many numbers of a ramp an earlier version accepts; `slow` is in the field `run`."""


def to_json(doc: Document) -> str:
    """The document as it is stored; equal documents give equal bytes."""
    flat: dict[str, Any] = {"v": VERSION, "jobType": doc.key.job_type, "state": doc.state.value}
    flat |= {name: getattr(doc, attribute) for name, attribute in _ALWAYS.items()}
    flat |= {name: value for name, attribute in _SOMETIMES.items() if (value := getattr(doc, attribute))}
    if doc.key.tenant != DEFAULT_TENANT:
        flat["tenant"] = doc.key.tenant
    if run := packed(Entries(doc.run, doc.calls, doc.hung, doc.patience_ms, doc.superseded, doc.ramp.slow if doc.ramp else 0)):
        flat["run"] = run
    if doc.ramp is not None:
        flat["ramp"] = " ".join(map(str, astuple(doc.ramp)[:RAMP_NUMBERS]))
    return json.dumps(flat, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def from_json(text: str | bytes) -> Document:
    """The inverse of `to_json`; ValueError if it is not a document of this version."""
    try:
        return _parsed(json.loads(text))
    except (KeyError, TypeError, AttributeError) as broken:
        msg = "not the document of a breaker"
        raise ValueError(msg) from broken


def _parsed(flat: dict[str, Any]) -> Document:
    if flat.pop("v") != VERSION:
        msg = "a document of another version"
        raise ValueError(msg)
    key = BreakerKey(flat.pop("jobType"), flat.pop("tenant", DEFAULT_TENANT))
    state = BreakerState(flat.pop("state"))
    entries = unpacked(flat.pop("run", ""))
    ramp = replace(_unpacked_ramp(flat.pop("ramp")), slow=entries.slow) if "ramp" in flat else None
    fields = {_NAMES[name]: _typed(name, value) for name, value in flat.items()}
    return Document(
        key, state, ramp=ramp, run=entries.run, calls=entries.calls, hung=entries.hung, patience_ms=entries.patience_ms,
        superseded=entries.superseded, **fields,
    )  # fmt: skip


def _typed(name: str, value: Any) -> Any:
    if type(value) is not (str if name in _TEXTS else int):
        raise TypeError(name)
    return value


def _unpacked_ramp(words: str) -> Ramp:
    numbers = list(map(int, words.split()))
    if len(numbers) == len(_EARLIER_RAMP):
        return ramps.begin(numbers[_EARLIER_RAMP.index("granted_at")])
    return Ramp(*numbers)


_EARLIER_RAMP: Final = ("permits", "successes", "failures", "granted_at")
"""Of documents that were written before the ramp had a rate: it begins anew."""
_ALWAYS: Final = {"epoch": "epoch", "rev": "rev", "seq": "seq", "trips": "trips", "updatedAt": "updated_at"}
_SOMETIMES: Final = {
    "openedAt": "opened_at",
    "probeAt": "probe_at",
    "cooldownMs": "cooldown_ms",
    "reasonCode": "reason_code",
    "reasonCount": "reason_count",
    "reasonMessage": "reason_message",
    "probeToken": "probe_token",
    "probeWorker": "probe_worker",
    "probeJob": "probe_job",
    "probeSince": "probe_since",
    "probeUntil": "probe_until",
    "expiries": "expiries",
    "inconclusive": "inconclusive",
    "stableAt": "stable_at",
    "until": "until",
    "by": "by",
    "why": "why",
    "wouldTrip": "would_trip",
}
_NAMES: Final = _ALWAYS | _SOMETIMES
_TEXTS: Final = {"reasonCode", "reasonMessage", "probeToken", "probeWorker", "probeJob", "by", "why"}

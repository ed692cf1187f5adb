"""The breaker's script: its arguments and replies. The machine is in `lua/`, a twin of `sickbay/breaker`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from redis.exceptions import NoScriptError, ResponseError

from sickbay.adapters.redis.client import Client
from sickbay.breaker.commands import MAX_ACTOR_CHARS
from sickbay.breaker.document import sanitize, sanitize_job_id
from sickbay.breaker.machine import AdmitRequest, Document, from_json
from sickbay.breaker.trip_rule import OTHER
from sickbay.breaker.window import Calls
from sickbay.domain.breaker import BreakerConfig, BreakerKey, Command, Permit, PermitKind, Refusal
from sickbay.domain.job import is_code
from sickbay.domain.outcome import Outcome

PARTS: Final = ("breaker_document", "breaker_run", "breaker_window", "breaker_ramp", "breaker_probes", "breaker_moves", "breaker", "entry")

Word = str | int | bytes


def source(*parts: str) -> str:
    """The text of a script, from its files."""
    folder = files("sickbay.adapters.redis") / "lua"
    return "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts)


class Script:
    """A script that Redis caches by its hash; a server that does not have it gets the text again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Client, key: str, words: Sequence[Word]) -> Any:
        """Run it on one key."""
        return await self.run_on(client, (key,), words)

    async def run_on(self, client: Client, keys: Sequence[str], words: Sequence[Word]) -> Any:
        """Run it on several keys, which a cluster must have in one slot."""
        try:
            return await client.evalsha(self._sha, len(keys), *keys, *words)
        except NoScriptError:
            return await client.eval(self.text, len(keys), *keys, *words)

    async def run_each(self, client: Client, calls: Sequence[tuple[str, Sequence[Word]]]) -> list[Any]:
        """Run it on one key after the other, in one round trip; where Redis answers with an error, that is the answer."""
        answers = await self._pipelined(client, calls)
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            first, *others = unknown
            try:
                answers[first] = await self.run(client, *calls[first])  # sends the text
            except ResponseError as error:
                answers[first] = error
            again = await self._pipelined(client, [calls[place] for place in others])
            for place, answer in zip(others, again, strict=True):
                answers[place] = answer
        return answers

    async def _pipelined(self, client: Client, calls: Sequence[tuple[str, Sequence[Word]]]) -> list[Any]:
        if not calls:
            return []
        async with client.pipeline(transaction=False) as pipeline:
            for key, words in calls:
                pipeline.evalsha(self._sha, 1, key, *words)
            return list(await pipeline.execute(raise_on_error=False))


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of the script, at `now` of the fleet's clock. `doc` is None for an unknown type, `lease_ms` is for a probe."""

    now: int
    total: int
    doc: Document | None
    answer: str
    lease_ms: int = 0


def key_of(key: BreakerKey) -> str:
    """The Redis key of a breaker's document."""
    return f"breaker:{key.name}"


def key_from_name(name: str) -> BreakerKey:
    """The inverse of `BreakerKey.name`."""
    tenant, slash, job_type = name.rpartition("/")
    return BreakerKey(job_type, tenant) if slash else BreakerKey(name)


def common_args(operation: str, key: BreakerKey, config: BreakerConfig, channel: str, *, now: int | None, jitter: int) -> list[Word]:
    """The first arguments of every operation; `now` is None to use the time of Redis."""
    return [
        operation,
        "" if now is None else now,
        jitter,
        key.job_type,
        key.tenant,
        key.name,
        channel,
        config.failure_threshold,
        config.cooldown_ms,
        config.failure_window_ms,
        config.trip_confirm_ms,
        config.distinct_jobs,
        int(config.ramp),
        config.max_cooldown_ms,
        config.probe_lease_ms,
        config.probe_max_ms,
        config.rate,
        config.calls,
        config.window_ms,
        config.slow_ms,
    ]


def admit_args(request: AdmitRequest) -> list[Word]:
    """The further arguments of `admit`."""
    job, worker = sanitize(request.job_id), sanitize(request.worker)
    return [job, request.token, worker, int(request.released), request.longest_ms, request.usual_ms]


def settle_args(
    permit: Permit,
    outcome: Outcome,
    watermark: int | None,
    share: int,
    *,
    took_ms: int = 0,
    earlier: Calls = (),
    usual_ms: int = 0,
) -> list[Word]:
    """The further arguments of `settle`; texts are sanitized here, because the script counts bytes where Python counts characters."""
    kind = outcome.kind
    code = outcome.code if is_code(outcome.code) else OTHER
    words: list[Word] = [
        permit.epoch,
        permit.token,
        sanitize_job_id(permit.job_id),
        kind.value,
        int(kind.is_breaker_failure),
        code,
        sanitize(outcome.message),
    ]
    runs = " ".join(f"{bucket.start} {bucket.good} {bucket.bad}" for bucket in earlier)
    return [*words, outcome.retry_after_ms or 0, "" if watermark is None else watermark, share, took_ms, runs, usual_ms]


def renew_args(permit: Permit) -> list[Word]:
    """The further arguments of `renew`."""
    return [permit.epoch, permit.token, permit.longest_ms]


def command_args(command: Command) -> list[Word]:
    """The further arguments of `command`."""
    duration = "" if command.duration_ms is None else command.duration_ms
    return [command.action.value, duration, sanitize(command.by, MAX_ACTOR_CHARS), sanitize(command.why)]


def parse_reply(reply: Sequence[Any]) -> Reply:
    """Parse a reply of the script."""
    now, total, text, answer, lease = reply
    return Reply(int(now), int(total), from_json(text) if text else None, answer.decode(), int(lease or 0))


def parse_admission(reply: Reply, key: BreakerKey, request: AdmitRequest) -> Permit | Refusal:
    """The permit or refusal in a reply to `admit`."""
    assert reply.doc is not None  # noqa: S101 - an admission makes the type known
    doc = reply.doc
    if reply.answer == "refused":
        return Refusal(key, doc.state)
    kind = PermitKind(reply.answer)
    if kind is PermitKind.PROBE:
        return Permit(key, kind, doc.epoch, request.job_id, request.token, reply.lease_ms, request.longest_ms)
    return Permit(key, kind, doc.epoch, request.job_id)


def parse_notice(payload: bytes) -> tuple[Document, int]:
    """The document and the total failures in a message of `breaker.events`; ValueError if it is invalid."""
    head, comma, rest = payload.partition(b",")
    total = head.removeprefix(b'{"failures":')
    if not comma or not total.isdigit():
        msg = "not a notice of a breaker"
        raise ValueError(msg)
    return from_json(b"{" + rest), int(total)

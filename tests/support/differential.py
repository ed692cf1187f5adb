"""The breaker's two machines side by side: each operation goes through Python and through the script, and must come to the same bytes."""

from __future__ import annotations

from typing import Any

from redis import Redis

from sickbay.adapters.redis import script
from sickbay.breaker import machine as breaker
from sickbay.breaker.machine import AdmitRequest, Document, Effect
from sickbay.breaker.window import Calls
from sickbay.domain.breaker import BreakerConfig, Command, Permit, Refusal
from sickbay.domain.outcome import Outcome


class Twin:
    """Stands in for the module `sickbay.breaker.machine`; what it does not have is that module's."""

    def __init__(self, client: Redis, text: str | None = None) -> None:
        """`text` is the script, ours unless given."""
        self.compared = 0
        self._client = client
        self._sha = client.script_load(text or script.source(*script.PARTS))

    def __getattr__(self, name: str) -> Any:
        return getattr(breaker, name)

    def catch_up(self, doc: Document, config: BreakerConfig, now: int, *, jitter: int = 0) -> Document:
        after = breaker.catch_up(doc, config, now, jitter=jitter)
        assert self._after("look", doc, [], config=config, now=now, jitter=jitter) == (breaker.to_json(after), "done", None)
        return after

    def admit(self, doc: Document, ask: AdmitRequest, config: BreakerConfig, now: int) -> tuple[Document, Permit | Refusal]:
        after, answer = breaker.admit(doc, ask, config, now)
        text, word, span = self._after("admit", doc, script.admit_args(ask), config=config, now=now, jitter=ask.jitter)
        reply = script.Reply(now, 0, breaker.from_json(text), word, span)
        assert (text, script.parse_admission(reply, doc.key, ask)) == (breaker.to_json(after), answer)
        return after, answer

    def reserve(
        self, doc: Document, wanted: int, config: BreakerConfig, now: int, *, jitter: int = 0, arrivals: int = 0
    ) -> tuple[Document, int]:
        after, granted = breaker.reserve(doc, wanted, config, now, jitter=jitter, arrivals=arrivals)
        assert self._after("reserve", doc, [wanted, arrivals], config=config, now=now, jitter=jitter) == (
            breaker.to_json(after),
            str(granted),
            None,
        )
        return after, granted

    def settle(
        self,
        doc: Document,
        permit: Permit,
        outcome: Outcome,
        config: BreakerConfig,
        now: int,
        *,
        jitter: int = 0,
        watermark: int | None = None,
        share: int = 0,
        took_ms: int = 0,
        earlier: Calls = (),
        usual_ms: int = 0,
    ) -> tuple[Document, Effect]:
        more = {"took_ms": took_ms, "earlier": earlier, "usual_ms": usual_ms}
        after, effect = breaker.settle(doc, permit, outcome, config, now, jitter=jitter, watermark=watermark, share=share, **more)
        words = script.settle_args(permit, outcome, watermark, share, **more)
        told = self._after("settle", doc, words, config=config, now=now, jitter=jitter)
        assert told == (breaker.to_json(after), effect.value, None)
        return after, effect

    def renew(self, doc: Document, permit: Permit, config: BreakerConfig, now: int, *, jitter: int = 0) -> tuple[Document, bool]:
        after, renewed = breaker.renew(doc, permit, config, now, jitter=jitter)
        told = self._after("renew", doc, script.renew_args(permit), config=config, now=now, jitter=jitter)
        assert told == (breaker.to_json(after), "renewed" if renewed else "lost", None)
        return after, renewed

    def command(self, doc: Document, order: Command, config: BreakerConfig, now: int, *, jitter: int = 0) -> Document:
        after = breaker.command(doc, order, config, now, jitter=jitter)
        assert self._after("command", doc, script.command_args(order), config=config, now=now, jitter=jitter) == (
            breaker.to_json(after),
            "done",
            None,
        )
        return after

    def _after(
        self, operation: str, doc: Document, words: list[script.Word], *, config: BreakerConfig, now: int, jitter: int
    ) -> tuple[str, str, int | None]:
        """What the script makes of the document; what it stored must be what it answered, and nothing if there is nothing to remember."""
        self.compared += 1
        before, key = breaker.to_json(doc), script.key_of(doc.key)
        self._client.set(key, before)
        begin = script.common_args(operation, doc.key, config, "events", now=now, jitter=jitter)
        _, _, text, word, span = self._client.evalsha(self._sha, 1, key, *begin, *words)
        is_forgotten = text.decode() != before and breaker.from_json(text).is_forgettable
        assert self._client.get(key) == (None if is_forgotten else text)
        return text.decode(), word.decode(), int(span) if span else None

"""The way of an entry to the broker, also while that is away."""

import asyncio
import logging
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from sickbay.domain.audit import AuditEntry
from sickbay.domain.errors import Unavailable
from sickbay.messages.audit import MAX_ENTRIES, decode_entries
from sickbay.server.audit import journal as module
from sickbay.server.audit.journal import Journal, line_of
from sickbay.server.audit.metrics import AuditMetrics
from tests.hostile.test_injection import TEXTS

ENTRY = AuditEntry("a", 1, "ResetBreaker", principal="ann", kind="key", credential="k_1", source="10.0.0.1", door="grpc")


class Line:
    """A broker that can be away, slow, or there."""

    def __init__(self):
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.tried = 0
        self.published = []

    async def publish(self, messages):
        self.tried += 1
        await self.gate.wait()
        if self.away:
            raise Unavailable("no session")
        for message in messages:
            self.published.append([entry.entry_id for entry in decode_entries(message.body, 2**40)])


def open_journal(line):
    registry = CollectorRegistry()
    return Journal(line, AuditMetrics(registry)), registry


async def test_an_entry_is_durable_when_write_returns():
    line = Line()
    journal, _ = open_journal(line)
    async with journal:
        await journal.write(ENTRY)
        assert line.published == [["a"]]


async def test_while_the_broker_is_away_only_the_first_action_waits_and_nothing_is_lost(monkeypatch, caplog):
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    monkeypatch.setattr(module, "MAX_RETRY_S", 0.001)
    line = Line()
    line.away = True
    journal, registry = open_journal(line)
    async with journal:
        await journal.write(ENTRY)
        assert journal._is_away
        async with asyncio.timeout(1):
            for number in range(2 * MAX_ENTRIES):
                await journal.write(replace(ENTRY, entry_id=f"e{number}"))
        assert registry.get_sample_value("sickbay_audit_entries_queued") == 2 * MAX_ENTRIES + 1
        line.away = False
        await journal.add(replace(ENTRY, entry_id="last"))
        assert [one for several in line.published for one in several] == ["a", *(f"e{n}" for n in range(2 * MAX_ENTRIES)), "last"]
        assert registry.get_sample_value("sickbay_audit_entries_queued") == 0
    assert len([one for one in caplog.records if "wait for the broker" in one.getMessage()]) == 1


async def test_a_broker_that_does_not_answer_delays_an_action_but_does_not_stop_it(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    line = Line()
    line.gate.clear()
    journal, _ = open_journal(line)
    async with journal:
        async with asyncio.timeout(5):
            await journal.write(ENTRY)
        assert line.published == []
        line.gate.set()
    assert line.published == [["a"]], "published when it is closed, at the latest"


async def test_when_too_many_wait_the_rest_is_in_the_log_and_counted(monkeypatch, caplog):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    monkeypatch.setattr(module, "CLOSE_S", 0.05)
    line = Line()
    line.away = True
    journal, registry = open_journal(line)
    async with journal:
        for number in range(5):
            await journal.write(replace(ENTRY, entry_id=f"e{number}"))
        assert registry.get_sample_value("sickbay_audit_entries_dropped_total") == 2
        assert "entry e3" in caplog.text
        assert "entry e4" in caplog.text
    assert registry.get_sample_value("sickbay_audit_entries_dropped_total") == 5
    assert "3 entries of the audit log could not be published before the end" in caplog.text


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_that_a_caller_writes_looks_like_another_line_or_field_of_the_log(text):
    forged = f'{text}", result OK, entry b'
    names = ("action", "principal", "credential", "claimed_actor", "note", "target", "tenant", "message", "before", "request", "source")
    plain = line_of(replace(ENTRY, target_kind="job", **dict.fromkeys(names, "x")))
    line = line_of(replace(ENTRY, target_kind="job", **dict.fromkeys(names, forged)))
    assert line.isprintable()
    assert line.isascii()
    assert line.count('", result OK') == line.count('\\", result OK'), "each quote of theirs is escaped"
    assert plain.endswith("entry a")
    assert line.endswith(", entry a")


def test_a_line_names_who_and_what(caplog):
    caplog.set_level(logging.INFO)
    ended = replace(ENTRY, target_kind="breaker", target="email", result="OK", before="OPEN", after="CLOSED", claimed_actor="ceo")
    assert line_of(ended) == (
        'action "ResetBreaker", principal "ann" (key "k_1"), target breaker "email", result OK, "OPEN" -> "CLOSED", claimed actor "ceo",'
        ' from "10.0.0.1" by grpc, entry a'
    )

"""The parts of the Redis adapter that decide by themselves: the view, patience with a store that fails, late successes, what logs show."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sickbay.adapters.redis.address import display_url
from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.adapters.redis.guarded_client import CallGate
from sickbay.adapters.redis.success_reporter import Success, SuccessReporter
from sickbay.adapters.redis.view import View
from sickbay.breaker import machine
from sickbay.domain.breaker import BreakerConfig, Permit
from sickbay.domain.errors import SettingsError
from sickbay.domain.outcome import SUCCESS
from tests.support.breaker_driver import DOWN, KEY, Circuit


def revisions():
    """A circuit at every step of an outage, as notices tell it."""
    breaker, docs = Circuit(), []
    for step in range(30):
        breaker.now += 30_000
        answer = breaker.admit()
        docs.append(breaker.doc)
        if isinstance(answer, Permit):
            breaker.settle(answer, SUCCESS if step % 11 == 10 else DOWN)
            docs.append(breaker.doc)
    return sorted(set(docs), key=lambda doc: doc.rev)


@given(order=st.permutations(revisions()), heard=st.integers(0, 20), asked_after=st.integers(0, 20))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_after_lost_and_reordered_notices_one_reading_is_the_truth(order, heard, asked_after):
    """Law 20, also when notices arrive between the question and its answer."""
    truth = max(order, key=lambda doc: doc.rev)
    told = []
    view = View(lambda _key, seen: told.append(seen.doc.rev))
    for doc in order[: min(heard, asked_after)]:
        view.notice(doc, 0)
    asked_with = view.get(truth.key)
    for doc in order[asked_after:heard]:
        view.notice(doc, 0)
    view.answer(truth.key, truth, 7, asked_with)
    for doc in order:
        view.notice(doc, 0)
    assert view.get(truth.key) == truth
    assert told == sorted(set(told))


def test_a_view_follows_a_redis_that_lost_its_memory_but_not_a_late_answer():
    docs, view = revisions(), View(lambda _key, _seen: None)
    view.notice(docs[-1], 3)
    view.answer(docs[0].key, docs[0], 0, docs[3])
    assert view.get(docs[0].key) is docs[-1]
    view.answer(docs[0].key, None, None, docs[3])
    assert view.get(docs[0].key) is docs[-1]
    view.answer(docs[0].key, docs[0], 0, docs[-1])
    assert view.get(docs[0].key) is docs[0]
    view.answer(docs[0].key, None, None, docs[0])
    assert view.get(docs[0].key) is None


STEPS = st.lists(st.tuples(st.none() | st.sampled_from(revisions()), st.none() | st.integers(0, 3), st.booleans()), max_size=8)


@given(steps=STEPS)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_many_replies_are_applied_as_each_alone(steps):
    """Whether the view has moved since it was asked, or nothing has changed at all."""
    told_alone, told_together = [], []
    alone, together = View(lambda *told: told_alone.append(told)), View(lambda *told: told_together.append(told))
    for doc, total, has_moved in steps:
        for _ in range(2):
            asked = None if has_moved else alone.get(KEY)
            alone.answer(KEY, doc, total, asked)
            together.answers([KEY], [doc], [total], [asked])
            assert (together.all(), together.get(KEY)) == (alone.all(), alone.get(KEY))
            assert together.get(KEY) is alone.get(KEY)
    assert told_together == told_alone


def test_patience_pauses_after_three_errors_and_lets_one_try():
    patience = CallGate()
    for _ in range(3):
        assert patience.may_ask(100.0)
        patience.fail(100.0)
    waited = []
    for _ in range(7):
        now = 100.0
        while not patience.may_ask(now):
            now += 0.5
        assert not patience.may_ask(now)
        patience.fail(100.0)
        waited.append(now - 100.0)
    assert waited == [1, 2, 4, 8, 16, 30, 30]
    patience.succeed()
    assert patience.may_ask(100.0)


async def test_one_success_is_told_for_many_and_none_if_somebody_else_told():
    sent = []

    async def send(success):
        sent.append(success.watermark)

    breaker = Circuit()
    breaker.run(DOWN, 2)
    waits = SuccessReporter(send, lambda: 60.0)
    permit = machine.normal_permit(breaker.doc, "job")
    for watermark in (1, 2, 1):
        waits.add(Success(permit, watermark))
    waits.on_change(KEY, breaker.doc)
    await waits.close()
    assert sent == [2]
    waits.add(Success(permit, 2))
    breaker.run(SUCCESS)
    waits.on_change(KEY, breaker.doc)
    await waits.close()
    assert sent == [2]


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("redis://user:secret@redis.example:6380/2?password=secret", "redis://redis.example:6380/2"),
        ("rediss://:secret@[::1]:6379", "rediss://::1:6379"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
    ],
)
def test_a_place_tells_no_secret(url, seen):
    assert display_url(url) == seen


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost", "not a valid URL"),
        ("redis://:s3cret@localhost:port", "not a valid URL"),
        ("redis://:s3cret@localhost?db=x", "parameter 'db'"),
        ("redis://:s3cret@localhost?ssl_cert_reqs=required", "unknown parameter 'ssl_cert_reqs' with redis://"),
        ("rediss://:s3cret@localhost?health_check_interval=5&cafile=/s3cret.pem", "unknown parameter 'cafile' with rediss://"),
        ("rediss://:s3cret@localhost?ssl_cert_reqs=perhaps", "parameter 'ssl_cert_reqs'"),
        ("rediss://:s3cret@localhost?ssl_ca_certs=/nowhere/s3cret.pem", "the file of ssl_ca_certs does not exist"),
    ],
)
def test_a_url_that_cannot_be_meant_names_what_is_wrong_and_no_secret(url, words):
    with pytest.raises(SettingsError, match=f"REDIS_URL must be .*: .*{words}") as caught:
        RedisBreakers(url, BreakerConfig())
    assert "s3cret" not in str(caught.value)

"""The seam for observers: everybody hears, in order, and nobody's fault harms a job."""

import asyncio
import inspect
import logging

import pytest

from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobState
from sickbay.messages.codec import job_message
from sickbay.messages.publisher import Publisher
from sickbay.observer import Observer, Observers
from sickbay.ports import TO_MAIN, Message
from tests.support.engine_bench import StubBroker, does, fails, fine, job, open_bench

HOOKS = [name for name, _ in inspect.getmembers(Observer, inspect.isfunction)]
EVENT = JobEvent(job(), JobState.SUCCEEDED, 5)


def recorder(name, heard, mark=""):
    """An observer that overrides one hook."""

    def hook(self, *facts):
        heard.append((mark, facts))
        return facts[0]

    return type("Recorder", (Observer,), {name: hook})()


@pytest.mark.parametrize("name", HOOKS)
def test_all_hear_what_they_override_in_their_order(name):
    """Whatever hook there is, also one that comes later."""
    heard = []
    facts = [object() for _ in inspect.signature(getattr(Observer, name)).parameters][1:]
    observers = Observers([recorder(name, heard, "first"), Observer(), recorder(name, heard, "second")])
    getattr(observers, name)(*facts)
    assert heard == [("first", tuple(facts)), ("second", tuple(facts))]
    others = [other for other in HOOKS if other != name]
    for other in others:
        getattr(observers, other)(*[[] for _ in inspect.signature(getattr(Observer, other)).parameters][1:])
    assert len(heard) == 2


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_fails_is_logged_and_the_others_hear(name, caplog):
    def fail(self, *facts):
        raise ValueError("of the user's")

    heard = []
    facts = [object() for _ in inspect.signature(getattr(Observer, name)).parameters][1:]
    broken = type("Broken", (Observer,), {name: fail})()
    with caplog.at_level(logging.ERROR):
        getattr(Observers([broken, recorder(name, heard)]), name)(*facts)
    assert len(heard) == 1
    assert "an observer failed" in caplog.text
    assert "of the user's" in caplog.text


async def test_messages_go_as_an_observer_made_them():
    class Stamping(Observer):
        def publishing(self, messages):
            return [Message(message.key, message.body + b"!") for message in messages]

    broker = StubBroker([])
    await Publisher(broker, Observers([Stamping(), Stamping()])).publish([Message("main", b"1")])
    assert [message.body for message in broker.published] == [b"1!!"]


async def test_a_publish_is_told_with_its_end():
    heard = []
    broker = StubBroker([])
    publisher = Publisher(broker, recorder("published", heard))
    await publisher.publish([job_message(TO_MAIN, job())])
    broker.failing = 1
    with pytest.raises(Unavailable):
        await publisher.publish([job_message(TO_MAIN, job())])
    (_, (_, seconds, fine)), (_, (_, _, error)) = heard
    assert 0 <= seconds < 60
    assert fine is None
    assert isinstance(error, Unavailable)


async def test_a_publish_that_is_cancelled_is_told_too():
    heard = []

    class Silent(StubBroker):
        async def publish(self, messages):
            await asyncio.Event().wait()

    task = asyncio.create_task(Publisher(Silent([]), recorder("published", heard)).publish([Message("main", b"1")]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(heard[0][1][2], asyncio.CancelledError)


@pytest.mark.parametrize(("handler", "state"), [(fine, JobState.SUCCEEDED), (fails("BROKEN"), JobState.RETRYING)])
async def test_a_job_on_its_way_through_a_worker(handler, state):
    """Received, started, ended, settled, in this order and once."""
    heard = []

    class Recording(Observer):
        def received(self, delivery):
            heard.append("received")

        def run_started(self, job, permit):
            heard.append(("started", job.job_id))

        def run_ended(self, job, permit, outcome, seconds):
            heard.append(("ended", outcome.code))

        def settled(self, event):
            heard.append(("settled", event.state))

    async with open_bench(does(handler), observers=[Recording()]) as bench:
        await bench.run_one(job())
    assert heard == ["received", ("started", "j"), ("ended", "" if handler is fine else "BROKEN"), ("settled", state)]


async def test_a_job_runs_whatever_an_observer_does():
    class Failing(Observer):
        def received(self, *facts):
            raise ValueError

        run_started = run_ended = settled = publishing = published = received

    async with open_bench(does(fine), observers=[Failing()]) as bench:
        assert await bench.run_one(job()) == "ack"

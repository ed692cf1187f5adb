"""Which of several PostgreSQL servers a connection is made to, and what is said if there is none."""

import asyncio

import asyncpg
import pytest

from sickbay.adapters.sql import hosts
from sickbay.adapters.sql.hosts import Hosts
from sickbay.adapters.sql.postgres import server
from sickbay.domain.errors import SettingsError

A, B, C = URLS = ("postgresql://a/db", "postgresql://b/db", "postgresql://c/db")
STANDBY = asyncpg.TargetServerAttributeNotMatched("read-write")


class Connection:
    def __init__(self, url):
        self.url = url
        self.is_open = True

    def terminate(self):
        self.is_open = False


class Servers:
    """What each does when it is asked: an error, an event to wait for, or nothing in the way."""

    def __init__(self, **behaviour):
        self.behaviour = behaviour
        self.asked = []
        self.made = []

    async def connect(self, url):
        name = url[len("postgresql://")]
        self.asked.append(name)
        what = self.behaviour.get(name)
        if isinstance(what, asyncio.Event):
            try:
                await what.wait()
            except asyncio.CancelledError:
                if what.is_set():
                    return self._made(url)  # it was just through
                raise
        elif what is not None:
            raise what
        return self._made(url)

    def _made(self, url):
        self.made.append(Connection(url))
        return self.made[-1]


@pytest.fixture
def no_head_start(monkeypatch):
    monkeypatch.setattr(hosts, "HEAD_START_S", 0.01)


@pytest.mark.parametrize("trouble", [STANDBY, ConnectionRefusedError(), TimeoutError(), asyncpg.TooManyConnectionsError("full")])
async def test_one_that_refuses_is_followed_by_the_next_and_the_right_one_comes_first_from_then_on(trouble):
    servers, several = Servers(a=trouble), Hosts(URLS)
    assert (await several.connect(servers.connect)).url == B
    assert (await several.connect(servers.connect)).url == B
    assert servers.asked == ["a", "b", "b"]


async def test_after_the_last_the_first_is_tried():
    servers, several = Servers(a=STANDBY, b=STANDBY), Hosts(URLS)
    assert (await several.connect(servers.connect)).url == C
    servers.behaviour = {"b": STANDBY, "c": STANDBY}
    assert (await several.connect(servers.connect)).url == A


@pytest.mark.usefixtures("no_head_start")
async def test_one_that_is_silent_does_not_hold_up_the_next():
    servers = Servers(a=asyncio.Event())
    assert (await Hosts(URLS).connect(servers.connect)).url == B
    assert servers.asked == ["a", "b"]


@pytest.mark.usefixtures("no_head_start")
async def test_one_that_answers_late_may_still_be_the_one():
    late = asyncio.Event()
    servers = Servers(a=late, b=STANDBY, c=STANDBY)
    connecting = asyncio.create_task(Hosts(URLS).connect(servers.connect))
    while len(servers.asked) < len(URLS):
        await asyncio.sleep(0)
    late.set()
    assert (await connecting).url == A


@pytest.mark.usefixtures("no_head_start")
async def test_what_comes_too_late_is_closed():
    """Nobody would ever use it, and the server has only so many."""
    late, prompt = asyncio.Event(), asyncio.Event()
    servers = Servers(a=late, b=prompt)
    connecting = asyncio.create_task(Hosts(URLS[:2]).connect(servers.connect))
    while len(servers.asked) < len("ab"):
        await asyncio.sleep(0)
    late.set()
    prompt.set()
    won = await connecting
    async with asyncio.timeout(10):
        while len(servers.made) < len("ab") or sum(made.is_open for made in servers.made) > 1:
            await asyncio.sleep(0)
    assert won.is_open


@pytest.mark.usefixtures("no_head_start")
async def test_who_gives_up_leaves_nothing_behind():
    servers = Servers(a=asyncio.Event(), b=asyncio.Event())
    connecting = asyncio.create_task(Hosts(URLS[:2]).connect(servers.connect))
    while len(servers.asked) < len("ab"):
        await asyncio.sleep(0)
    before = {task for task in asyncio.all_tasks() if task is not connecting}
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    async with asyncio.timeout(10):
        while before & asyncio.all_tasks() != {asyncio.current_task()}:
            await asyncio.sleep(0)
    assert not servers.made


@pytest.mark.parametrize(
    ("troubles", "told"),
    [
        ((TimeoutError(), STANDBY), asyncpg.TargetServerAttributeNotMatched),
        ((ConnectionRefusedError(), TimeoutError()), ConnectionRefusedError),
        ((SettingsError("a"), ConnectionRefusedError()), ConnectionRefusedError),
        ((SettingsError("a"), SettingsError("b")), SettingsError),
    ],
)
async def test_if_none_can_be_used_the_one_that_answered_says_why(troubles, told):
    """One that is set up wrongly stops the start only if there is no hope in the others."""
    servers = Servers(**dict(zip("ab", troubles, strict=True)))
    with pytest.raises(told):
        await Hosts(URLS[:2]).connect(servers.connect)


@pytest.mark.parametrize(
    ("url", "each"),
    [
        ("postgresql://me:p%40ss@a,b:5433/db?sslmode=disable", ["postgresql://me:p%40ss@a/db?", "postgresql://me:p%40ss@b:5433/db?"]),
        ("postgresql://[::1]:5433,b/db", ["postgresql://[::1]:5433/db?", "postgresql://b/db?"]),
        ("postgresql:///db?host=a,b&port=1,2", ["postgresql:/db?host=a&port=1&", "postgresql:/db?host=b&port=2&"]),
        ("postgresql:///db?host=a,b&port=1", ["postgresql:/db?host=a&port=1&", "postgresql:/db?host=b&port=1&"]),
        ("postgresql:///db?host=/run/one,/run/two", ["postgresql:/db?host=%2Frun%2Fone&", "postgresql:/db?host=%2Frun%2Ftwo&"]),
    ],
)
async def test_every_host_has_a_url_of_its_own(url, each):
    asked = []

    async def connect(dsn):
        asked.append(dsn)
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await server(url).hosts.connect(connect)
    assert len(asked) == len(each)
    assert all(dsn.startswith(start) for dsn, start in zip(asked, each, strict=True)), asked


def test_as_many_ports_as_hosts():
    with pytest.raises(SettingsError, match="one port, or one for each host"):
        server("postgresql:///db?host=a,b,c&port=1,2")

"""What modules of handlers make at the start and give to handlers by name."""

import asyncio
import sys
import textwrap
import threading
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType

import pytest

from sickbay import Job, handler, lifespan, shutdown, startup
from sickbay.handlers.checks import HandlerMistake
from sickbay.handlers.resources import Resources, bind
from sickbay.testing import make_job
from sickbay.testing.jobs import spec_of


@pytest.fixture
def module(request):
    """Makes a module of this source; its `log` is a list."""
    made = []

    def make(source, name="shop", **names):
        one = ModuleType(name)
        one.log = []
        vars(one).update(names)
        sys.modules[name] = one
        made.append(name)
        prelude = (
            "from contextlib import asynccontextmanager, contextmanager\nfrom sickbay import Job, handler, lifespan, shutdown, startup\n"
        )
        exec(compile(prelude + textwrap.dedent(source), f"{name}.py", "exec"), vars(one))  # noqa: S102 - our own
        return one

    yield make
    for name in made:
        sys.modules.pop(name, None)


class Loop:
    """An event loop in a thread, as handlers have."""

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(5)


@pytest.fixture
def resources():
    with Loop() as loop:
        found = Resources()
        found.use(loop.loop)
        found.on = loop
        yield found
        ended(found)


def ended(resources):
    for end in (resources.end, resources.end_plain):
        for one in end():
            one.result(5)


def call(resources, function):
    """As a worker calls it."""
    spec = spec_of(function)
    if not spec.is_async:
        return resources.bound(spec).call(make_job(spec.job_type))

    async def run():
        return await (await resources.bound_async(spec)).call(make_job(spec.job_type))

    return resources.on.run(run())


SHOP = """
    @lifespan
    async def resources():
        log.append("open")
        yield {"pool": 7, "name": "db"}
        log.append("close")

    @handler("email")
    async def send(job: Job, pool, name="none", other="default"):
        return pool, name, other

    @handler("sms")
    def text(job: Job, *, pool):
        return pool

    @handler("alone")
    def alone(job: Job):
        return None
"""


def test_handlers_get_by_name_what_is_yielded(module, resources):
    shop = module(SHOP)
    assert call(resources, shop.send) == (7, "db", "default")
    assert call(resources, shop.text) == 7
    assert shop.log == ["open"], "entered once for all handlers"
    ended(resources)
    assert shop.log == ["open", "close"]


def test_all_kinds_are_entered_in_order_and_left_in_the_other(module, resources):
    shop = module("""
        @shutdown
        def end(settings):
            log.append(f"end {settings}")

        @startup
        def settings():
            log.append("settings")
            return "s"

        @lifespan
        @contextmanager
        def plain(settings):
            yield f"plain {settings}"
            log.append("plain left")

        @lifespan
        @asynccontextmanager
        async def pool(plain):
            try:
                yield f"pool of {plain}"
            finally:
                log.append("pool left")

        @startup
        async def warm(pool):
            log.append(f"warm {pool}")

        @shutdown
        async def flush(pool, settings):
            log.append("flush")

        @handler("email")
        async def send(job, pool, plain, settings):
            return [pool, plain, settings]
    """)
    assert call(resources, shop.send) == ["pool of plain s", "plain s", "s"]
    assert shop.log == ["settings", "warm pool of plain s"]
    ended(resources)
    assert shop.log[2:] == ["flush", "pool left", "end s", "plain left"]


def test_async_ones_are_entered_anew_on_another_loop(module, resources):
    shop = module("""
        import asyncio

        @lifespan
        async def pool():
            yield asyncio.get_running_loop()

        @lifespan
        def once():
            log.append("once")
            yield "once"

        @handler("email")
        async def send(job, pool, once):
            return pool is asyncio.get_running_loop()
    """)
    assert call(resources, shop.send)
    with Loop() as second:
        resources.use(second.loop)
        resources.on = second
        assert call(resources, shop.send)
        assert shop.log == ["once"], "plain ones belong to no loop"
        for one in resources.end():
            one.result(5)


def test_one_that_fails_is_tried_again_at_the_next_need(module, resources):
    shop = module("""
        @lifespan
        async def pool():
            log.append("try")
            if len(log) == 1:
                raise ConnectionRefusedError("no database")
            yield 7

        @handler("email")
        async def send(job, pool):
            return pool
    """)
    with pytest.raises(ConnectionRefusedError, match="no database"):
        call(resources, shop.send)
    assert call(resources, shop.send) == 7


def test_an_error_at_the_end_is_logged(module, resources, caplog):
    shop = module("""
        @startup
        def pool():
            return 7

        @shutdown
        def close(pool):
            raise OSError("still in use")

        @handler("email")
        def send(job, pool):
            return pool
    """)
    assert call(resources, shop.send) == 7
    ended(resources)
    assert "a lifespan failed at its end" in caplog.text
    assert "still in use" in caplog.text


def test_those_of_a_module_that_is_imported_are_shared(module, resources):
    common = module(
        """
        @lifespan
        def pool():
            log.append("open")
            yield 7
    """,
        "common",
    )
    orders = module("""
        @handler("order")
        def order(job, pool):
            return pool
    """, "orders", pool=common.pool)  # fmt: skip
    mails = module("""
        @handler("mail")
        def mail(job, pool):
            return pool
    """, "mails", pool=common.pool)  # fmt: skip
    assert (call(resources, orders.order), call(resources, mails.mail), common.log) == (7, 7, ["open"])


def test_a_parameter_that_nobody_gives_is_a_mistake_at_once_without_lifespans():
    with pytest.raises(HandlerMistake, match=r"write def send\(job\), or let a @lifespan or @startup above it give the others"):

        @handler("email")
        def send(job: Job, pool):
            pass


def test_a_parameter_that_they_do_not_give_is_a_mistake(module):
    shop = module(SHOP)
    with pytest.raises(HandlerMistake, match=r"the handler of 'sms' takes 'pool', which no @lifespan .* they give client; yield"):
        bind(spec_of(shop.text), {"client": 1})


def test_a_lifespan_that_takes_what_nobody_gives_is_a_mistake(module, resources):
    shop = module("""
        @lifespan
        def pool(settings):
            yield 7

        @handler("email")
        def send(job, pool):
            return pool
    """)
    with pytest.raises(HandlerMistake, match=r"@lifespan shop\.pool takes 'settings', which nothing above it in its module gives"):
        call(resources, shop.send)


@pytest.mark.parametrize(("given", "shown"), [({1: 2}, "1"), ({"a b": 2}, "'a b'")])
def test_names_that_are_none_are_a_mistake(module, resources, given, shown):
    shop = module("""
        @startup
        def pool():
            return given

        @handler("email")
        def send(job, pool):
            return pool
    """, given=given)  # fmt: skip
    with pytest.raises(HandlerMistake, match=f"gives {shown}, which cannot be the name of a parameter"):
        call(resources, shop.send)


def plain():
    return 1


def yields():
    yield 1


@pytest.mark.parametrize(
    ("mark", "function", "words"),
    [
        (lifespan, plain, "needs a function that yields once, not plain; for one that returns, write @startup"),
        (lifespan, 5, "not a int"),
        (startup, yields, "not one that yields; for that write @lifespan"),
        (shutdown, yields, "not one that yields"),
        (startup, Job, "needs a function, not Job"),
        (shutdown, None, "needs a function"),
    ],
)
def test_what_cannot_be_one_is_a_mistake(mark, function, words):
    with pytest.raises(HandlerMistake, match=words):
        mark(function)


async def test_a_marked_function_can_be_called_as_before():
    assert startup(plain)() == 1
    with lifespan(contextmanager(yields))() as value:
        assert value == 1

    async def pool():
        yield 2

    async with lifespan(pool)() as value:
        assert value == 2
    async with lifespan(asynccontextmanager(pool))() as value:
        assert value == 2

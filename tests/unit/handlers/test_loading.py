"""Modules of handlers: the user's own come first, and what is wrong in them is said in one sentence with file and line."""

import subprocess
import sys
from pathlib import Path

import pytest

import worker
from sickbay.domain.errors import SettingsError
from sickbay.handlers.loading import load_handlers

HANDLER = "@handler('mine')\ndef run(job): ...\n"
TWICE = "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def g(job):\n        f(job)\n    return g\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", sys.modules)
    before = dict(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def write(folder, name, text=HANDLER, head="from sickbay import handler\n"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + text)


def sentence(modules):
    with pytest.raises(SettingsError) as caught:
        load_handlers(modules)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("JOB_HANDLERS")
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "worker",
        "gen",
        "jobapi",
        "controlplane",
        "sickbay_cli",
        "client",
        "handlers",
        "email",
        "queue",
        "json",
        "types",
        "redis",
        "sys",
        "tests",
    ],
)
def test_a_module_in_the_current_folder_is_the_users(folder, name):
    """Whoever else has that name keeps it for everybody else."""
    other = sys.modules.get(name)
    write(folder, f"{name}.py")
    found = load_handlers(name)
    assert Path(found["mine"].function.__code__.co_filename) == folder / f"{name}.py"
    assert other is None or sys.modules[name] is other
    assert sys.modules["worker"] is worker


@pytest.mark.parametrize("top", ["worker", "jobs", "gen", "email", "redis"])
@pytest.mark.parametrize("has_init", [True, False])
def test_a_package_in_the_current_folder_is_the_users(folder, top, has_init):
    """With relative imports, also later ones."""
    if has_init:
        write(folder, f"{top}/__init__.py", "")
    write(folder, f"{top}/sub/util.py", "NAME = 'mine'\n")
    write(folder, f"{top}/sub/late.py", "LATE = 1\n")
    write(
        folder,
        f"{top}/handlers.py",
        "from .sub.util import NAME\n@handler(NAME)\ndef run(job):\n    from .sub import late\n    return late.LATE\n",
    )
    other = sys.modules.get(top)
    assert load_handlers(f"{top}.handlers")["mine"].function(None) == 1
    assert other is None or sys.modules[top] is other


@pytest.mark.parametrize("top", ["worker", "jobs", "redis"])
def test_a_package_finds_its_own_modules_by_their_full_names(folder, top):
    """While it is imported, although the name belongs to somebody else."""
    others = {name for name in sys.modules if name.partition(".")[0] == top}
    write(folder, f"{top}/__init__.py", f"from {top}.util import NAME\n")
    write(folder, f"{top}/util.py", "NAME = 'mine'\n")
    write(folder, f"{top}/handlers.py", f"import {top}\nfrom {top} import util\n@handler({top}.NAME)\ndef run(job):\n    return util\n")
    util = load_handlers(f"{top}.handlers")["mine"].function(None)
    assert Path(util.__file__) == folder / top / "util.py"
    assert top == "jobs" or {name for name in sys.modules if name.partition(".")[0] == top} == others


def test_a_file_that_is_named_as_a_library_can_import_that_library(folder):
    """A user's `email.py` sends mail."""
    write(folder, "email.py", "from email.message import EmailMessage\nimport smtplib\n" + HANDLER)
    write(folder, "redis.py", "import redis\nassert redis.Redis\n@handler('other')\ndef run(job): ...\n")
    assert load_handlers("email,redis").keys() == {"mine", "other"}


def test_modules_beside_it_can_be_imported(folder):
    """The current folder is importable, behind everything installed."""
    write(folder, "worker.py", "import helpers_of_mine\n@handler(helpers_of_mine.NAME)\ndef run(job): ...\n")
    write(folder, "helpers_of_mine.py", "NAME = 'mine'\n")
    assert "mine" in load_handlers("worker")


def test_what_is_ours_stays_ours(folder):
    """The demo's module by its name, and `sickbay` itself."""
    write(folder, "worker/__init__.py")
    write(folder, "worker/demo.py")
    assert load_handlers("worker.demo", ours={"worker.demo"}).keys() == {"email", "sms", "webhook"}
    write(folder, "sickbay.py")
    assert "cannot be called 'sickbay'" in sentence("sickbay")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1/0\n", "mine_x.py:2: module 'mine_x' failed while it was imported: ZeroDivisionError: division by zero"),
        ("def f(:\n", "mine_x.py:2: module 'mine_x' failed while it was imported: SyntaxError"),
        ("raise SystemExit(3)\n", "mine_x.py:2: module 'mine_x' failed while it was imported: SystemExit: 3"),
        ("\nimport not_there_at_all\n", "mine_x.py:3: module 'mine_x' needs 'not_there_at_all', which is not installed"),
        ("from email import nothing\n", "mine_x.py:2: module 'mine_x' failed while it was imported: ImportError"),
        ("import mine_y\n", "mine_y.py:3: module 'mine_x' failed while it was imported: ValueError: two lines"),
        ("@handler('a', timeout=0)\ndef f(job): ...\n", "mine_x.py:2: timeout must be more than 0"),
        ("\n@handler('a')\ndef f(): ...\n", "mine_x.py:3: the handler of 'a' is called with the job"),
        ("@handler\ndef f(job): ...\n", "mine_x.py:2: @handler needs the job type"),
        ("class A:\n    @handler('a')\n    def f(self, job): ...\n", "mine_x.py:3: the handler of 'a' is a method"),
        ("@handler('a', retrys=1)\ndef f(job): ...\n", "mine_x.py:2: module 'mine_x' failed while it was imported: TypeError"),
        ("@handler('a', retry=1)\ndef f(job): ...\n", "mine_x.py:2: retry must be a dictionary"),
        (
            "@handler('a')\ndef f(job): ...\n@handler('b')\ndef f(job): ...\n",
            "mine_x.py:2: the handler of 'a' is hidden, since 'f' means something else (line 4)",
        ),
        ("@handler('a')\ndef f(job): ...\ndef f(job): ...\n", "mine_x.py:2: the handler of 'a' is hidden"),
        (
            f"{TWICE}@twice\n@handler('a')\ndef f(job): ...\n",
            "put @handler(...) above all other decorators",
        ),
        (
            "@handler('a')\ndef f(job): ...\n@handler('a')\ndef g(job): ...\n",
            "two functions handle 'a', at mine_x.py:2 and at mine_x.py:4; keep one of them",
        ),
        ("x = 1\n", "module 'mine_x' has no function marked @handler"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(folder, text, says):
    """In one line."""
    write(folder, "mine_x.py", text)
    write(folder, "mine_y.py", "# a comment\nraise ValueError('two\\nlines')\n")
    assert says in sentence("mine_x")


@pytest.mark.parametrize("name", ["worker", "email"])
def test_what_is_wrong_in_a_module_beside_another_is_said_alike(folder, name):
    """It is the user's own file that is named."""
    write(folder, f"{name}.py", "\n1/0\n")
    assert f"{name}.py:3: module '{name}' failed while it was imported: ZeroDivisionError" in sentence(name)
    write(folder, "gen.py", "import not_there_at_all\n")
    assert "gen.py:2: module 'gen' needs 'not_there_at_all', which is not installed" in sentence("gen")


def test_two_modules_that_handle_one_type_are_named(folder):
    """Both files and lines."""
    write(folder, "mine_a.py")
    write(folder, "sub/mine_b.py", "\n" + HANDLER)
    assert "two functions handle 'mine', at mine_a.py:2 and at sub/mine_b.py:3" in sentence("mine_a,sub.mine_b")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my_handlers.py", "names modules, not files: write my_handlers instead of my_handlers.py"),
        ("./sub/mine_b.py", "names modules, not files: write sub.mine_b instead"),
        ("sub/mine_b", "write sub.mine_b instead"),
        ("my-handlers", "'my-handlers' cannot be the name of a module; call the file my_handlers.py"),
        ("not_there", "there is no module 'not_there' in the current folder or among the installed ones"),
        ("sub.not_there", "there is no module 'sub.not_there'"),
        ("worker.not_there", "there is no module 'worker.not_there'"),
        (".", "cannot be the name"),
        ("a..b", "cannot be the name"),
    ],
)
def test_a_name_that_names_no_module_is_refused(folder, name, says):
    """With the name that was meant."""
    (folder / "sub").mkdir()
    assert says in sentence(name)


def test_handlers_that_have_no_name_of_their_own_are_found(folder):
    """Lambdas, partials, instances, and functions that are made in a loop or imported from elsewhere."""
    write(
        folder,
        "mine_x.py",
        "import functools\nfrom mine_lib import made, shared\n"
        "class Runs:\n    __slots__ = ()\n    def __call__(self, job): ...\n"
        "def two(job, db): ...\n"
        "for name in ('a', 'b'):\n    handler(name)(lambda job: None)\n"
        "handler('c')(functools.partial(two, db=1))\nhandler('d')(Runs())\ne = made('e')\nmade('f')\n"
        "@handler('g')\n@handler('h')\ndef g(job): ...\n"
        "def plain(job): ...\n@handler('i')\n@functools.wraps(plain)\ndef wrapper(job): ...\n"
        f"{TWICE}handler('j')(twice(plain))\n@handler('k')\n@twice\ndef k(job): ...\n",
    )
    write(
        folder,
        "mine_lib.py",
        "def made(name):\n    @handler(name)\n    def run(job): ...\n    return run\n@handler('shared')\ndef shared(job): ...\n"
        "@handler('not imported')if False else lambda f: f\ndef other(job): ...\n",
    )
    assert load_handlers("mine_x").keys() == {*"abcdeghijk", "shared"}


@pytest.mark.parametrize("name", ["email", "queue", "gen", "logging", "sickbay_cli", "asyncio"])
def test_python_m_worker_is_ours_whatever_lies_in_the_current_folder(tmp_path, name):
    """Python puts that folder before everything; ours goes on with it behind."""
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')\n")
    env = {"PATH": "/usr/bin:/bin", "JOB_HANDLERS": name}
    run = subprocess.run([sys.executable, "-m", "worker"], check=False, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert f"{name}.py:1: module '{name}' failed while it was imported: RuntimeError: shadowed" in run.stderr
    assert run.returncode == 2 or "Traceback" not in run.stderr


@pytest.mark.parametrize("file", ["worker.py", "worker/__init__.py"])
def test_python_m_worker_runs_ours_with_the_users_own_worker(tmp_path, file):
    """Python starts the user's file, which starts ours, which loads the user's."""
    write(tmp_path, file, HANDLER + "raise RuntimeError(__name__)\n")
    env = {"PATH": "/usr/bin:/bin", "JOB_HANDLERS": "worker"}
    run = subprocess.run([sys.executable, "-m", "worker"], check=False, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert f"{file}:4: module 'worker' failed while it was imported: RuntimeError: handlers_here.worker" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_worker_of_the_users_that_hides_ours_everywhere_says_so(tmp_path):
    """It is on PYTHONPATH; it would end at once, having done nothing."""
    write(tmp_path, "worker.py")
    env = {"PATH": "/usr/bin:/bin", "JOB_HANDLERS": "worker", "PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-m", "worker"], check=False, cwd="/", env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "hides Sickbay's own; take its folder off PYTHONPATH, or rename it" in run.stderr

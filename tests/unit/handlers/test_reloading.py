"""Handlers are loaded anew with all modules of the user and no others, or everything is as before."""

import json
import os
import sys
from pathlib import Path

import pytest

import worker.demo
from sickbay.domain.errors import SettingsError
from sickbay.handlers.loading import HERE, load_handlers
from sickbay.handlers.reloading import Sources, reload_handlers

HANDLER = "from sickbay import handler\n@handler('mine')\ndef run(job): return {value}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def write(path, text):
    """With one time for all, as of edits within one second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1_000_000_000, 1_000_000_000))


def reload(modules, *changed, skip=()):
    """The handlers, loaded anew."""
    sources = Sources(modules.split(","), skip)
    return reload_handlers(sources, changed, lambda: load_handlers(modules))


def test_a_function_that_one_has_already_goes_on_as_it_was(folder):
    """Also in what it takes from its own module, and in a module that this imports; both are loaded anew."""
    write(folder / "rl_util.py", "WORD = 'old'\n")
    write(folder / "rl_mine.py", "import rl_util\n" + HANDLER.format(value="(rl_util.WORD, OWN)") + "OWN = 1\n")
    old = load_handlers("rl_mine")["mine"].function
    write(folder / "rl_util.py", "WORD = 'new'\n")
    write(folder / "rl_mine.py", "import rl_util\n" + HANDLER.format(value="(rl_util.WORD, OWN)") + "OWN = 2\n")
    new = reload("rl_mine", folder / "rl_util.py", folder / "rl_mine.py")["mine"].function
    assert (old(None), new(None)) == (("old", 1), ("new", 2))


def test_what_was_removed_is_gone(folder):
    write(folder / "rl_mine.py", HANDLER.format(value=1) + "GONE = 1\n@handler('other')\ndef other(job): ...\n")
    assert set(load_handlers("rl_mine")) == {"mine", "other"}
    write(folder / "rl_mine.py", HANDLER.format(value=1))
    assert set(reload("rl_mine", folder / "rl_mine.py")) == {"mine"}
    assert not hasattr(sys.modules["rl_mine"], "GONE")


def test_a_file_that_is_new_is_found(folder):
    write(folder / "rl_mine.py", HANDLER.format(value=1))
    load_handlers("rl_mine")
    write(folder / "rl_new.py", "VALUE = 2\n")
    write(folder / "rl_mine.py", "from rl_new import VALUE\n" + HANDLER.format(value="VALUE"))
    assert reload("rl_mine", folder / "rl_mine.py", folder / "rl_new.py")["mine"].function(None) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def run(:\n", "rl_util.py:1: module 'rl_mine' failed while it was imported: SyntaxError"),
        ("\nimport nothing_of_this_name\n", "rl_util.py:2: module 'rl_mine' needs 'nothing_of_this_name', which is not installed"),
        ("1 / 0\n", "rl_util.py:1: module 'rl_mine' failed while it was imported: ZeroDivisionError"),
        ("raise SystemExit(3)\n", "rl_util.py:1: module 'rl_mine' failed while it was imported: SystemExit"),
    ],
)
def test_a_mistake_leaves_everything_as_before_until_it_is_mended(folder, text, words):
    """The mended file may have the size and the time of the wrong one."""
    write(folder / "rl_util.py", "VALUE = 1\n")
    write(folder / "rl_mine.py", "import rl_util\n" + HANDLER.format(value="rl_util.VALUE"))
    load_handlers("rl_mine")
    before = sys.modules["rl_mine"], sys.modules["rl_util"]
    write(folder / "rl_util.py", text)
    with pytest.raises(SettingsError, match=r"^JOB_HANDLERS: ") as caught:
        reload("rl_mine", folder / "rl_util.py")
    assert words in str(caught.value)
    assert (sys.modules["rl_mine"], sys.modules["rl_util"]) == before
    mended = "VALUE = 2\n".ljust(len(text), "#")
    write(folder / "rl_util.py", mended)
    assert reload("rl_mine", folder / "rl_util.py")["mine"].function(None) == 2


def test_a_module_whose_name_is_taken(folder):
    """Of the standard library and of ours, beside which the user's is loaded."""
    for name in ("email", "worker"):
        write(folder / f"{name}.py", HANDLER.format(value=1).replace("mine", name))
    load_handlers("email,worker")
    ours, pythons = sys.modules["worker"], sys.modules["email"]
    write(folder / "email.py", HANDLER.format(value=2).replace("mine", "email"))
    found = reload("email,worker", folder / "email.py")
    assert [found[name].function(None) for name in ("email", "worker")] == [2, 1]
    assert (sys.modules["worker"], sys.modules["email"]) == (ours, pythons)
    assert f"{HERE}.email" in sys.modules


def test_packages_with_and_without_a_file_of_their_own(folder):
    write(folder / "rl_package" / "__init__.py", "")
    write(folder / "rl_package" / "util.py", "VALUE = 1\n")
    write(folder / "rl_space" / "deep.py", "VALUE = 1\n")
    write(
        folder / "rl_package" / "mine.py",
        "import rl_space.deep\nfrom . import util\n" + HANDLER.format(value="util.VALUE + rl_space.deep.VALUE"),
    )
    assert load_handlers("rl_package.mine")["mine"].function(None) == 2
    write(folder / "rl_package" / "util.py", "VALUE = 5\n")
    write(folder / "rl_space" / "deep.py", "VALUE = 6\n")
    changed = [folder / "rl_package" / "util.py", folder / "rl_space" / "deep.py"]
    assert reload("rl_package.mine", *changed)["mine"].function(None) == 11


def test_what_others_wrote_is_not_loaded_anew(folder, monkeypatch):
    for place in ("env/lib/site-packages", ".hidden", "data"):
        monkeypatch.syspath_prepend(folder / place)
    write(folder / "env/lib/site-packages" / "rl_library.py", "")
    write(folder / ".hidden" / "rl_hidden.py", "")
    write(folder / "data" / "rl_data.py", "")
    write(folder / "rl_own.py", "")
    write(folder / "rl_mine.py", "import rl_library, rl_hidden, rl_data, rl_own\n" + HANDLER.format(value=1))
    load_handlers("rl_mine")
    names = ("rl_library", "rl_hidden", "rl_data", "json", "worker.demo", "rl_own")
    before = [sys.modules[name] for name in names if name != "json"] + [json]
    reload("rl_mine", folder / "rl_mine.py", skip=[folder / "data"])
    after = [sys.modules[name] for name in names if name != "json"] + [json]
    assert [one is other for one, other in zip(before, after, strict=True)] == [True, True, True, True, False, True]


def test_in_the_folder_of_our_source_ours_stays(monkeypatch):
    monkeypatch.chdir(Path(worker.demo.__file__).parents[1])
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = Sources(["worker.demo"])
    assert not {name for name in found.modules() if name.partition(".")[0] in {"sickbay", "worker", "sickbay_cli"}}
    assert found.have(Path.cwd() / "my_handlers.py")
    assert not found.have(Path.cwd() / ".venv" / "lib" / "python3.11" / "site-packages" / "six.py")
    assert found.folders == [Path.cwd()]


def test_a_module_elsewhere_on_the_path_is_a_source_too(folder, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    monkeypatch.syspath_prepend(other)
    write(other / "rl_far" / "__init__.py", "")
    write(other / "rl_far" / "mine.py", HANDLER.format(value=1))
    write(other / "site-packages" / "rl_installed.py", HANDLER.format(value=1).replace("mine", "installed"))
    monkeypatch.syspath_prepend(other / "site-packages")
    load_handlers("rl_far.mine,rl_installed")
    sources = Sources(["rl_far.mine", "rl_installed"])
    assert sources.folders == [folder, other / "rl_far"]
    assert set(sources.modules()) == {"rl_far", "rl_far.mine"}
    write(other / "rl_far" / "mine.py", HANDLER.format(value=2))
    assert reload("rl_far.mine,rl_installed", other / "rl_far" / "mine.py")["mine"].function(None) == 2


def test_files_that_were_written_since(folder):
    write(folder / "rl_util.py", "")
    write(folder / "rl_mine.py", "import rl_util\n" + HANDLER.format(value=1))
    load_handlers("rl_mine")
    sources = Sources(["rl_mine"])
    os.utime(folder / "rl_util.py", (1_000_000_005, 1_000_000_005))
    assert sources.changed_since(1_000_000_004.0) == {folder / "rl_util.py"}
    (folder / "rl_util.py").unlink()
    assert sources.changed_since(1_000_000_004.0) == set()


def test_a_file_that_is_a_link(folder, tmp_path_factory):
    """Where it leads is watched, too; it has its bytecode here."""
    other = tmp_path_factory.mktemp("other")
    write(other / "shared.py", HANDLER.format(value=1))
    (folder / "rl_mine.py").symlink_to(other / "shared.py")
    load_handlers("rl_mine")
    sources = Sources(["rl_mine"])
    assert sources.folders == [folder, other]
    write(other / "shared.py", HANDLER.format(value=2))
    assert reload("rl_mine", other / "shared.py")["mine"].function(None) == 2

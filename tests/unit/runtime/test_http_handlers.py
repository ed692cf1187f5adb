"""Handlers of the settings file: made at the start and at each change, and kept, with their connections, if nothing about them changes."""

import os
import subprocess
import sys

import pytest

from sickbay.domain.outcome import OutcomeKind
from sickbay.handlers.registry import HandlerSpec
from sickbay.runtime.http_handlers import HttpHandlers, has_http_handlers
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.runtime.settings_file import SettingsFileError
from tests.support.webhook_receiver import SECRET
from worker.handlers import Handlers, Source

TWO = """
[types.invoice]
handler = { url = "https://billing.internal/jobs/invoice", kinds = { HTTP_401 = "systemic" } }
[types.receipt]
handler = "http://127.0.0.1:8000/"
"""
SIGNED = '[types.invoice.handler]\nurl = "http://127.0.0.1/"\nsecret = { env = "BILLING_SECRET" }\n'


@pytest.fixture
def file(tmp_path):
    """A settings file."""
    path = tmp_path / "sickbay.toml"
    path.write_text(TWO)
    return path


def policies_of(file):
    """Those of a process with this file."""
    return Policies(Settings(sickbay_config=str(file)))


def change(policies, file, text):
    """Write it; returns whether it is in force."""
    before = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(before + 1, before + 1))
    return policies.poll()


def test_each_endpoint_of_the_file_is_a_handler(file):
    """Async, so that it runs on the handlers' loop."""
    invoice, receipt = HttpHandlers(policies_of(file), lambda: 0).specs
    assert (invoice.job_type, invoice.is_async, dict(invoice.kinds)) == ("invoice", True, {"HTTP_401": OutcomeKind.SYSTEMIC})
    assert (receipt.job_type, receipt.place) == ("receipt", "types.receipt.handler of the settings file")


def test_a_change_replaces_what_it_changes_and_nothing_else(file):
    """The same object has the same connections; the table of the worker has the new one before anything is logged of types without."""
    policies = policies_of(file)
    http, live = HttpHandlers(policies, lambda: 0), Handlers({})
    live.replace(Source.SETTINGS_FILE, http.specs)
    http.on_change(lambda specs: live.replace(Source.SETTINGS_FILE, specs))
    invoice, receipt = live["invoice"], live["receipt"]
    assert change(policies, file, TWO.replace("8000", "8001") + '[types.other]\nhandler = "http://[::1]/"\n')
    assert set(live) == {"invoice", "receipt", "other"}
    assert live["invoice"] is invoice
    assert live["receipt"].function is not receipt.function
    assert change(policies, file, "")
    assert set(live) == set()


def test_a_type_that_is_taken_out_of_the_file_goes_back_to_the_modules_handler(file):
    """Operators change the file at night, and put it back in the morning."""
    policies = policies_of(file)
    own = HandlerSpec("invoice", print)
    http, live = HttpHandlers(policies, lambda: 0), Handlers({"invoice": own})
    live.replace(Source.SETTINGS_FILE, http.specs)
    http.on_change(lambda specs: live.replace(Source.SETTINGS_FILE, specs))
    assert live["invoice"] is not own
    assert change(policies, file, "")
    assert live["invoice"] is own


def test_a_change_that_takes_a_secret_that_is_not_there_is_rejected_as_a_whole(file, caplog):
    """As any mistake: what was before stays in force, the log and the metric say so."""
    policies = policies_of(file)
    http, told = HttpHandlers(policies, lambda: 0), []
    http.on_change(told.append)
    before = http.specs
    assert not change(policies, file, SIGNED)
    assert "types.invoice.handler.secret: the variable BILLING_SECRET is not set" in caplog.text
    assert (http.specs, told, policies.status.valid) == (before, [], False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SIGNED, "types.invoice.handler.secret: the variable BILLING_SECRET is not set"),
        (
            '[types.a.handler]\nurl = "https://x/"\nca_file = "nowhere.pem"',
            "types.a.handler.ca_file: the certificates in nowhere.pem cannot be read",
        ),
        (
            '[types.a.handler]\nurl = "https://x/"\ncert_file = "nowhere.pem"',
            "types.a.handler.cert_file: the certificate, or its key, cannot",
        ),
    ],
)
def test_what_cannot_be_read_stops_the_start(file, text, words):
    file.write_text(text)
    with pytest.raises(SettingsFileError, match=words):
        HttpHandlers(policies_of(file), lambda: 0)


def test_others_need_none_of_the_secrets(file):
    """The Job API and the control plane read the same file."""
    file.write_text(SIGNED)
    assert policies_of(file).file.handlers.keys() == {"invoice"}


@pytest.mark.parametrize(("text", "found"), [(TWO, True), ("[types.a]", False)])
def test_whether_a_worker_needs_modules(file, text, found):
    file.write_text(text)
    assert has_http_handlers(Settings(sickbay_config=str(file))) is found
    assert has_http_handlers(Settings()) is False


def test_a_worker_without_one_loads_no_client(file):
    """The client is imported when there is the first handler behind HTTP."""
    program = (
        "import sys; import worker.app; from sickbay.runtime.policies import Policies; from sickbay.runtime.settings import Settings;"
        "from sickbay.runtime.http_handlers import HttpHandlers; loaded = lambda: {'httpx', 'httpcore'} & set(sys.modules);"
        "HttpHandlers(Policies(Settings()), None); print(loaded());"
        f"HttpHandlers(Policies(Settings(sickbay_config={str(file)!r})), None); print(loaded())"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["set()", "{'httpcore'}"]


@pytest.mark.parametrize(("written", "ms"), [("", 5_000), ('connect_timeout = "1.5s"', 1_500)])
def test_how_long_connecting_may_take(file, written, ms):
    """A duration, as everywhere in the file; 5 s if nothing is said."""
    file.write_text(f'[types.a.handler]\nurl = "http://x/"\n{written}')
    assert policies_of(file).file.handlers["a"].connect_timeout == ms


def test_the_secret_is_read(file, monkeypatch):
    monkeypatch.setenv("BILLING_SECRET", SECRET)
    file.write_text(SIGNED)
    assert len(HttpHandlers(policies_of(file), lambda: 0).specs) == 1

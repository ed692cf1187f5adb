"""How functions become handlers, and how modules of them are loaded."""

import sys

import pytest

from sickbay import Job, JobError, handler
from sickbay.domain.errors import SettingsError
from sickbay.domain.outcome import OutcomeKind
from sickbay.handlers.loading import load_handlers


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def write(folder, name, text):
    (folder / f"{name}.py").write_text(f"from sickbay import handler\n{text}")


def test_handlers_of_several_modules_in_the_current_folder_are_found(folder):
    write(folder, "mine_a", "@handler('email', timeout=3)\nasync def f(job): ...\n")
    write(folder, "mine_b", "@handler('sms')\n@handler('fax', concurrency=2)\ndef g(job): ...\n")
    found = load_handlers("mine_a, mine_b")
    assert set(found) == {"email", "sms", "fax"}
    assert (found["email"].is_async, found["email"].timeout) == (True, 3)
    assert (found["sms"].is_async, found["fax"].concurrency) == (False, 2)


def test_the_users_own_worker_folder_shadows_nothing(folder):
    (folder / "worker").mkdir()
    (folder / "worker" / "__init__.py").write_text("raise RuntimeError('shadowed')")
    write(folder, "mine_c", "@handler('email')\ndef f(job): ...\n")
    load_handlers("mine_c")
    assert load_handlers("worker.demo", ours={"worker.demo"}).keys() == {"email", "sms", "webhook"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no module 'mine_x'"),
        ("import not_there_at_all\n", "needs 'not_there_at_all', which is not installed"),
        ("1/0\n", "ZeroDivisionError"),
        ("x = 1\n", "no function marked"),
        ("@handler('a')\ndef f(job): ...\n@handler('a')\ndef g(job): ...\n", "two functions handle 'a'"),
    ],
)
def test_a_module_that_cannot_serve_stops_the_start_with_a_sentence(folder, text, says):
    if text is not None:
        write(folder, "mine_x", text)
    with pytest.raises(SettingsError, match="JOB_HANDLERS") as caught:
        load_handlers("mine_x")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"job_type": "Not A Name"},
        {"job_type": "a", "timeout": 0},
        {"job_type": "a", "timeout": 1_501},
        {"job_type": "a", "concurrency": 0},
        {"job_type": "a", "codes": {KeyError: "lower"}},
        {"job_type": "a", "retries": {"with blank": 1}},
        {"job_type": "a", "kinds": {"OK": "nonsense"}},
    ],
)
def test_values_that_cannot_be_meant_are_refused_where_they_stand(wrong):
    with pytest.raises(ValueError, match=r".{10}"):
        handler(wrong.pop("job_type"), **wrong)(lambda job: None)


@pytest.mark.parametrize("wrong", [("lower",), ("",), ("A" * 49,)])
def test_a_job_error_has_a_proper_code(wrong):
    with pytest.raises(ValueError, match="error code"):
        JobError(*wrong)


def test_a_job_error_knows_its_kind():
    assert JobError("API_TIMEOUT").kind is OutcomeKind.SYSTEMIC
    assert JobError("MY_OWN").kind is OutcomeKind.UNKNOWN
    assert JobError("MY_OWN", kind="data").kind is OutcomeKind.DATA
    for kind in ("success", "cancelled"):
        with pytest.raises(ValueError, match="cannot be of kind"):
            JobError("MY_OWN", kind=kind)
    with pytest.raises(ValueError, match="retry_after"):
        JobError("MY_OWN", retry_after=-1)


def test_the_payload_is_decoded_once_and_the_key_is_stable():
    job = Job("id", "email", b'{"a": 1}', generation=3)
    assert job.payload is job.payload
    assert job.idempotency_key == "id.3"
    with pytest.raises(ValueError, match="not a JSON object"):
        _ = Job("id", "email", b"[]").payload

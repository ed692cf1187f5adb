"""mypy sees options that cannot be meant, and nothing wrong with those that can."""

from pathlib import Path

from mypy import api

ROOT = Path(__file__).parents[3]
FINE = """
from dataclasses import dataclass
from functools import partial
from sickbay import Job, JobError, handler
from sickbay.client import Client

class Gone(Exception): ...

CODES = {Gone: "GONE"}

@handler("a", timeout=3, concurrency=2, codes=CODES, kinds={"GONE": "data"}, retries={"GONE": 0})
async def a(job: Job) -> None: ...

@handler("b", kinds={Gone: "systemic"}, retry={"max": 5, "delay": 2, "backoff": 1.5})
@handler("c", kinds={Gone: "systemic", "GONE": "data"}, codes={Gone: "GONE", KeyError: "KEY"})
def b(job: Job) -> int: return 1

@dataclass
class Email:
    to: str

@handler("d", validate="submit")
def d(payload: Email) -> None: ...

@handler("e")
async def e(job: Job[Email]) -> str: return job.payload.to

@handler("f")
def f(payload: Email, job: Job) -> str: return str(job.payload["to"]) + payload.to

Client().submit(Email("x"))
Client().submit("email", Email("x"), tenant="acme")
Client().submit("email", {"to": "x"})

raise JobError("GONE", ValueError("no"), kind="data")
"""
WRONG = """
from sickbay import Job, JobError, handler

from dataclasses import dataclass; from sickbay.client import Client
def two(job: Job, db: int) -> None: ...
def fine(job: Job) -> None: ...
@dataclass
class Email: to: str

handler("a", kinds={"X": "nonsense"})
handler("a", kinds={5: "data"})
handler("a", codes={KeyError: 5})
handler("a", timeout="30")
handler("a", retries=3)
handler("a", retrys=3)
handler("a", retry=3)
handler("a", retry={"maximum": 3})
handler("a")(two)
handler(fine)
JobError("X", kind="success")
handler("a", validate="always")
Client().submit("email", 5)
Client().submit(5)
async def e(job: Job[Email]) -> int: return job.payload.to
"""


def checked(folder, text):
    file = folder / "sample.py"
    file.write_text(text)
    told, trouble, _ = api.run(["--strict", "--config-file=", "--no-error-summary", "--follow-imports=silent", str(file)])
    assert trouble == ""
    return [line for line in told.splitlines() if "error:" in line]


def test_mypy_sees_what_cannot_be_meant(tmp_path, monkeypatch):
    """One error for each line, none for what is right."""
    monkeypatch.chdir(ROOT)
    assert checked(tmp_path, FINE) == []
    lines = [int(line.split(":")[1]) for line in checked(tmp_path, WRONG)]
    assert sorted(set(lines)) == list(range(10, 25))

"""The contract's rules notice what would break clients; its generated code is packaged under the names that everybody's protoc gives."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).with_name("buf")
NAMES = """
import sys
from sickbay.jobs.v1 import job_pb2, job_service_pb2_grpc, quarantine_service_pb2_grpc
from sickbay.breakers.v1 import breaker_service_pb2_grpc
import sickbay, gen
print(job_pb2.DESCRIPTOR.name, job_pb2.__file__.startswith(sys.path[0]), gen.mine)
"""


def breaking(folder: Path, name: str, pattern: str, instead: str) -> str:
    """What is said of the contract when the text that matches is replaced."""
    shutil.copytree(ROOT / "proto", folder / "proto")
    shutil.copy(ROOT / "buf.yaml", folder)
    file = folder / "proto" / name
    text, count = re.subn(pattern, instead, file.read_text("utf-8"), count=1, flags=re.DOTALL | re.MULTILINE)
    assert count == 1
    file.write_text(text, "utf-8")
    words = [BUF, "breaking", folder, "--against", ROOT]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout


@pytest.mark.parametrize(
    ("name", "pattern", "instead", "says"),
    [
        ("jobs/v1/quarantine_service.proto", r"^service .*?^}", "", 'Previously present service "QuarantineService" was deleted'),
        ("jobs/v1/job_service.proto", r"  rpc CancelJob.*?^  }", "", 'RPC "CancelJob" on service "JobService" was deleted'),
        ("breakers/v1/breaker_service.proto", "rpc ResetBreaker", "rpc CloseBreaker", 'RPC "ResetBreaker" on service'),
        ("jobs/v1/job.proto", r"  string job_type = 2;", "  string kind = 2;", "changed"),
        ("jobs/v1/job.proto", "unchanged|Jobs: ", "Jobs: ", ""),
    ],
)
def test_what_clients_rely_on_is_not_deleted_unnoticed(name: str, pattern: str, instead: str, says: str, tmp_path: Path):
    said = breaking(tmp_path, f"sickbay/{name}", pattern, instead)
    assert (says in said) if says else (said == "")


@pytest.mark.parametrize("name", ["annotations", "http"])
def test_the_copies_of_googles_contract_are_those_that_run(name: str):
    """They are there for who reads `proto/` without our packages; the code comes from googleapis-common-protos."""
    installed = Path(importlib.import_module(f"google.api.{name}_pb2").__file__ or "").with_name(f"{name}.proto")
    assert (ROOT / f"proto/google/api/{name}.proto").read_bytes() == installed.read_bytes()


def test_the_wheel_has_the_generated_code_and_no_top_level_gen(tmp_path: Path):
    """A `gen` of the user's own and stubs that another project made of our contract are in nobody's way."""
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path, ROOT]
    subprocess.run(words, check=True, capture_output=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "installed")
    assert {path.name for path in (tmp_path / "installed").iterdir() if not path.name.endswith("dist-info")} == {
        "sickbay",
        "jobapi",
        "worker",
        "controlplane",
        "sickbay_cli",
    }
    for package in ("jobs", "breakers"):
        assert (tmp_path / "installed/sickbay" / package / "v1/descriptors.binpb").is_file(), "REST's documentation has no comments"
    users = tmp_path / "users"
    (users / "sickbay/jobs/v1").mkdir(parents=True)
    (users / "sickbay/jobs/v1/job_pb2.py").write_text("raise ImportError('the stubs of another project')\n", "utf-8")
    (users / "gen.py").write_text("mine = 7\n", "utf-8")
    code = f"import sys; sys.path[:0] = [{str(tmp_path / 'installed')!r}, {str(users)!r}]\n{NAMES}"
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ran.stdout.split() == ["sickbay/jobs/v1/job.proto", "True", "7"], ran.stderr

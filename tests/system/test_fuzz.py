"""The REST doors against requests made up from their own OpenAPI documents: nothing breaks, and every answer is as documented."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)


@pytest.mark.long
@pytest.mark.parametrize("service", ["Job API", "Control plane"])
def test_made_up_requests_are_answered_as_documented(start, service, tmp_path):
    # No circuit opens: a job with onOpen REJECT would be answered with 503, as documented.
    port = start(tmp_path, {"FAILURE_THRESHOLD": "1000"}).ready().ports[service][0]
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        f"http://localhost:{port}/openapi.json",
        "--checks",
        ",".join(CHECKS),
    ]
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1", "--exclude-path-regex", "events$"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-5_000:]
    assert "Tested" in done.stdout

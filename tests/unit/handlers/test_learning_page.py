"""The example of docs/handlers.md that uses everything runs, and so does its test; its table has every option."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

from sickbay import handler

PAGE = (Path(__file__).parents[3] / "docs" / "handlers.md").read_text("utf-8")


def test_the_example_and_its_test_run_as_they_are(tmp_path):
    files = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    for name in ("shop.py", "test_shop.py"):
        (tmp_path / name).write_text(files[name], "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


def test_the_table_has_every_option():
    table = PAGE.partition("### Options\n")[2].partition("\n## ")[0]
    options = [name for name, one in inspect.signature(handler).parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == options

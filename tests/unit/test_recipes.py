"""The code in docs/recipes.md is that of the examples, which `tests/system/test_recipes.py` runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "recipes.md"


def test_each_block_is_in_an_example():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    files = [path.read_text("utf-8") for path in (ROOT / "examples").glob("*/**/*.py")]
    assert len(blocks) > 15
    assert [block for block in blocks if not any(block in file for file in files)] == []

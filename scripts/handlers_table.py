"""Write the table of known exceptions into docs/handlers.md, from the rules of `sickbay.handlers.known`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Final

from sickbay.handlers.known import RULES
from sickbay.handlers.known.rule import Rule

DOCS: Final = Path(__file__).parent.parent / "docs" / "handlers.md"
BEGIN: Final = "<!-- begin of the table: python -m scripts.handlers_table writes it -->\n"
END: Final = "<!-- end of the table -->\n"
NICER: Final = {"builtins": "Python", "_csv": "csv", "_lzma": "lzma", "_pickle": "pickle", "cimpl": "confluent_kafka"}


def table() -> str:
    """One row for each library."""
    rows = ["| library | its exceptions mean |\n|---|---|\n"]
    for library, rules in groupby(sorted(RULES, key=_library), key=_library):
        rows.append(f"| {library} | {'<br>'.join(_line(rule) for rule in rules)} |\n")
    return "".join(rows)


def rendered(text: str) -> str:
    """The page with the table of now."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{table()}{END}{tail}"


def _library(rule: Rule) -> str:
    return NICER.get(rule.library, rule.library)


def _line(rule: Rule) -> str:
    names = ", ".join(f"`{name}`" for name in rule.names)
    if rule.known is None:
        return f"{names}: {rule.meaning}"
    code = f"`{rule.known.code}`" if rule.known.code else "its name"
    return f"{names}: {code}, {rule.known.kind.value}"


if __name__ == "__main__":
    DOCS.write_text(rendered(DOCS.read_text()))

"""Links and anchors lead somewhere, README is short, the index has every page, and a table of the breaker says what the code does."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from sickbay.breaker.trip_rule import MORE_NEEDED, SHARE_STEP, needed

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")
PAGES = [*(ROOT / name for name in OUTSIDE), *sorted((ROOT / "docs").glob("*.md"))]
MAX_WORDS = 900


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^(?P<fence>```+).*?^(?P=fence)$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """As GitHub makes it: text of links and code only, lower case, no punctuation, hyphens for spaces."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """All anchors of a page; a heading that comes again gets -1, -2, ..."""
    found: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#{1,6} +(.+?)[ #]*$", prose(text), re.MULTILINE):
        name = anchor(heading)
        result.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return result


def links(text: str) -> Iterator[str]:
    """The targets of a page's links, those to other sites left out."""
    without_code = re.sub(r"`[^`\n]*`", "", prose(text))
    for target in re.findall(r"\[[^]]*\]\(([^)\s]+)\)", without_code):
        if not re.match(r"[a-z]+:", target):
            yield target


def broken(page: Path, text: str) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for link in links(text):
        path, _, fragment = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        there = target.exists() and target.is_relative_to(ROOT)
        if there and fragment:
            there = target.suffix == ".md" and fragment in anchors(text if target == page else target.read_text("utf-8"))
        if not there:
            yield link


def unlisted(index: str) -> set[str]:
    """The pages of docs/ that an index does not link to."""
    return {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} - set(links(index))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    assert list(broken(page, page.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "link",
    [
        "docs/nothing.md",
        "docs/monitoring.md#nothing",
        "#nothing",
        "docs/README.md#Documentation",
        "../elsewhere.md",
        "Makefile#help",
    ],
)
def test_a_link_that_leads_nowhere_is_noticed(link):
    assert list(broken(ROOT / "README.md", f"# A page\n\nSee [this](#a-page) and [that]({link}).\n")) == [link]


def test_anchors_are_those_of_github():
    text = "# Its `name`, [and](x.md) more: a_b\n\n## Twice\n## Twice\n\n```bash\n# no heading\n```\n"
    assert anchors(text) == {"its-name-and-more-a_b", "twice", "twice-1"}


def test_links_in_code_are_none():
    assert list(links("[a](b.md) `[c](d.md)` [e](https://f) [`g`](h.md#i)\n\n```\n[j](k.md)\n```\n")) == ["b.md", "h.md#i"]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= MAX_WORDS


def test_the_index_has_every_page():
    assert unlisted((ROOT / "docs/README.md").read_text("utf-8")) == set()


def test_a_page_that_is_missing_in_the_index_is_noticed():
    assert "limits.md" in unlisted("[all](handlers.md)")


def test_the_breakers_page_says_how_many_failures_in_a_row_are_needed():
    rows = re.findall(r"^\| (?:from|below) (\d+) %.*? \| ([\d.]+) \| (\d+)", (ROOT / "docs/breaker.md").read_text("utf-8"), re.MULTILINE)
    first, *others = [(int(share), float(times), int(row)) for share, times, row in rows]
    assert first == (SHARE_STEP // 10, 1, needed(5, 0))
    steps = range(SHARE_STEP, (len(MORE_NEEDED) + 1) * SHARE_STEP, SHARE_STEP)
    assert others == [(step // 10, ([*MORE_NEEDED, 10][step // SHARE_STEP]) / 10, needed(5, step)) for step in steps]

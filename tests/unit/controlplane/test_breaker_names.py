"""Pages of breakers by name."""

from controlplane.breaker_names import BreakerNames
from sickbay.domain.breaker import BreakerKey

KEYS = [BreakerKey("a", "z"), BreakerKey("b"), BreakerKey("c"), BreakerKey("c", "a")]
IN_ORDER = [BreakerKey("c", "a"), BreakerKey("b"), BreakerKey("c"), BreakerKey("a", "z")]
"""By their names: a/c, b, c, z/a."""


def pages(names, keys, size, matches=None):
    found, cursor = [], ""
    while True:
        page, cursor = names.page(keys, cursor, size, matches)
        found.append(page)
        if not cursor:
            return found


def test_pages_are_in_order_of_names_and_the_last_has_no_cursor():
    names = BreakerNames()
    for size in (1, 2, 3, 4, 5):
        assert pages(names, KEYS, size) == [IN_ORDER[start : start + size] for start in range(0, 4, size)]
    assert pages(names, [], 5) == [[]]


def test_only_matching_ones_fill_a_page():
    assert pages(BreakerNames(), KEYS, 1, lambda key: key.tenant == "default") == [[BreakerKey("b")], [BreakerKey("c")]]


def test_a_page_continues_after_the_cursor_although_others_came_and_went():
    names = BreakerNames()
    _, cursor = names.page(KEYS, "", 2)
    changed = [BreakerKey("aa"), BreakerKey("bb"), *(key for key in KEYS if key.name != cursor)]
    assert names.page(changed, cursor, 2) == ([BreakerKey("bb"), BreakerKey("c")], "c")

"""The origins whose pages may call: exactly those, as browsers send them."""

import pytest

from sickbay.system.origins import cors_origins


def test_origins_are_written_as_browsers_send_them():
    text = " https://App.example.com, http://localhost:5173,https://a.example:443,http://[::1]:80, "
    assert cors_origins(text) == {"https://app.example.com", "http://localhost:5173", "https://a.example", "http://[::1]"}
    assert cors_origins("") == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "*",
            "null",
            "https://*.example.com",
            "app.example.com",
            "https://a.example/",
            "https://a.example/x",
            "ftp://a.example",
            "https://",
        ),
        *("https://a.example:x", "https://a.example:70000", "https://u@a.example", "https://a.example https://b.example", "file://"),
    ],
)
def test_anything_else_is_refused_at_the_start(text):
    with pytest.raises(ValueError, match="is not an origin"):
        cors_origins(text)

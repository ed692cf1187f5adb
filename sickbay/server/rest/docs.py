"""`GET /docs`: the page of Swagger UI, with all files served from here and no other scripts allowed.

`fastapi_offline` provides the files; the page itself is created here, because the policy needs the digest of its inline script.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any, Final

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

ASSETS: Final = "/static-offline-docs"
_FOLDER: Final = Path(fastapi_offline.__file__).parent / "static"
_INLINE: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_POLICY: Final = (
    "default-src 'none'; script-src 'self' {digests}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def add_docs(app: FastAPI) -> None:
    """Add the page and its files."""
    app.mount(ASSETS, _Assets(directory=_FOLDER))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        page = get_swagger_ui_html(
            openapi_url=str(app.openapi_url),
            title=f"{app.title} - Swagger UI",
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
            swagger_ui_parameters={"validatorUrl": None},  # or the page would send our specification to a validator on the web
        )
        page.headers["content-security-policy"] = policy(page)
        return page


def policy(page: HTMLResponse) -> str:
    """The content security policy of a page: it may load our own files, and run its inline scripts."""
    scripts = _INLINE.findall(bytes(page.body))
    digests = (f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts)
    return _POLICY.format(digests=" ".join(digests))


class _Assets(StaticFiles):
    """Files that browsers may cache but must revalidate."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response

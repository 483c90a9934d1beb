"""Headers that keep a browser from doing anything with an answer but show it."""

from __future__ import annotations

import base64
import hashlib

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def content_security_policy(stylesheet: str) -> str:
    """No script, no request, no frame, no form; of styles only this inline sheet, known by its digest."""
    digest = base64.b64encode(hashlib.sha256(stylesheet.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class StrictHeaders:
    """Wraps a whole application, its error answers included."""

    def __init__(self, app: ASGIApp, stylesheet: str) -> None:
        self._app = app
        self._headers = {
            "content-security-policy": content_security_policy(stylesheet),
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_strict)

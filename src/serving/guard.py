# SPDX-License-Identifier: Apache-2.0
"""Who may ask, checked before anything else; and what every answer carries.

A server on loopback can be reached by every page that this user's browser shows. Such a page must
neither learn what is in a picture, under a name of its own that leads here, nor make work.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OWN_SITE = ("same-origin", "none")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Wraps an application.

    Args:
        app: what answers.
        hosts: names that requests may call this server by; None: any.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        reason = self._reason_against(scope["method"], Headers(scope=scope))
        app = self._app if reason is None else JSONResponse({"detail": reason}, 403)
        await app(scope, receive, send_guarded)

    def _reason_against(self, method: str, headers: Headers) -> str | None:
        if self._hosts is not None and _host(headers.get("host", "")) not in self._hosts:
            return "this server has another name; see --host"
        is_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in _OWN_SITE and not is_link:
            return "pages of other sites are not answered"
        return None


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""

"""Who may talk to the server: whoever has the token, from the page itself, by the server's own name.

Other programs of this machine's users cannot guess the token. Pages of other sites cannot use the browser of
somebody who has it: their origin is another, and a name of theirs that is made to point here is not ours.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from starlette.responses import JSONResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # Only our own files; no inline script or style, no evaluated text, no other machine.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Admission:
    """What a request must show.

    Attributes:
        token: the secret.
        hosts: names of this server, with port, as the ``Host`` header gives them.
    """

    token: str
    hosts: frozenset[str]

    @property
    def cookie(self) -> str:
        """Name of the cookie: cookies do not tell ports apart, names do."""
        return "nisf-view-" + min(self.hosts).rpartition(":")[2]

    def known_host(self, headers: Mapping[str, str]) -> bool:
        return headers.get("host", "") in self.hosts

    def own_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from our page, or from no page at all."""
        origin = headers.get("origin")
        if origin is not None:
            return urlsplit(origin).scheme in ("http", "https") and urlsplit(origin).netloc in self.hosts
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin")

    def has_token(self, headers: Mapping[str, str]) -> bool:
        """Whether the cookie or the header ``X-Nisf-Token`` has the token."""
        given = headers.get("x-nisf-token", "")
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            cookie = None
        return self.is_token(given) or (cookie is not None and self.is_token(cookie.value))

    def is_token(self, given: str) -> bool:
        """Compared in a time that does not tell how much of it is right."""
        return hmac.compare_digest(given.encode(), self.token.encode())


class Guard:
    """Wraps the application: refuses strangers, trades the token in the address for a cookie."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app, self.admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = self._stopped(scope, headers)
        await (self.app if answer is None else answer)(scope, receive, send_guarded)

    def _stopped(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """What a request gets instead of the application, if anything."""
        admission = self.admission
        if not admission.known_host(headers):
            return refused(421, "This server does not go by that name.")
        if not admission.own_origin(headers):
            return refused(403, "Only the viewer's own page may ask.")
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and token:
            if not admission.is_token(token):
                return refused(403, "The token in the address is not this viewer's; copy the whole address.")
            # Out of the address bar, the history and the screenshots.
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(admission.cookie, admission.token, httponly=True, samesite="strict", path="/")
            return answer
        if not admission.has_token(headers):
            return refused(403, "Open the address that nisf view printed: it has the token.")
        return None


def refused(status: int, sentence: str) -> Response:
    """An error as one sentence."""
    return JSONResponse({"error": sentence}, status_code=status)
